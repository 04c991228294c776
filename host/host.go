// SPDX-License-Identifier: Apache-2.0

// Package host is this host as a fleet of one: which processes run on it, how
// much CPU time they use, and which of them a selector means. [Host] puts that
// before a runner of this host; [Resolve] and [Processes] do it for who has no
// runner, or one of his own.
//
// All of it is read from /proc. Arguments and environment of a process are
// never looked at.
package host

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Options are what a host has besides its runner.
type Options struct {
	Name    string // "": as the kernel has it
	Version string // of the program
	Labels  map[string]string
	Health  func() Health // of the runner; must answer at once. nil: it is always well

	// Check says why processes cannot be profiled, as the runner's Start would.
	// nil: that there are such processes is all that is looked for.
	Check func(pids []int) error

	// Requested finds the session that a request ID led to already, also one
	// that is about to begin. A request that is repeated leads to that one then,
	// though its selector may mean other processes by now, or none. nil: it is
	// looked for among the sessions that the runner lists.
	Requested func(requestID string) (session.Session, bool)
}

// Health is how a runner is.
type Health struct {
	Healthy         bool
	Reason          string // why it is not
	Running, Queued int    // sessions
}

// Host is a session.Fleet of one. It is safe for use by several goroutines.
type Host struct {
	session.Runner
	o        Options
	hostname string
	instance string
	usage    usage

	mu    sync.Mutex
	state session.HostState
	since time.Time
}

var _ session.Fleet = (*Host)(nil)

// New is this host with what runs sessions on it. Its instance lasts as long as
// the Host does.
func New(runner session.Runner, o Options) *Host {
	h := &Host{Runner: runner, o: o, instance: rand.Text()}
	h.hostname, _ = os.Hostname() // no name is no reason to fail
	h.o.Name = cmp.Or(o.Name, h.hostname)
	if h.o.Health == nil {
		h.o.Health = func() Health { return Health{Healthy: true} }
	}
	if h.o.Check == nil {
		h.o.Check = running
	}
	if h.o.Requested == nil {
		h.o.Requested = h.listed
	}
	return h
}

// listed looks for a request among the sessions that are there.
func (h *Host) listed(requestID string) (session.Session, bool) {
	all, err := h.List(context.Background(), session.Filter{})
	if err != nil {
		return session.Session{}, false // then Start has the error, too
	}
	for _, s := range all {
		if s.Spec.RequestID == requestID {
			return s, true
		}
	}
	return session.Session{}, false
}

// Hosts tells of this host, if it is meant.
func (h *Host) Hosts(_ context.Context, of session.Hosts) ([]session.Host, error) {
	if err := of.Validate(); err != nil {
		return nil, err
	}
	if !h.means(&of) {
		return nil, nil
	}
	health := h.o.Health()
	now := session.Host{Name: h.o.Name, Labels: h.o.Labels, State: session.HostReady, Version: h.o.Version,
		Running: health.Running, Queued: health.Queued, Instance: h.instance}
	if !health.Healthy {
		now.State = session.HostUnhealthy
		now.Err = &session.Error{Code: "unhealthy", Kind: session.ErrUnavailable, Problem: health.Reason}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state != now.State {
		h.state, h.since = now.State, time.Now()
	}
	now.Since = h.since
	return []session.Host{now}, nil
}

// means says whether this host is meant, as the only one or by one of its names.
func (h *Host) means(of *session.Hosts) bool {
	return of.Empty() || of.Mean(h.o.Name, h.o.Labels) || of.Mean(h.hostname, h.o.Labels)
}

func (h *Host) is(name string) bool { return name == "" || name == h.o.Name || name == h.hostname }

func (h *Host) other(name string) error {
	return session.Invalid("other_host", fmt.Sprintf("this is the host %s, and not %s", h.o.Name, name), "leave the host out, or ask a poller, which knows others")
}

// Processes lists those that a selector means, or all.
func (h *Host) Processes(ctx context.Context, host string, s session.Selector, most int) ([]session.Process, error) {
	if !h.is(host) {
		return nil, h.other(host)
	}
	return h.usage.processes(ctx, s, most)
}

// Match tells which processes of this host a spec means. Children are not among
// them.
func (h *Host) Match(ctx context.Context, spec session.Spec) ([]session.Match, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if !h.means(&spec.Hosts) {
		return nil, h.other(spec.Hosts.String())
	}
	spec.Hosts = session.Hosts{}
	m := session.Match{Host: h.o.Name}
	pids, err := h.resolve(ctx, &spec)
	switch e := (*session.Error)(nil); {
	case err == nil:
		m.PIDs = pids
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &e):
		m.Err = e
	default:
		return nil, err
	}
	return []session.Match{m}, nil
}

// resolve finds the processes that a spec means.
func (h *Host) resolve(ctx context.Context, spec *session.Spec) ([]int, error) {
	if len(spec.PIDs) > 0 {
		return spec.PIDs, h.o.Check(spec.PIDs)
	}
	if spec.RequestID != "" {
		if before, ok := h.o.Requested(spec.RequestID); ok && before.Spec.SameRequest(spec) {
			return before.Spec.PIDs, nil
		}
	}
	return h.usage.resolve(ctx, spec.Select)
}

// running makes sure that there are processes of these PIDs.
func running(pids []int) error {
	for _, pid := range pids {
		if s, err := process.ReadStat(pid); err != nil || s.Exited() {
			return &session.Error{Code: "no_such_process", Kind: fs.ErrNotExist, Problem: fmt.Sprintf("there is no process %d", pid), Remedy: hidden("srprof ps lists those that there are")}
		}
	}
	return nil
}

// Start begins a session of what the spec means here.
func (h *Host) Start(ctx context.Context, spec session.Spec) (session.Session, error) {
	if err := spec.Validate(); err != nil {
		return session.Session{}, err
	}
	if !h.means(&spec.Hosts) {
		return session.Session{}, h.other(spec.Hosts.String())
	}
	if spec.Instance != "" && spec.Instance != h.instance {
		return session.Session{}, &session.Error{Code: "other_instance", Kind: session.ErrUnavailable, Undone: true,
			Problem: "the profiler was started again since it was asked which life it is in", Remedy: "ask again, and then for a new session"}
	}
	spec.Instance = ""
	spec.Hosts = session.Hosts{} // so that it is the same session, however the host was named
	if len(spec.PIDs) == 0 {
		pids, err := h.resolve(ctx, &spec)
		if err != nil {
			return session.Session{}, err
		}
		spec.PIDs, spec.Again = pids, true
	}
	return h.Runner.Start(ctx, spec)
}

// Fetch yields a profile: the part that this host has in it is all of it.
func (h *Host) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
	if !h.is(want.Host) {
		return nil, h.other(want.Host)
	}
	want.Host = ""
	return h.Runner.Fetch(ctx, id, want)
}
