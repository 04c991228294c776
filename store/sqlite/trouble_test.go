// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
	"github.com/carverauto/serviceradar-profiler/store/storetest"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, s) })
	return s
}

func closed(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// record is a small session.
func record(id string) *store.Record {
	rec := storetest.Filled(1)
	rec.Session.ID, rec.Session.Spec.RequestID, rec.Requests = session.ID(id), "request "+id, nil
	return rec
}

func keep(t *testing.T, s *Store, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := s.Create(t.Context(), record(id)); err != nil {
			t.Fatal(err)
		}
	}
}

// refused checks an error of Open: its code, and that it names the file.
func refused(t *testing.T, path, code string) {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err == nil {
		closed(t, s)
	}
	wantsCode(t, err, code)
	if err != nil && !strings.Contains(err.Error(), path) {
		t.Errorf("the error does not name the file: %v", err)
	}
}

func wantsCode(t *testing.T, err error, code string) {
	t.Helper()
	var e *session.Error
	if !errors.As(err, &e) || e.Code != code || !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("the error is not of code %s: %v", code, err)
	}
}

// query changes a file as another program could.
func query(t *testing.T, path, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", source(path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(text); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a place?with#odd%20characters.db")
	s := open(t, path)
	keep(t, s, "one")
	refused(t, path, "store_unavailable")
	closed(t, s)
	s = open(t, path)
	if _, err := s.Get(t.Context(), "one"); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// What was refused stays as it was.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		what, code string
		change     func(t *testing.T, path string)
	}{
		{"a newer version", "store_newer", func(t *testing.T, path string) {
			query(t, path, fmt.Sprintf("PRAGMA user_version = %d", len(migrations)+1))
		}},
		{"another program's", "store_unavailable", func(t *testing.T, path string) { query(t, path, "PRAGMA application_id = 42") }},
		{"no database", "store_damaged", func(t *testing.T, path string) { rewrite(t, path, func(b []byte) { copy(b, "something else") }) }},
		{"garbage in the middle", "store_damaged", func(t *testing.T, path string) {
			rewrite(t, path, func(b []byte) { copy(b[4096*2:], bytes.Repeat([]byte("garbage "), 1024)) })
		}},
		{"cut off", "store_damaged", func(t *testing.T, path string) {
			if err := os.Truncate(path, 4096*3); err != nil {
				t.Fatal(err)
			}
		}},
		{"a folder", "store_unavailable", func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sessions.db")
			s := open(t, path)
			keep(t, s, "one", "two", "three")
			closed(t, s)
			c.change(t, path)
			before, _ := os.ReadFile(path) // none of a folder
			refused(t, path, c.code)
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("what was refused was changed")
			}
		})
	}
	refused(t, filepath.Join(t.TempDir(), "no", "such", "folder.db"), "store_unavailable")
}

func rewrite(t *testing.T, path string, change func(b []byte)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change(b)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A row that is no JSON, which no check of the file finds.
func TestDamagedRow(t *testing.T) {
	for _, damage := range []string{"UPDATE sessions SET session = '{'", "UPDATE sessions SET asked = '[]'", "UPDATE runs SET run = 'x'"} {
		path := filepath.Join(t.TempDir(), "sessions.db")
		s := open(t, path)
		keep(t, s, "one")
		query(t, path, damage)
		_, err := s.Get(t.Context(), "one")
		wantsCode(t, err, "store_damaged")
		_, err = s.List(t.Context(), session.Filter{})
		wantsCode(t, err, "store_damaged")
	}
}

// smallDisk is a file system of 400 KiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal("only root may mount file systems")
		}
		t.Skip("only root may mount file systems")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=400k"); err != nil {
		t.Fatalf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes up all room of a disk but for so many bytes.
func fill(t *testing.T, dir string, left int) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for err == nil {
		var n int
		n, err = f.Write(make([]byte, 4096))
		size += int64(n)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(max(0, size-int64(left))), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
}

