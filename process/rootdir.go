// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// RootDir is a directory that stands for "/": that of a process, which may see
// other files than we do, or of this program. It stays what it is when the
// process exits, its mount namespace included.
type RootDir struct {
	dir   int // O_PATH descriptor
	mount int // keeps the mount namespace in being, -1 where it is our own
	users atomic.Int32
}

// OpenRootDir opens a directory to be a root.
func OpenRootDir(dir string) (*RootDir, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	r := &RootDir{dir: fd, mount: -1}
	r.users.Store(1)
	return r, nil
}

// rootOf is the root of a process.
func rootOf(pid int) (*RootDir, error) {
	r, err := OpenRootDir(path(pid, "root"))
	if err != nil {
		return nil, err
	}
	// Where a namespace ends with its last process, its mounts fall apart, and
	// the root shows nothing of what was mounted in it.
	var st unix.Stat_t
	if p := path(pid, "ns/mnt"); unix.Stat(p, &st) == nil && st.Ino != ownMounts() {
		if fd, err := unix.Open(p, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			r.mount = fd
		}
	}
	return r, nil
}

// ownMounts names our own mount namespace; 0 if that is not known.
var ownMounts = sync.OnceValue(func() uint64 {
	var st unix.Stat_t
	if unix.Stat(Root+"/self/ns/mnt", &st) != nil {
		return 0
	}
	return st.Ino
})

// Share returns the same root for another owner, who closes it too.
func (r *RootDir) Share() *RootDir {
	r.users.Add(1)
	return r
}

// Close gives the directory back when the last owner has closed it.
func (r *RootDir) Close() {
	if r.users.Add(-1) != 0 {
		return
	}
	unix.Close(r.dir)
	if r.mount >= 0 {
		unix.Close(r.mount)
	}
}

// Open opens a regular file by its path below the root. However hostile the
// files there are, no link and no ".." leads out of it, and nothing but a
// regular file is opened: opening a FIFO wakes its writer, opening a device
// may do anything.
func (r *RootDir) Open(p string) (*os.File, error) {
	fd, err := r.find(p)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: err}
	}
	return openFound(fd, p)
}

// openFound opens what an O_PATH descriptor, which it closes, stands for.
func openFound(fd int, p string) (*os.File, error) {
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "open", Path: p, Err: errNotRegular}
	}
	// What was found cannot be exchanged any more: this opens the very inode.
	return openRegular(fmt.Sprintf("%s/self/fd/%d", Root, fd), p)
}

// find returns an O_PATH descriptor.
func (r *RootDir) find(p string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	const tries = 8 // the kernel gives up (EAGAIN) where something is renamed meanwhile
	var fd int
	err := error(unix.EAGAIN)
	for n := 0; n < tries && errors.Is(err, unix.EAGAIN); n++ {
		fd, err = unix.Openat2(r.dir, p, &how)
	}
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // before Linux 5.6, or kept from us by a filter
		return r.walk(p)
	}
	return fd, err
}

// maxLinks is how many links of a path are followed, as by the kernel.
const maxLinks = 40

// maxDepth bounds how many folders of a path are open at once.
const maxDepth = 256

// walk is what openat2 does with RESOLVE_IN_ROOT: it goes from folder to
// folder, each by a descriptor, and follows links itself.
func (r *RootDir) walk(p string) (fd int, err error) {
	var below []int // descriptors of the folders gone through
	defer func() {
		for _, dir := range below {
			if dir != fd || err != nil {
				unix.Close(dir)
			}
		}
	}()
	rest := strings.Split(p, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		at := r.dir
		if len(below) > 0 {
			at = below[len(below)-1]
		}
		switch name {
		case "", ".":
			continue
		case "..":
			if len(below) > 0 {
				unix.Close(at)
				below = below[:len(below)-1]
			}
			continue
		}
		next, err := unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		target, isLink, err := readLink(next)
		if !isLink && err == nil && len(below) < maxDepth {
			below = append(below, next)
			continue
		}
		unix.Close(next)
		if !isLink && err == nil {
			err = unix.ENAMETOOLONG
		}
		if links++; err == nil && links > maxLinks {
			err = unix.ELOOP
		}
		if err != nil {
			return -1, err
		}
		if strings.HasPrefix(target, "/") {
			for _, dir := range below {
				unix.Close(dir)
			}
			below = nil
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	if len(below) == 0 {
		return -1, unix.EISDIR
	}
	return below[len(below)-1], nil
}

// readLink says what an O_PATH descriptor of a symbolic link points to.
func readLink(fd int) (target string, isLink bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", false, nil
	}
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", b)
	if err != nil {
		return "", true, err
	}
	return string(b[:n]), true, nil
}
