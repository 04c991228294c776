// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"path"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Fleet is a Runner that knows its hosts and what runs on them. A profiler and
// an agent are a fleet of one, a poller is one of many, and package remote has
// the client of all of them.
type Fleet interface {
	Runner

	// Hosts tells of the hosts that are meant, by name; of all of them where
	// nothing is asked for.
	Hosts(context.Context, Hosts) ([]Host, error)

	// Processes lists those of a host that a selector chooses, all of them where
	// it is empty; hottest first, most of them at most (0: all). An empty name
	// of a host means the only one there is.
	Processes(ctx context.Context, host string, s Selector, most int) ([]Process, error)

	// Match is a dry run: which processes of which hosts a session of that spec
	// would sample, if it started now. Nothing is started.
	Match(context.Context, Spec) ([]Match, error)
}

// HostState is how a host stands to profiling.
type HostState string

// The states of hosts.
const (
	HostUnknown     HostState = "unknown"      // was not asked yet
	HostReady       HostState = "ready"        // takes sessions
	HostUnhealthy   HostState = "unhealthy"    // answers, but takes no sessions: Err says why
	HostAway        HostState = "away"         // does not answer: Err says why
	HostUnsupported HostState = "no profiling" // answers, and knows no sessions
)

// Host is a host of a fleet.
type Host struct {
	Name    string            `json:"name"`
	Address string            `json:"address,omitempty"` // at which it is asked
	Labels  map[string]string `json:"labels,omitempty"`
	State   HostState         `json:"state"`
	Since   time.Time         `json:"since,omitzero"` // since when it is in that state
	Version string            `json:"version,omitempty"`
	Running int               `json:"running"` // sessions
	Queued  int               `json:"queued"`
	Err     *Error            `json:"error,omitempty"`

	// Instance names one life of the host's profiler: it is another one after
	// each start, and with it all sessions of before are gone.
	Instance string `json:"instance,omitempty"`
}

// Process is a process of a host, as people choose one. Nothing of its
// arguments or environment is told.
type Process struct {
	PID       int       `json:"pid"`
	Name      string    `json:"name"`    // of the main thread
	Command   string    `json:"command"` // the executable's path; empty for those of the kernel
	User      string    `json:"user"`
	Unit      string    `json:"unit,omitempty"`
	Container string    `json:"container,omitempty"`
	Cgroup    string    `json:"cgroup,omitempty"`
	CPU       float64   `json:"cpu"` // CPUs that it used just now: 1.5 is one and a half
	Memory    int64     `json:"memory_bytes"`
	Threads   int       `json:"threads"`
	Started   time.Time `json:"started,omitzero"`
}

// programs are ours.
var programs = []string{"serviceradar-profiler", "serviceradar-profiler-agent", "serviceradar-profiler-poller", "srprof"}

// Ours says whether a command, by its path, is one of our programs: they work
// because they are asked, and so they are meant only by who names just them.
func Ours(command string) bool { return slices.Contains(programs, path.Base(command)) }

// Match is what a spec means on one host.
type Match struct {
	Host string `json:"host"`
	PIDs []int  `json:"pids"`
	Err  *Error `json:"error,omitempty"` // why it is not known, or why nothing is meant
}

// HostRun is the part of a fleet's session that one host has.
type HostRun struct {
	Host     string           `json:"host"`
	ID       ID               `json:"id,omitempty"` // of the host's own session; empty until it has one
	State    State            `json:"state"`
	Waiting  string           `json:"waiting,omitempty"` // for what, in words, while it goes on
	Position int              `json:"position,omitempty"`
	Started  time.Time        `json:"started,omitzero"`
	Ended    time.Time        `json:"ended,omitzero"`
	Targets  []profile.Target `json:"targets,omitempty"`
	Progress Progress         `json:"progress"`
	EndedBy  profile.Ended    `json:"ended_by,omitempty"`
	Size     int64            `json:"profile_bytes,omitempty"`  // of its profile, once that was collected
	Digest   string           `json:"profile_digest,omitempty"` // SHA-256 of it, in lower-case hexadecimal
	Err      *Error           `json:"error,omitempty"`
}

// Failed are the hosts of a session that ended without a profile.
func (s *Session) Failed() []HostRun {
	var failed []HostRun
	for _, h := range s.Hosts {
		if h.State == StateFailed {
			failed = append(failed, h)
		}
	}
	return failed
}
