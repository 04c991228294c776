// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ShowsOwnPIDs reports whether processes have the PIDs in /proc that this program
// would give the kernel: /proc may be that of another PID namespace.
func ShowsOwnPIDs() bool {
	self, err := os.Readlink(Root + "/self")
	return err == nil && self == strconv.Itoa(os.Getpid())
}

// ShowsKernelPIDs reports whether processes have the PIDs in /proc that the
// kernel itself knows them by, so that those of BPF programs are the same.
func ShowsKernelPIDs() bool {
	const initial = "pid:[4026531836]" // PROC_PID_INIT_INO: the same on every kernel since 3.8
	if ns, err := os.Readlink(Root + "/self/ns/pid"); err != nil || strings.EqualFold(ns, initial) {
		return true // on kernels without namespaces too
	}
	const kthreadd = 2 // and its threads are nowhere but in the first PID namespace
	stat, err := ReadStat(kthreadd)
	return err == nil && stat.Kernel
}

// Mounted reports whether there is a /proc.
func Mounted() bool {
	_, err := os.Stat(Root + "/self/stat")
	return err == nil
}

// Hidden reports whether there is a process that /proc does not show (the mount
// option hidepid of proc(5)).
func Hidden(pid int) bool {
	if _, err := ReadStat(pid); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return false
	}
	err := unix.Kill(pid, 0)
	return ShowsOwnPIDs() && (err == nil || errors.Is(err, unix.EPERM))
}

// Outside finds processes that have a PID in a PID namespace below ours, by the
// PIDs that they have here; no more than a few.
func Outside(inside int) []int {
	entries, err := os.ReadDir(Root)
	if err != nil {
		return nil
	}
	const enough = 4
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || len(found) == enough {
			continue
		}
		if in, err := ReadInside(pid); err == nil && in.PID == inside && in.PID != pid {
			found = append(found, pid)
		}
	}
	return found
}
