// SPDX-License-Identifier: Apache-2.0

// Package session is one run of the profiler: what was asked ([Spec]), how far
// it is ([Progress]) and how it can fail ([Error], with a stable code and the
// remedy). It asks the kernel nothing; package profiler does.
package session

import (
	"fmt"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// The limits of a Spec.
const (
	MinDuration  = time.Millisecond
	MaxDuration  = 24 * time.Hour
	MinFrequency = profile.Frequency(1)
	MaxFrequency = profile.Frequency(10_000)

	// DefaultFrequency is not a round number, so that sampling does not run in
	// step with timers of the target, most of which have round ones.
	DefaultFrequency = profile.Frequency(99)
	DefaultDuration  = 10 * time.Second
)

// Spec is what a session was asked to do.
type Spec struct {
	PIDs      []int             // the targets, at least one
	Children  bool              // follow forks: children born before and during the session count too
	Duration  time.Duration     // of sampling
	Frequency profile.Frequency // in Hz, on each CPU
}

// Validate checks what can be checked without asking the kernel. The error is
// an *Error of kind ErrInvalid.
func (s *Spec) Validate() error {
	if len(s.PIDs) == 0 {
		return Invalid("no_target", "there is no process to profile", "name one with --pid")
	}
	for _, pid := range s.PIDs {
		if pid <= 0 {
			return Invalid("bad_pid", fmt.Sprintf("%d is not a process ID", pid), "PIDs are positive; ps -e lists them")
		}
	}
	if s.Duration < MinDuration || s.Duration > MaxDuration {
		return Invalid("bad_duration", fmt.Sprintf("a duration of %v is out of range", s.Duration),
			fmt.Sprintf("choose one from %v to %v", MinDuration, "24h"))
	}
	if s.Frequency < MinFrequency || s.Frequency > MaxFrequency {
		return Invalid("bad_frequency", fmt.Sprintf("a frequency of %d Hz is out of range", s.Frequency),
			fmt.Sprintf("choose one from %d to %d Hz", MinFrequency, MaxFrequency))
	}
	return nil
}

// Progress is how far a running session is.
type Progress struct {
	Elapsed time.Duration
	Samples uint64
	Lost    uint64
	Hottest string // the function with the most samples of its own so far; empty if not known
}
