// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io/fs"
	"sync"

	"golang.org/x/sys/unix"
)

// buffers are for files of /proc/PID, which are small. A host may have ten
// thousand processes, and each is read several times to tell how much it does:
// os.ReadFile takes twice as long, and a buffer of its own.
var buffers = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// read has a file of /proc/PID understood. Parse must keep nothing of the text.
// The error is fs.ErrNotExist when there is no such process, or no such file.
func read(pid int, name string, parse func([]byte) error) error {
	file := path(pid, name)
	fd, err := retried(func() (int, error) { return unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return gone(&fs.PathError{Op: "open", Path: file, Err: err})
	}
	defer unix.Close(fd)
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	for n := 0; ; {
		if n == len(*b) {
			*b = append(*b, make([]byte, len(*b))...)
		}
		more, err := retried(func() (int, error) { return unix.Read(fd, (*b)[n:]) })
		if err != nil {
			return gone(&fs.PathError{Op: "read", Path: file, Err: err})
		}
		if more == 0 {
			return parse((*b)[:n])
		}
		n += more
	}
}

// retried makes a call again that a signal interrupted.
func retried(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
