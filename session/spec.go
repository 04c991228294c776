// SPDX-License-Identifier: Apache-2.0

// Package session is one run of the profiler: what was asked ([Spec]), where in
// its life it is ([Session], [State]) and how it can fail ([Error], with a stable
// code and the remedy). [Runner] is the one interface to sessions, wherever they
// run. The package asks the kernel nothing; package profiler does.
package session

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// The limits of a Spec.
const (
	MinDuration  = time.Millisecond
	MaxDuration  = 24 * time.Hour
	MinFrequency = profile.Frequency(1)
	MaxFrequency = profile.Frequency(10_000)
	MaxTargets   = 1024 // that are named; children come on top

	// DefaultFrequency is not a round number, so that sampling does not run in
	// step with timers of the target, most of which have round ones.
	DefaultFrequency = profile.Frequency(99)
	DefaultDuration  = 10 * time.Second
)

// Spec is what a session was asked to do.
type Spec struct {
	PIDs      []int             `json:"pids"`            // the targets
	Select    Selector          `json:"select,omitzero"` // what chooses them, where there are no PIDs yet
	Hosts     Hosts             `json:"hosts,omitzero"`  // of a fleet
	Children  bool              `json:"children"`        // follow forks: children born before and during the session count too
	Duration  time.Duration     `json:"duration_ns"`     // of sampling
	Frequency profile.Frequency `json:"frequency_hz"`    // on each CPU

	// RequestID makes starting idempotent: a second Start with the same one
	// is answered with the first one's session. Whoever asks makes it up; empty
	// means that only what is asked for tells requests apart.
	RequestID string `json:"request_id,omitempty"`
	// Requester is on whose behalf it is asked for, if not for whoever asks.
	Requester string `json:"requester,omitempty"`
	// Attended ends the session when the last one who watches it goes away, or
	// when nobody comes to watch it.
	Attended bool `json:"attended,omitempty"`
	// MaxWait is how long the session may wait for its turn; 0 means as long
	// as it takes.
	MaxWait time.Duration `json:"max_wait_ns,omitempty"`
	// Canary lets one host go first, and the others only when it has succeeded.
	Canary bool `json:"canary,omitempty"`
	// AtOnce bounds how many hosts run it at the same time; 0 means all of them.
	AtOnce int `json:"at_once,omitempty"`
	// Instance is that life of the host's profiler which is meant (Host.Instance);
	// another one refuses: a request that is repeated, maybe by somebody on the
	// way, never runs in two of them. Empty means any.
	Instance string `json:"instance,omitempty"`
	// Again says that PIDs are what Select means just now, and may be found again
	// when the turn of a session comes that had to wait. It stays in this process:
	// what another one has chosen, and decided about, is not changed.
	Again bool `json:"-"`
}

// Same says whether two specs ask for the same samples, whoever asks.
func (s *Spec) Same(o *Spec) bool {
	a, b := slices.Clone(s.PIDs), slices.Clone(o.PIDs)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b)) && (len(a) > 0 || s.Select == o.Select) && s.Hosts.same(&o.Hosts) &&
		s.Children == o.Children && s.Duration == o.Duration && s.Frequency == o.Frequency
}

// SameRequest says whether two specs may be one request that is made twice:
// where a selector chose the processes, it may mean others by now.
func (s *Spec) SameRequest(o *Spec) bool {
	if s.Select.Empty() || o.Select.Empty() {
		return s.Same(o)
	}
	a, b := *s, *o
	a.PIDs, b.PIDs = nil, nil
	return a.Same(&b)
}

// Validate checks what can be checked without asking the kernel. The error is
// an *Error of kind ErrInvalid.
func (s *Spec) Validate() error {
	if len(s.PIDs) > MaxTargets {
		return Invalid("too_many_targets", fmt.Sprintf("%d processes are too many for one session", len(s.PIDs)), fmt.Sprintf("name at most %d", MaxTargets))
	}
	if err := s.validateWhere(); err != nil {
		return err
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
	if s.MaxWait < 0 {
		return Invalid("bad_max_wait", fmt.Sprintf("a session cannot wait for %v", s.MaxWait), "leave it out to wait as long as it takes")
	}
	if err := checkText("request ID", s.RequestID, 128); err != nil {
		return err
	}
	if err := checkText("instance", s.Instance, 128); err != nil {
		return err
	}
	return checkText("requester", s.Requester, 256)
}

// validateWhere checks who is to be sampled, and on which hosts. A spec with
// PIDs may tell what chose them.
func (s *Spec) validateWhere() error {
	if len(s.PIDs) == 0 && s.Select.Empty() {
		return Invalid("no_target", "there is no process to profile", "name one with --pid")
	}
	if !s.Select.Empty() {
		if err := s.Select.Validate(); err != nil {
			return err
		}
	}
	if s.AtOnce < 0 {
		return Invalid("bad_at_once", fmt.Sprintf("a session cannot run on %d hosts at once", s.AtOnce), "leave it out for all of them")
	}
	return s.Hosts.Validate()
}

// checkText bounds what others send to be kept and shown.
func checkText(what, text string, most int) error {
	if len(text) > most {
		return Invalid("bad_text", fmt.Sprintf("the %s is %d bytes long", what, len(text)), fmt.Sprintf("use at most %d", most))
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return Invalid("bad_text", fmt.Sprintf("the %s %q has characters that cannot be shown", what, text), "use printable ones")
	}
	return nil
}
