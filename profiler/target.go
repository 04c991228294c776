// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/symbol"
)

// target is one process that is sampled.
type target struct {
	id      process.ID
	name    string // as ps shows it
	command string // the executable's path
	space   *addressSpace
	// before is the address space before the last exec: samples drained after
	// the exec may be from before it.
	before       *addressSpace
	drainedSince int               // drains since that exec
	doubted      []process.Mapping // where the samples of this drain may be of either of two objects
	files        *process.Files
	made         *runTime        // what is known of the code that it makes; nil: it makes none
	runtime      *symbol.Runtime // nil: none that we know
	threads      int             // of a child that was born meanwhile; 0: not known
	reread       bool            // the mappings were read again since the last drain
	told         bool            // the kernel knows the mappings as they are
	running      bool
	barred       bool          // it may not be sampled any more
	drained      int           // drains since it stopped running
	cpuFrom      time.Duration // CPU time when sampling began
	cpu          time.Duration // the latest reading
}

type addressSpace = process.AddressSpace[known]

// known is what is known of a mapping.
type known struct {
	id     profile.MappingID // once it was met in a sample
	object *opened           // nil: there is none
	made   *runTime          // of code that the process made, nil otherwise
}

// ambiguous says whether addresses in m may have been those of another object
// a moment ago: one that was unmapped without notice, or that the program
// before the last exec had there.
func (t *target) ambiguous(m *process.Mapping, o *opened) bool {
	for _, space := range []*addressSpace{t.space, t.before} {
		if space == nil {
			continue
		}
		for old := range space.All() {
			if old.Start < m.Limit && m.Start < old.Limit && old.Of.object != o {
				return true
			}
		}
	}
	return false
}

// overlaps says whether anything known lies in m.
func (t *target) overlaps(m *process.Mapping) bool {
	for old := range t.space.All() {
		if old.Start < m.Limit && m.Start < old.Limit {
			return true
		}
	}
	return false
}

// maps says whether an object is among what the target has mapped.
func (t *target) maps(o *opened) bool {
	for m := range t.space.All() {
		if m.Of.object == o {
			return true
		}
	}
	return false
}

// findTargets makes sure that each PID is a process that can be profiled. Those
// that a selector chose may have exited since, as long as one is left.
func findTargets(spec *session.Spec) ([]*target, error) {
	if !process.Mounted() {
		return nil, session.Unsupported("no_proc", "/proc is not mounted, so nothing is known of processes",
			"mount it (mount -t proc proc /proc)", nil)
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
	var gone error
	for i, pid := range pids {
		if slices.Contains(pids[:i], pid) {
			continue
		}
		t, err := newTarget(pid)
		if err != nil && i >= named {
			continue // a child that has just exited
		}
		if errors.Is(err, fs.ErrNotExist) && !spec.Select.Empty() {
			gone = cmp.Or(gone, err)
			continue
		}
		if err != nil {
			for _, t := range ts {
				t.files.Close()
			}
			return nil, err
		}
		ts = append(ts, t)
	}
	if len(ts) == 0 {
		return nil, gone
	}
	return ts, nil
}

func newTarget(pid int) (*target, error) {
	stat, err := process.ReadStat(pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
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
	t := &target{id: stat.ID, name: stat.Comm, space: &addressSpace{}, running: true, cpuFrom: stat.CPUTime, cpu: stat.CPUTime}
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

// noSuchProcess says why /proc does not show a process.
func noSuchProcess(pid int) error {
	e := &session.Error{Code: "no_such_process", Kind: fs.ErrNotExist,
		Problem: fmt.Sprintf("there is no process %d", pid), Remedy: "it may have exited; ps -e lists the running ones"}
	if process.Hidden(pid) {
		return session.NotPermitted("process_hidden", fmt.Sprintf("/proc hides process %d (it is mounted with hidepid)", pid),
			"run as root, or grant CAP_SYS_PTRACE", nil)
	}
	if outside := process.Outside(pid); len(outside) > 0 {
		e.Remedy = fmt.Sprintf("in a container process %d has this PID; name it by the one that it has here", outside[0])
		if len(outside) > 1 {
			e.Remedy = fmt.Sprintf("in containers processes %s have this PID; name one by the PID that it has here",
				strings.Trim(strings.Join(strings.Fields(fmt.Sprint(outside)), ", "), "[]"))
		}
		return e
	}
	if !process.ShowsKernelPIDs() {
		e.Remedy = "this program runs in a PID namespace of its own and sees no others; run it on the host, or in a container with the host's PID namespace (docker run --pid=host)"
	}
	return e
}

// currentMaps reads the mappings. The error is fs.ErrNotExist when the process
// is gone or is another one by now.
func (t *target) currentMaps() ([]process.Mapping, error) {
	ms, err := process.ReadMaps(t.id.PID)
	if err != nil {
		return nil, err
	}
	if stat, err := process.ReadStat(t.id.PID); err != nil || !t.is(&stat) || stat.Exited() {
		return nil, fs.ErrNotExist
	}
	return ms, nil
}

// readMaps takes over the mappings as they are.
func (t *target) readMaps(o *objects) error {
	ms, err := t.currentMaps()
	if err != nil {
		return err
	}
	t.space.Replace(ms, func(m *process.Mapping, old *process.SpaceMapping[known]) known {
		now := t.know(m, o)
		if old != nil && old.Of.object == now.object && old.Of.made == now.made {
			return old.Of
		}
		return now
	})
	t.told = false
	return nil
}

// mapping finds the mapping that a lies in, reading the mappings again (once a
// drain) if it is in none of the known ones.
func (t *target) mapping(a profile.Addr, o *objects) *process.SpaceMapping[known] {
	if slices.ContainsFunc(t.doubted, func(m process.Mapping) bool { return m.Contains(a) }) {
		return nil
	}
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
	ms, err := t.currentMaps()
	if err != nil {
		return nil
	}
	// The process has gone on since the sample was taken: what is at an address
	// now may not have been there then. So only gaps are filled.
	for i := range ms {
		if !t.overlaps(&ms[i]) {
			t.space.Insert(ms[i], t.know(&ms[i], o))
			t.told = false
		}
	}
	return t.space.Lookup(a)
}

// executed notes that the process runs another program now.
func (t *target) executed() {
	t.before, t.drainedSince = t.space, 0
	t.space = &addressSpace{}
	t.reread, t.told = false, false
	t.made.last()
	t.made, t.runtime = nil, nil
	t.files.Close()
	t.files = process.OpenFiles(t.id.PID) // it may have another root by now
	if command, err := process.Executable(t.id.PID); err == nil {
		t.command = command
	}
}

// is says whether that is still the same process. A child that was born
// meanwhile gets its start time when it is first looked at: while it is a
// target, its PID is not another's without a notice of that.
func (t *target) is(stat *process.Stat) bool {
	if t.id.Start == 0 {
		t.id = stat.ID
	}
	return stat.ID == t.id
}

// look finds out whether the process still runs, and its CPU time.
func (t *target) look() process.Stat {
	stat, err := process.ReadStat(t.id.PID)
	if err != nil || !t.is(&stat) {
		t.running = false
		return stat
	}
	t.cpu = stat.CPUTime
	t.running = !stat.Exited() && !t.barred
	return stat
}
