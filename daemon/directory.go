// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Directory is where a service keeps what outlives it. It is one service's at a
// time.
type Directory struct {
	Path string
	lock *os.File
}

// lockName is a file that its owner holds locked, with his PID in it. The kernel
// lets go of it when he ends, however he does.
const lockName = "lock"

// OpenDirectory takes a directory, and makes it where there is none. The error
// says who has it, if it is somebody else's.
func OpenDirectory(path string) (*Directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, cannotUse(path, err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, cannotUse(path, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &session.Error{Code: "data_dir_in_use", Kind: ErrCannotServe, Problem: fmt.Sprintf("%s is in use by %s", path, owner(lock)),
				Remedy: "end that program, or give this one a data_dir of its own"}
		}
		return nil, cannotUse(path, err)
	}
	d := &Directory{Path: path, lock: lock}
	// A disk that is full keeps nobody from holding the lock; only who asks for
	// the owner is told less.
	if lock.Truncate(0) == nil {
		_, _ = lock.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
	return d, nil
}

// Close lets go of it.
func (d *Directory) Close() error { return d.lock.Close() }

// owner is who holds a lock, in words.
func owner(lock *os.File) string {
	text := make([]byte, 20)
	n, _ := lock.ReadAt(text, 0) // nothing is an answer, too
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil {
		return "another program"
	}
	if name, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
		return fmt.Sprintf("process %d (%s)", pid, filepath.Base(name))
	}
	return fmt.Sprintf("process %d", pid)
}

func cannotUse(path string, err error) error {
	e := &session.Error{Code: "bad_data_dir", Kind: ErrCannotServe, Problem: fmt.Sprintf("nothing can be kept in %s", path), Cause: err,
		Remedy: "name a directory that this program may write into, as data_dir"}
	var p *fs.PathError
	if errors.As(err, &p) {
		e.Cause = p.Err
	}
	if errors.Is(err, fs.ErrPermission) {
		e.Kind = fs.ErrPermission
	}
	return e
}
