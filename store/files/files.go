// SPDX-License-Identifier: Apache-2.0

// Package files keeps the profiles that a poller has collected, as files in a
// directory. What is there is whole and on the disk; what is on its way lies
// apart, may be broken off at any moment, also by a crash, and goes on from
// where it was.
//
//	whole/NAME@DIGEST   a profile; DIGEST is the SHA-256 of its content
//	partial/NAME        the front of one
//
// The digest is in the name so that one rename makes both known at once. What
// is partial is written straight through and not flushed: after a crash of the
// machine its end may be missing, or be anything. Nothing is believed of it;
// when all is there, all of it is read again, and only what has the right digest
// becomes whole. What has not is thrown away.
//
// Memory does not depend on how large profiles are: one buffer, for as long as
// one is checked. Of each file that is there, its name and size are in memory.
//
// One process at a time may have a directory; the store beside it sees to that.
// Names are made by programs (UUIDs, say): see [Files.Receive].
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/session"
)

// ErrDigest says that what was received is not what it should be.
var ErrDigest = errors.New("another digest")

// Limits bound what a directory takes up.
type Limits struct {
	// MaxBytes is for all files, also those that are not whole yet; 0: no limit.
	MaxBytes int64
}

// Info is what is known of a whole file.
type Info struct {
	Size   int64
	Digest string // SHA-256 of its content, in lower-case hexadecimal
}

// Files is an open directory. Its methods may be called from any goroutine.
type Files struct {
	dir    string
	limits Limits

	mu       sync.Mutex
	whole    map[string]Info
	partial  map[string]int64 // sizes
	receipts map[string]*Receipt
	used     int64
}

// Where the files are, below the directory.
const (
	wholeDir   = "whole"
	partialDir = "partial"
)

// Open opens a directory and makes it if it is not there. Files in it that are
// not ours are left alone.
func Open(dir string, limits Limits) (*Files, error) {
	f := &Files{dir: dir, limits: limits, whole: map[string]Info{}, partial: map[string]int64{}, receipts: map[string]*Receipt{}}
	for sub, add := range map[string]func(name string, size int64){wholeDir: f.addWhole, partialDir: f.addPartial} {
		sub = filepath.Join(dir, sub)
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return nil, f.failed("open", sub, err)
		}
		entries, err := os.ReadDir(sub)
		if err != nil {
			return nil, f.failed("open", sub, err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				return nil, f.failed("open", sub, err)
			}
			if info.Mode().IsRegular() {
				add(e.Name(), info.Size())
			}
		}
	}
	if err := syncDir(dir); err != nil {
		return nil, f.failed("open", dir, err)
	}
	return f, nil
}

var (
	names   = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$`)
	digests = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (f *Files) addWhole(file string, size int64) {
	name, digest, _ := strings.Cut(file, "@")
	if _, twice := f.whole[name]; twice || !names.MatchString(name) || !digests.MatchString(digest) {
		return
	}
	f.whole[name] = Info{size, digest}
	f.used += size
}

func (f *Files) addPartial(name string, size int64) {
	if names.MatchString(name) {
		f.partial[name] = size
		f.used += size
	}
}

func (f *Files) wholePath(name, digest string) string {
	return filepath.Join(f.dir, wholeDir, name+"@"+digest)
}

func (f *Files) partialPath(name string) string { return filepath.Join(f.dir, partialDir, name) }

// Info tells of a whole file. The error is fs.ErrNotExist if there is none.
func (f *Files) Info(name string) (Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, ok := f.whole[name]
	if !ok {
		return Info{}, fmt.Errorf("profile %q: %w", name, fs.ErrNotExist)
	}
	return info, nil
}

// Open opens a whole file. What is open can be read to its end, also when it is
// removed meanwhile. The error is fs.ErrNotExist if there is none.
func (f *Files) Open(name string) (io.ReadSeekCloser, Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, ok := f.whole[name]
	if !ok {
		return nil, Info{}, fmt.Errorf("profile %q: %w", name, fs.ErrNotExist)
	}
	file, err := os.Open(f.wholePath(name, info.Digest))
	if err != nil {
		return nil, Info{}, f.failed("read", name, err)
	}
	return file, info, nil
}

// Remove throws a file away, whole or not; who receives it has an error at the
// next step. It is no error if there is none.
func (f *Files) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.receipts[name]; r != nil {
		r.removed = true
		delete(f.receipts, name)
	}
	if info, ok := f.whole[name]; ok {
		if err := remove(f.wholePath(name, info.Digest)); err != nil {
			return f.failed("remove", name, err)
		}
		delete(f.whole, name)
		f.used -= info.Size
	}
	if size, ok := f.partial[name]; ok {
		if err := remove(f.partialPath(name)); err != nil {
			return f.failed("remove", name, err)
		}
		delete(f.partial, name)
		f.used -= size
	}
	return nil
}

// remove removes a file that may be gone.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Names are those of all files, also of those that are not whole, in order.
func (f *Files) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for name := range f.whole {
		all = append(all, name)
	}
	for name := range f.partial {
		all = append(all, name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Used is how many bytes all files have together.
func (f *Files) Used() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used
}

// syncDir makes what was made, renamed or removed in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// failed makes of an error of the file system one that says what to do.
func (f *Files) failed(verb, name string, err error) error {
	if known := (*session.Error)(nil); errors.As(err, &known) {
		return err
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &session.Error{Code: "disk_full", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("there is no room on the disk of %s", f.dir), Cause: err,
			Remedy: "make room, or name a data directory on another disk"}
	}
	return &session.Error{Code: "results_unavailable", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("%s %s: the profiles cannot be kept or read", verb, name), Cause: err,
		Remedy: fmt.Sprintf("see that this program may write to %s, and that its disk works", f.dir)}
}
