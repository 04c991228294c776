// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// spool is where profiles are kept: in files that have no name, so that the
// kernel removes them when this program ends, however it does.
type spool struct {
	dir    string
	warned atomic.Bool
}

// file makes one. Where the directory cannot be written, or its file system
// has no such files, it is in memory; the error says why, and is for the log.
func (s *spool) file() (*os.File, error, error) {
	f, why := os.OpenFile(s.dir, unix.O_TMPFILE|os.O_RDWR|unix.O_EXCL, 0o600) // open(2): O_EXCL so that it never gets a name
	if why == nil {
		return f, nil, nil
	}
	f, err := inMemory()
	if err != nil {
		return nil, nil, errors.Join(why, err)
	}
	return f, why, nil
}

func inMemory() (*os.File, error) {
	fd, err := unix.MemfdCreate("srprof-profile", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "memfd:srprof-profile"), nil
}

// content is an encoded profile in a file.
type content struct {
	format  string
	session session.Session // as it was when the profile was taken
	number  uint64          // in the order of making
	file    *os.File
	size    int64
	digest  string
	refs    atomic.Int64 // who keeps and who reads it; the last one closes the file
}

func (c *content) release() {
	if c.refs.Add(-1) == 0 {
		c.file.Close() // it was read or written without error, and has no name: nothing is lost
	}
}

// body reads a content from some place on.
type body struct {
	*io.SectionReader
	content *content
	whole   func() // called when its end was reached
	closed  atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, os.ErrClosed
	}
	n, err := b.SectionReader.Read(p)
	if at, _ := b.Seek(0, io.SeekCurrent); at == b.Size() && (err == nil || err == io.EOF) {
		b.whole()
	}
	return n, err
}

func (b *body) Close() error {
	if b.closed.Swap(true) {
		return os.ErrClosed
	}
	b.content.release()
	return nil
}

// priority says what has to make room for a content.
type priority bool

const (
	mustKeep priority = true  // the oldest sessions, if need be
	mayKeep  priority = false // only what can be made again
)

// pprofFormat is the one in which results are kept.
func pprofFormat() encoding.Format {
	f, err := encoding.ByName(session.FormatPprof)
	if err != nil {
		panic(err) // it is a constant that is in the table
	}
	return f
}

// spoolWriter writes into a file within the budget of all contents.
type spoolWriter struct {
	s        *Sessions
	file     *os.File
	moved    bool // to memory, because the disk took no more
	hash     hash.Hash
	size     int64
	priority priority
}

func (w *spoolWriter) Write(b []byte) (int, error) {
	if err := w.s.reserve(int64(len(b)), w.priority); err != nil {
		return 0, err
	}
	before := w.size
	w.size += int64(len(b))
	w.hash.Write(b)
	n, err := w.file.Write(b)
	if err == nil || w.moved {
		return n, err
	}
	if why := w.move(before + int64(n)); why != nil {
		return n, errors.Join(err, why)
	}
	w.s.spool.warn(w.s.log(), err)
	more, err := w.file.Write(b[n:])
	return n + more, err
}

// move goes on in memory with what was written so far: a profile that was taken
// is not lost because somebody filled the disk.
func (w *spoolWriter) move(written int64) error {
	file, err := inMemory()
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, io.NewSectionReader(w.file, 0, written)); err != nil {
		file.Close()
		return err
	}
	w.file.Close() // what was in it is elsewhere
	w.file, w.moved = file, true
	return nil
}

// warn says once that profiles take up memory.
func (s *spool) warn(log *slog.Logger, why error) {
	if !s.warned.Swap(true) {
		log.Warn("profiles are kept in memory", "spool_dir", s.dir, "error", why)
	}
}

// encode writes a profile into a file of its own. The caller gets the content
// with one reference.
func (s *Sessions) encode(format encoding.Format, p *profile.Profile, priority priority) (*content, error) {
	file, why, err := s.spool.file()
	if err != nil {
		return nil, notKept(err)
	}
	if why != nil {
		s.spool.warn(s.log(), why)
	}
	w := &spoolWriter{s: s, file: file, moved: why != nil, hash: sha256.New(), priority: priority}
	b := bufio.NewWriterSize(w, 64<<10)
	if err = format.Write(b, p, encoding.Options{}); err == nil {
		err = b.Flush()
	}
	if err != nil {
		w.file.Close()
		s.giveBack(w.size)
		return nil, notKept(err)
	}
	c := &content{format: format.Name, file: w.file, size: w.size, digest: hex.EncodeToString(w.hash.Sum(nil))}
	c.refs.Store(1)
	return c, nil
}

func notKept(err error) error {
	var e *session.Error
	if errors.As(err, &e) {
		return e
	}
	e = &session.Error{Code: "profile_not_kept", Problem: "the profile could not be written", Cause: err, Remedy: "see to the directory that spool_dir names in the profiler's configuration"}
	if errors.Is(err, unix.ENOSPC) {
		e.Kind = session.ErrTooLarge
	}
	return e
}

// reserve takes so many bytes of the budget; what is older makes room. What is
// being read while it is thrown away counts no more, though it takes up its
// room until it was read: a slow reader does not keep others from theirs.
func (s *Sessions) reserve(n int64, priority priority) error {
	s.mu.Lock()
	defer s.unlock()
	for s.bytes+n > s.limits.MaxResultBytes {
		switch {
		case len(s.extra) > 0:
			s.discardExtra(s.extra[0])
		case priority == mustKeep && len(s.ended) > 0:
			s.note(slog.LevelInfo, "session forgotten for lack of room", "session", s.ended[0].now.ID, "request_id", s.ended[0].now.Spec.RequestID, "max_result_bytes", s.limits.MaxResultBytes)
			s.forget(s.ended[0])
		default:
			return &session.Error{Code: "result_limit", Kind: session.ErrTooLarge,
				Problem: fmt.Sprintf("the profile does not fit into the %d bytes that are for all of them (max_result_bytes in the profiler's configuration)", s.limits.MaxResultBytes),
				Remedy:  "fetch it as pprof, which is the smallest; or record for a shorter time"}
		}
	}
	s.bytes += n
	return nil
}

func (s *Sessions) giveBack(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= n
}

// discard lets go of a content. Who reads it can go on.
func (s *Sessions) discard(c *content) {
	if i := slices.Index(s.extra, c); i >= 0 {
		s.extra = slices.Delete(s.extra, i, i+1)
	}
	s.bytes -= c.size
	c.release()
}

// discardExtra does so with one that its session can do without.
func (s *Sessions) discardExtra(c *content) {
	if r := s.runs[c.session.ID]; r != nil {
		r.contents = slices.DeleteFunc(r.contents, func(o *content) bool { return o == c })
	}
	s.discard(c)
}
