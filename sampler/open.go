// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

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
	OpenTables(rows, code int) error
	AddTable(t *unwind.Table) (TableID, error)
	SetMappings(pid int, ms []Mapping) error
}

var _ interface {
	Sampler
	Tables
} = (*BPF)(nil)

// Open opens the best sampler that can be had here.
func Open(o Options) (Sampler, error) { return OpenBPF(o) }
