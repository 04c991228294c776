// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// target is one process that is sampled.
type target struct {
	id      process.ID
	name    string // as ps shows it
	command string // the executable's path
	space   *process.AddressSpace
	// before is the address space before the last exec: samples drained after
	// the exec may be from before it.
	before  *process.AddressSpace
	files   *process.Files
	reread  bool // the mappings were read again since the last drain
	told    bool // the kernel knows the mappings as they are
	running bool
	drained int           // drains since it stopped running
	cpuFrom time.Duration // CPU time when sampling began
	cpu     time.Duration // the latest reading
}

// findTargets makes sure that each PID is a process that can be profiled.
func findTargets(spec *session.Spec) ([]*target, error) {
	if process.InOwnPIDNamespace() {
		return nil, session.Unsupported("pid_namespace", "this program runs in a PID namespace of its own, so the kernel knows processes under other PIDs than it does",
			"run it on the host, or in a container with the host's PID namespace (docker run --pid=host)", nil)
	}
	pids := slices.Clone(spec.PIDs)
	if spec.Children {
		for _, pid := range spec.PIDs {
			below, err := process.Children(pid)
			if err != nil {
				return nil, fmt.Errorf("find the children of process %d: %w", pid, err)
			}
			pids = append(pids, below...)
		}
	}
	named := len(spec.PIDs)
	var ts []*target
	for i, pid := range pids {
		if slices.Contains(pids[:i], pid) {
			continue
		}
		t, err := newTarget(pid)
		if err != nil && i >= named {
			continue // a child that has just exited
		}
		if err != nil {
			return nil, err
		}
		ts = append(ts, t)
	}
	return ts, nil
}

func newTarget(pid int) (*target, error) {
	stat, err := process.ReadStat(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noSuchProcess(pid)
	}
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	if group, err := process.ThreadGroup(pid); err == nil && group != pid {
		return nil, session.Invalid("thread_not_process", fmt.Sprintf("%d is a thread of process %d", pid, group),
			fmt.Sprintf("profile the whole process with --pid %d", group))
	}
	switch {
	case stat.Exited():
		return nil, &session.Error{Code: "process_exited", Kind: fs.ErrNotExist,
			Problem: fmt.Sprintf("process %d (%s) has exited and only waits for its parent (a zombie)", pid, stat.Comm), Remedy: "profile a running one; ps -e lists them"}
	case stat.Kernel:
		return nil, session.Invalid("kernel_thread", fmt.Sprintf("process %d (%s) is a kernel thread, which has no user code to profile", pid, stat.Comm),
			"name a process with a program of its own; in the output of ps -e f kernel threads stand in brackets")
	}
	t := &target{id: stat.ID, name: stat.Comm, space: &process.AddressSpace{}, running: true, cpuFrom: stat.CPUTime, cpu: stat.CPUTime}
	if t.command, err = process.Executable(pid); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, session.NotPermitted("ptrace_not_permitted", fmt.Sprintf("looking into process %d (%s) is not permitted", pid, stat.Comm),
				"run as root, or grant CAP_SYS_PTRACE", err)
		}
		t.command = stat.Comm
	}
	t.files = process.OpenFiles(pid)
	return t, nil
}

func noSuchProcess(pid int) error {
	return &session.Error{Code: "no_such_process", Kind: fs.ErrNotExist,
		Problem: fmt.Sprintf("there is no process %d", pid), Remedy: "it may have exited; ps -e lists the running ones"}
}

// readMaps reads the mappings anew. The error is fs.ErrNotExist when the
// process is gone or is another one by now.
func (t *target) readMaps() error {
	ms, err := process.ReadMaps(t.id.PID)
	if err != nil {
		return err
	}
	if !t.id.Running() {
		return fs.ErrNotExist
	}
	t.space.Replace(ms)
	t.told = false
	return nil
}

// mapping finds the mapping that a lies in, reading the mappings again (once a
// drain) if it is in none of the known ones.
func (t *target) mapping(a profile.Addr) *process.SpaceMapping {
	if m := t.space.Lookup(a); m != nil {
		return m
	}
	if t.before != nil {
		if m := t.before.Lookup(a); m != nil {
			return m
		}
	}
	if t.reread || !t.running {
		return nil
	}
	t.reread = true
	if t.readMaps() != nil {
		return nil
	}
	return t.space.Lookup(a)
}

// executed notes that the process runs another program now.
func (t *target) executed() {
	t.before = t.space
	t.space = &process.AddressSpace{}
	t.reread, t.told = false, false
	if command, err := process.Executable(t.id.PID); err == nil {
		t.command = command
	}
}

// look finds out whether the process still runs, and its CPU time.
func (t *target) look() process.Stat {
	stat, err := process.ReadStat(t.id.PID)
	if err != nil || stat.ID != t.id {
		t.running = false
		return stat
	}
	t.cpu = stat.CPUTime
	t.running = !stat.Exited()
	return stat
}
