// SPDX-License-Identifier: Apache-2.0

// Package process is what /proc says of one process: who it is (a PID alone is
// not enough, PIDs are reused), whether it still runs, what code it has mapped
// and how to open that code as the process itself sees it, in its own mount
// namespace, replaced or deleted files included.
//
// Reading and understanding are apart: parse functions take text and are
// fuzzed; what opens files under /proc is a few lines each.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// Root is where procfs is mounted.
const Root = "/proc"

// ID names a process for good: start times differ where PIDs are reused.
type ID struct {
	PID   int
	Start uint64 // after boot, in clock ticks (1/100 s)
}

// Stat is what /proc/PID/stat says, as far as it is of use here.
type Stat struct {
	ID
	Comm      string
	State     byte // R, S, D, T, Z (zombie), X (dead), …
	Kernel    bool // a kernel thread
	CPUTime   time.Duration
	Memory    int64 // bytes of it that are in RAM; the kernel's figure is not exact
	Threads   int
	ParentPID int
}

// Exited reports whether the whole process is over, though its parent has not
// fetched its exit status yet. A main thread that ended while others run on
// is a zombie too, so the state alone does not tell.
func (s *Stat) Exited() bool {
	return s.State == 'X' || s.State == 'Z' && s.Threads <= 1
}

// flagKernelThread is PF_KTHREAD, in the flags field since Linux 2.6.27.
const flagKernelThread = 0x00200000

var pageSize = int64(os.Getpagesize())

// clockTick is USER_HZ, which is 100 on all architectures that Go runs on.
const clockTick = time.Second / 100

// ReadStat reads /proc/PID/stat. The error is fs.ErrNotExist when there is no
// such process.
func ReadStat(pid int) (Stat, error) {
	var s Stat
	err := read(pid, "stat", func(b []byte) (err error) {
		s, err = ParseStat(b)
		return err
	})
	return s, err
}

// ParseStat parses the text of /proc/PID/stat (proc(5)).
func ParseStat(b []byte) (Stat, error) {
	// The name stands in parentheses and may contain anything, those included.
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return Stat{}, fmt.Errorf("parse process status: no name in %.40q", b)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:open])))
	if err != nil {
		return Stat{}, fmt.Errorf("parse process status: %w", err)
	}
	var f [22][]byte // what comes after that is of no use here
	n := 0
	for field := range bytes.FieldsSeq(b[end+1:]) {
		if f[n] = field; n == len(f)-1 {
			break
		}
		n++
	}
	if f[len(f)-1] == nil || len(f[0]) != 1 {
		return Stat{}, fmt.Errorf("parse process status: %d fields after the name, want %d or more", n, len(f))
	}
	s := Stat{ID: ID{PID: pid}, Comm: string(b[open+1 : end]), State: f[0][0]}
	var fields [6]uint64 // flags, utime, stime, threads … by proc(5)'s numbers less 3
	for i, n := range [6]int{6, 11, 12, 17, 19, 21} {
		if fields[i], err = strconv.ParseUint(string(f[n]), 10, 64); err != nil {
			return Stat{}, fmt.Errorf("parse process status: field %d: %w", n+3, err)
		}
	}
	if s.ParentPID, err = strconv.Atoi(string(f[1])); err != nil {
		return Stat{}, fmt.Errorf("parse process status: field 4: %w", err)
	}
	s.Kernel = fields[0]&flagKernelThread != 0
	s.CPUTime = time.Duration(fields[1]+fields[2]) * clockTick
	s.Threads = int(fields[3])
	s.Start = fields[4]
	s.Memory = int64(fields[5]) * pageSize
	return s, nil
}

// Running reports whether the process with this ID still runs: the PID exists,
// is the same process, and that has not exited.
func (id ID) Running() bool {
	s, err := ReadStat(id.PID)
	return err == nil && s.ID == id && !s.Exited()
}

// ThreadGroup returns the PID that a thread ID belongs to; for a PID, itself.
func ThreadGroup(tid int) (int, error) {
	b, err := os.ReadFile(path(tid, "status"))
	if err != nil {
		return 0, gone(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Tgid:"); ok {
			return strconv.Atoi(strings.TrimSpace(v))
		}
	}
	return 0, errors.New("parse process status: no Tgid")
}

// Executable is the path of the program a process runs, in its own mount
// namespace. It needs the right to inspect the process (fs.ErrPermission).
func Executable(pid int) (string, error) {
	p, err := os.Readlink(path(pid, "exe"))
	if err != nil {
		return "", gone(err)
	}
	return strings.TrimSuffix(p, deletedMark), nil
}

// Children returns the processes below pid, theirs included, as they are now.
func Children(pid int) ([]int, error) {
	entries, err := os.ReadDir(Root)
	if err != nil {
		return nil, err
	}
	below := map[int][]int{}
	for _, e := range entries {
		p, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // not a process
		}
		if s, err := ReadStat(p); err == nil {
			below[s.ParentPID] = append(below[s.ParentPID], p)
		} // else it has just exited
	}
	var all []int
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		all = append(all, below[queue[0]]...)
		queue = append(queue, below[queue[0]]...)
	}
	return all, nil
}

func path(pid int, name string) string {
	return Root + "/" + strconv.Itoa(pid) + "/" + name
}

// gone maps the two ways in which procfs says that a process is no more to one.
func gone(err error) error {
	if errors.Is(err, errNoProcess) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}
