// SPDX-License-Identifier: Apache-2.0

// Package sampler has the kernel take samples. The better way is a BPF program
// ([BPF]) that the CPU clock of every CPU runs: it is told whom to sample, walks
// stacks by unwind tables and counts, and the counts are drained while sampling
// goes on. Where eBPF cannot be had, perf events alone stand in ([Perf]). Both
// know addresses, not names.
//
// A [Sampler] owns everything it has in the kernel by file descriptors alone,
// so when this process ends, in whatever way, nothing of it remains.
package sampler

import (
	"cmp"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// How user stacks are walked, as Metadata.UserStacks tells it.
const (
	WalkTables       = "unwind tables"
	WalkFramePointer = "frame pointer"
)

// Event is the name of what makes the kernel take a sample.
const Event = "cpu-clock"

// Options of a Sampler. Whom it samples, and how often, is not among them: so a
// sampler can be ready before anybody asks for one.
type Options struct {
	Targets  int         // how many processes may have unwind tables at once; 0 means 16
	Children bool        // more than session.MaxTargets may be sampled at once
	Tables   *TableStore // nil: it has unwind tables of its own
}

// Sampler samples a set of processes. Its methods must not be called
// concurrently, but for those on targets.
type Sampler interface {
	// AddTarget makes the kernel sample all threads of a process, those born
	// later included.
	AddTarget(pid int) error
	// AddChild is AddTarget for a process that was just born to a target.
	AddChild(pid, parent int) error
	// RemoveTarget ends the sampling of a process. To remove what is not there
	// is no error.
	RemoveTarget(pid int) error

	// Start lets the CPU clock run, at a frequency of at most MaxFrequency().
	// The first sample comes one period later.
	Start(f profile.Frequency) error
	// Notices begins to listen to what the targets do besides, after Start.
	Notices() (*Notices, error)
	// LookInterval is how often to ask whether a Drain is due: often enough
	// that what is in the kernel cannot run full.
	LookInterval() time.Duration
	Due() (bool, error)
	// Drain hands over what was sampled since the last drain, while sampling
	// goes on.
	Drain(each func(Count)) error
	Totals() (Totals, error)
	// Stop ends sampling; what was sampled can still be drained.
	Stop() error
	// Finish drains what is left after Stop.
	Finish(each func(Count)) (Totals, error)

	About() About
	// Close gives back everything in the kernel.
	Close() error
}

// About says what a sampler is, for the profile.
type About struct {
	Event   string // what makes the kernel take a sample
	CPUs    int    // sampled, after Start
	Warning string // what its profiles lack, and what to do; "" where nothing better is to be had
}

// Tables are what a Sampler has besides if it can walk user stacks by unwind
// tables. Its methods may be called concurrently with all others.
type Tables interface {
	UseTables(key unwind.Key) (ids []TableID, ok bool, err error)
	OpenTables(needs ...TableNeed) error
	AddTables(key unwind.Key, all []unwind.Draft) ([]TableID, error)
	SetMappings(pid int, ms []Mapping) error
}

var (
	_ Sampler = (*Perf)(nil)
	_ Sampler = (*BPF)(nil)
	_ Tables  = (*BPF)(nil)
)

// Open opens the best sampler that can be had: a BPF, else a Perf. Nothing is
// kept of what was missing, so the next call finds what was granted meanwhile.
func Open(o Options) (Sampler, error) {
	if _, err := allowedBuilds(); err != nil {
		return nil, err // a mistake, nothing that the machine lacks
	}
	b, err := openBPF(o)
	if err == nil {
		return b, nil
	}
	p, perfErr := OpenPerf(err)
	if perfErr != nil {
		return nil, neither(err, perfErr)
	}
	return p, nil
}

// openBPF is OpenBPF where its samples would be right.
func openBPF(o Options) (*BPF, error) {
	if !process.ShowsKernelPIDs() {
		return nil, session.Unsupported("pid_namespace", "in a PID namespace of its own a BPF program knows processes under other PIDs than this one",
			"run it on the host, or in a container with the host's PID namespace (docker run --pid=host)", nil)
	}
	b, err := OpenBPF(o)
	if err != nil {
		return nil, err
	}
	// Where its clock is not permitted, better to know it now.
	if r, err := findReach(); err != nil || r != reachCPUs {
		b.Close() //nolint:errcheck // of descriptors that are ours
		return nil, eventError(cmp.Or(err, error(unix.EACCES)))
	}
	return b, nil
}

// neither is the error where not even perf events can be had: the way out is to
// get eBPF.
func neither(err, perfErr error) error {
	var e, p *session.Error
	switch {
	case !errors.As(err, &e) || !errors.As(perfErr, &p):
		return errors.Join(err, perfErr)
	case e.Code == p.Code:
		return e
	}
	both := *e
	both.Problem += "; nor can perf events stand in: " + p.Problem
	both.Cause = nil
	if p.Remedy != e.Remedy {
		both.Remedy += "; for perf events alone " + p.Remedy
	}
	return &both
}