// On a full disk each change says so, what is there can be read, nothing that
// was confirmed is lost, and when there is room again all goes on.
func TestDiskFull(t *testing.T) {
	for _, left := range []int{0, 4096, 40_000} {
		t.Run(fmt.Sprint(left), func(t *testing.T) {
			dir := smallDisk(t)
			path := filepath.Join(dir, "sessions.db")
			s := open(t, path)
			keep(t, s, "before")
			fill(t, dir, left)
			kept, refused := createMany(t, s, "full")
			if refused == 0 {
				t.Error("all was kept on a full disk")
			}
			if _, err := s.Get(t.Context(), "before"); err != nil {
				t.Errorf("what was there cannot be read: %v", err)
			}
			empty(t, dir)
			keep(t, s, "after")
			kept = append(kept, "before", "after")
			for range 2 {
				records, err := s.List(t.Context(), session.Filter{})
				if err != nil || len(records) != len(kept) {
					t.Errorf("%d sessions were confirmed, and there are %d: %v", len(kept), len(records), err)
				}
				for _, id := range kept {
					if _, err := s.Get(t.Context(), session.ID(id)); err != nil {
						t.Error(err)
					}
				}
				closed(t, s)
				s = open(t, path)
			}
		})
	}
}

// createMany creates sessions, many at once, until the disk is full.
func createMany(t *testing.T, s *Store, prefix string) (kept []string, refused int) {
	t.Helper()
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for i := range 40 {
		wg.Go(func() {
			for n := range 3 {
				id := fmt.Sprint(prefix, i, "-", n)
				err := s.Create(t.Context(), record(id))
				mu.Lock()
				if err == nil {
					kept = append(kept, id)
				} else {
					refused++
					wantsCode(t, err, "disk_full")
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return kept, refused
}

func TestOpenOnFullDisk(t *testing.T) {
	dir := smallDisk(t)
	path := filepath.Join(dir, "sessions.db")
	fill(t, dir, 0)
	refused(t, path, "disk_full")
	empty(t, dir)
	s := open(t, path)
	keep(t, s, "one")
	closed(t, s)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	refused(t, path, "store_unavailable")
}

// hold keeps the writer busy until it is let go.
func hold(s *Store) (let func() error) {
	in, out, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.change(context.Background(), func(*writer) error { close(in); <-out; return nil })
	}()
	<-in
	return func() error { close(out); return <-done }
}

// Who reads waits for nobody who writes, and who does not wait any more in the
// queue of those who write is answered at once.
func TestWhileWriting(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "sessions.db"))
	keep(t, s, "one")
	let := hold(s)
	if _, err := s.Get(t.Context(), "one"); err != nil {
		t.Error(err)
	}
	if records, err := s.List(t.Context(), session.Filter{}); err != nil || len(records) != 1 {
		t.Errorf("%d sessions: %v", len(records), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() { waiting <- s.Create(ctx, record("two")) }()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if err := let(); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), "two"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was canceled is there: %v", err)
	}
}

// An error that ends the transaction is that of one change alone.
func TestOneEndsTheTransaction(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "sessions.db"))
	var batch []*change
	add := func(apply func(*writer) error) *change {
		c := &change{ctx: t.Context(), apply: apply, done: make(chan error, 1)}
		batch = append(batch, c)
		return c
	}
	good := func(id string) func(*writer) error {
		rec := record(id)
		e, err := encodeRecord(rec)
		if err != nil {
			t.Fatal(err)
		}
		return func(w *writer) error { return w.create(rec, e) }
	}
	odd := errors.New("odd")
	add(good("first"))
	bad := add(func(w *writer) error { return errors.Join(odd, run(w.rollback)) })
	add(good("last"))
	w := s.writer // which has nothing else to do
	w.carryOut(batch)
	for _, c := range batch {
		if err := <-c.done; (err != nil) != (c == bad) || c == bad && !errors.Is(err, odd) {
			t.Errorf("the error is %v", err)
		}
	}
	for _, id := range []session.ID{"first", "last"} {
		if _, err := s.Get(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// After Close nothing is open any more, and all is in the one file.
func TestCloseLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "sessions.db"))
	keep(t, s, "one")
	if _, err := s.List(t.Context(), session.Filter{}); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		// That with which the directory was read is gone already.
		if file, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(file, dir) {
			t.Errorf("%s is still open", file)
		}
	}
	for _, left := range []string{"-wal", "-shm"} {
		if _, err := os.Stat(filepath.Join(dir, "sessions.db"+left)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("sessions.db%s: %v", left, err)
		}
	}
}
