// SPDX-License-Identifier: Apache-2.0

// Package sqlite keeps sessions in one file of SQLite: a [store.Store] for one
// poller, without a server beside it. The library is SQLite itself, translated
// to Go (docs/decisions/sqlite.md).
//
// What is looked up has columns; the rest of a session, and of each of its runs,
// is JSON in one more. Each run has a row of its own, so that a change on one of
// 10,000 hosts writes some hundred bytes.
//
// Durability. The file is in WAL mode with full synchronization: a change is on
// the disk before its method returns. That takes a flush of the disk, and so
// changes are written by one goroutine that puts all that wait into one
// transaction: 1,000 sessions that change at once wait for few flushes, not for
// 1,000. Each change is a savepoint of its own in it: one that fails undoes
// nothing of the others. (Where a disk fails in the middle of a flush, nobody can
// say what is on it: the change has an error and is undone, but a crash right
// then may bring it back.) Readers have connections of their own, see the last
// committed state, and wait for no writer.
//
// A context that ends is looked at while a change waits for its turn; then it
// is carried out, and its error tells the truth: there was one, so nothing was
// written. SQLite's own interruption is not used: it may end the whole
// transaction, that of others too.
//
// One process at a time has the file, which a lock on another file beside it
// (.lock) sees to: two pollers on the same sessions would run them twice.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // registers the driver

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

var _ store.Store = (*Store)(nil)

// readers bounds how many read at the same time. Each has a cache of up to 2 MB.
const readers = 4

// Store is an open file. Its methods may be called from any goroutine.
type Store struct {
	path string
	lock *os.File

	read    *sql.DB
	reading chan struct{} // holds one for each who reads
	changes chan *change
	writer  *writer

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // that go on
}

// Open opens the file, and makes it where there is none. A file of an older
// version is brought up to date; one of a newer version is refused, and so is
// one that is damaged.
func Open(ctx context.Context, path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, failed(path, err)
	}
	lock, err := acquire(path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, lock: lock, reading: make(chan struct{}, readers), changes: make(chan *change)}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(failed(path, err), lock.Close())
	}
	go s.writer.serve(s.changes)
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := create(s.path); err != nil {
		return err
	}
	if err := prepare(ctx, s.path); err != nil {
		return err
	}
	var err error
	if s.writer, err = newWriter(s.path); err != nil {
		return err
	}
	if s.read, err = sql.Open("sqlite", source(s.path, "query_only(1)", "busy_timeout(10000)")); err != nil {
		return errors.Join(err, s.writer.close())
	}
	s.read.SetMaxOpenConns(readers)
	return nil
}

// source names a file and what each connection to it is told.
func source(path string, pragmas ...string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + url.Values{"_pragma": pragmas}.Encode()
}

// acquire takes the lock of a store. The kernel lets go of it when the process
// ends, whatever ends it.
func acquire(path string) (*os.File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, failed(path, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &session.Error{Code: "store_unavailable", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("the store %s is in use by another process", path),
				Remedy: "end that one, or use another data directory"}
		}
		return nil, failed(path, fmt.Errorf("lock %s: %w", lock.Name(), err))
	}
	return lock, nil
}

// create makes an empty file, which is an empty database, that only its owner
// may read, and that is still there after a crash of the machine.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// enter begins a call, which is to end with s.calls.Done.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &session.Error{Code: "store_unavailable", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("the store %s is closed", s.path), Remedy: "ask again when the program was started anew"}
	}
	s.calls.Add(1)
	return nil
}

// Close waits for the calls that go on, and closes the file. Later calls fail.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	s.calls.Wait()
	close(s.changes)
	<-s.writer.ended
	// The writer goes last: it tidies up the log when nobody reads any more.
	if err := errors.Join(s.read.Close(), s.writer.close(), s.lock.Close()); err != nil {
		return failed(s.path, err)
	}
	return nil
}
