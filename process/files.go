// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Files opens the files that a process has mapped. It holds on to the
// process's root directory, so that files stay reachable by path after the
// process has exited.
type Files struct {
	pid  int
	root *RootDir // nil without one
}

// ErrReplaced says that the file found by a mapping's path is not the one that
// is mapped, so its symbols would be wrong.
var ErrReplaced = errors.New("the file on disk is not the one in memory: it was replaced or deleted")

// OpenFiles prepares to open files of a process. It always succeeds; what
// cannot be had shows when a file is opened.
func OpenFiles(pid int) *Files {
	root, err := rootOf(pid)
	if err != nil {
		root = nil
	}
	return &Files{pid: pid, root: root}
}

// Root is the process's root directory, nil if it cannot be had. It belongs to
// Files: who needs it longer shares it.
func (f *Files) Root() *RootDir { return f.root }

// Close gives the root directory back.
func (f *Files) Close() {
	if f.root != nil {
		f.root.Close()
		f.root = nil
	}
}

// Open opens the very file behind m: by /proc/PID/map_files, which leads to
// replaced and deleted files too (it needs CAP_CHECKPOINT_RESTORE or
// CAP_SYS_ADMIN), by /proc/PID/exe, or by its path below the process's root,
// if that still is the same file. Else the error is ErrReplaced,
// fs.ErrNotExist or fs.ErrPermission.
func (f *Files) Open(m *Mapping) (*os.File, error) {
	mapFile := fmt.Sprintf("%s/%x-%x", path(f.pid, "map_files"), uint64(m.Start), uint64(m.Limit))
	for _, p := range []string{mapFile, path(f.pid, "exe")} {
		if file, err := openRegular(p, p); err == nil {
			if same(file, m) {
				return file, nil
			}
			file.Close()
		}
	}
	file, err := f.openByPath(m.Path)
	if err != nil {
		if m.Deleted && errors.Is(err, fs.ErrNotExist) {
			return nil, ErrReplaced
		}
		return nil, err
	}
	if m.Deleted || !same(file, m) {
		file.Close()
		return nil, ErrReplaced
	}
	return file, nil
}

// FileID names a file as it is now. Inode numbers are used again soon after a
// file is deleted, so its size and time are part of it. Device and inode are
// stat's: the same for a file however it is reached, from whatever mount
// namespace.
type FileID struct {
	Device, Inode uint64
	Size          int64
	Modified      int64 // in ns
}

// Identify tells which file is behind m, for the price of one system call. It
// finds what Open would open; the errors are those of Open.
func (f *Files) Identify(m *Mapping) (FileID, error) {
	var st unix.Stat_t
	if f.root != nil && !m.Deleted && strings.HasPrefix(m.Path, "/") {
		// A mapping's path has no links left in it.
		if unix.Fstatat(f.root.dir, "."+m.Path, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Ino == m.Inode {
			return fileID(&st), nil
		}
	}
	file, err := f.Open(m)
	if err != nil {
		return FileID{}, err
	}
	defer file.Close()
	return IdentifyFile(file)
}

// IdentifyFile tells which file is open.
func IdentifyFile(file *os.File) (FileID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return FileID{}, &fs.PathError{Op: "stat", Path: file.Name(), Err: err}
	}
	return fileID(&st), nil
}

func fileID(st *unix.Stat_t) FileID {
	return FileID{Device: st.Dev, Inode: st.Ino, Size: st.Size, Modified: st.Mtim.Nano()}
}

// openByPath opens a path as the process sees it.
func (f *Files) openByPath(p string) (*os.File, error) {
	if f.root == nil {
		return nil, &fs.PathError{Op: "open", Path: path(f.pid, "root"), Err: fs.ErrNotExist}
	}
	return f.root.Open(p)
}

// O_NONBLOCK: a path may lead to a FIFO by now.
const openFlags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY

var errNotRegular = errors.New("not a regular file")

// openRegular opens p, which is called name from then on.
func openRegular(p, name string) (*os.File, error) {
	fd, err := unix.Open(p, openFlags, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// same reports whether file is the one that m maps. Only inodes are compared:
// on btrfs and overlayfs stat and maps disagree about the device. Overlayfs
// may disagree about the inode as well; there the path has to do.
func same(file *os.File, m *Mapping) bool {
	var st unix.Stat_t
	if unix.Fstat(int(file.Fd()), &st) != nil {
		return false
	}
	if st.Ino == m.Inode {
		return true
	}
	var fsys unix.Statfs_t
	return unix.Fstatfs(int(file.Fd()), &fsys) == nil && fsys.Type == unix.OVERLAYFS_SUPER_MAGIC &&
		file.Name() == m.Path && !m.Deleted
}

// maxVDSO bounds what is read of a vDSO; they have 2 to 4 pages.
const maxVDSO = 1 << 20

// ReadVDSO copies the vDSO out of a process's memory: it is an ELF object that
// no file holds.
func ReadVDSO(pid int, m *Mapping) ([]byte, error) {
	if m.Kind != profile.MappingVDSO || m.Limit <= m.Start || m.Limit-m.Start > maxVDSO {
		return nil, fmt.Errorf("read vDSO: %s-%s of %q is none", m.Start, m.Limit, m.Path)
	}
	mem, err := os.Open(path(pid, "mem"))
	if err != nil {
		return nil, gone(err)
	}
	defer mem.Close()
	b := make([]byte, m.Limit-m.Start)
	if _, err := mem.ReadAt(b, int64(m.Start)); err != nil {
		return nil, fmt.Errorf("read vDSO: %w", gone(err))
	}
	return b, nil
}

// OpenPath opens a regular file by its path as the process sees it.
func (f *Files) OpenPath(p string) (*os.File, error) { return f.openByPath(p) }
