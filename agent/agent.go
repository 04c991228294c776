// SPDX-License-Identifier: Apache-2.0

// Package agent is a runner before the runner of a profiler on the same host.
// It has no privilege. It bounds what may be asked for and how long an answer
// may take, says on whose behalf it asks, knows since when the profiler is away
// and why ([Status]), and sees to it that a session that is not allowed any more
// ends.
//
// Who may ask at all is decided before it, by an access.Gate. The profiler is
// any session.Runner, mostly a remote.Client.
package agent

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Options are what an agent needs besides a profiler.
type Options struct {
	Host    string // its name; "": as the kernel has it
	Address string // of the profiler, for what is told of it
	Limits  Limits
	Log     *slog.Logger // nil: no lines
	// Changed is told, by goroutines of the agent, that a session that was asked
	// for here began to sample, or has ended; nil: nobody asks. It may be told some
	// seconds later: a session is asked for rarely.
	Changed func(session.Session)
}

// Agent is a session.Fleet of one. It is safe for use by several goroutines.
type Agent struct {
	profiler session.Runner
	ask      func(context.Context) (remote.Report, error)
	host     string
	address  string
	log      *slog.Logger
	limits   atomic.Pointer[Limits]
	changed  func(session.Session)

	mu     sync.Mutex
	status Status
	wake   chan struct{} // has room for one: the profiler is to be asked at once
	wards  map[session.ID]*ward
	unseen uint64          // sessions that were lost sight of, since the start
	ctx    context.Context // of the wards
	end    context.CancelFunc
	wg     sync.WaitGroup
}

// New is the agent before a profiler. Report asks the profiler how it is;
// remote.Client has it.
func New(profiler session.Runner, report func(context.Context) (remote.Report, error), o Options) (*Agent, error) {
	if err := o.Limits.Validate(); err != nil {
		return nil, err
	}
	a := &Agent{profiler: profiler, ask: report, address: o.Address, log: o.Log, changed: o.Changed, wake: make(chan struct{}, 1), wards: map[session.ID]*ward{}}
	if a.host = o.Host; a.host == "" {
		a.host, _ = os.Hostname() // no name is no reason to fail
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.changed == nil {
		a.changed = func(session.Session) {}
	}
	a.limits.Store(&o.Limits)
	a.status = Status{State: StateUnknown}
	a.ctx, a.end = context.WithCancel(context.Background())
	a.wg.Go(func() { a.follow(a.ctx) })
	return a, nil
}

// Close ends what the agent does by itself. Calls go on.
func (a *Agent) Close() {
	a.end()
	a.wg.Wait()
}

// Start asks the profiler, on behalf of whoever asks the agent.
func (a *Agent) Start(ctx context.Context, spec session.Spec) (session.Session, error) {
	if err := spec.Validate(); err != nil {
		return session.Session{}, err
	}
	if err := a.limits.Load().check(&spec); err != nil {
		return session.Session{}, err
	}
	if who, err := auth.PeerOf(ctx); err == nil { // without a peer it is this program that asks
		spec.Requester = cmp.Or(spec.Requester, who.Name())
	}
	a.here(&spec)
	started, err := within(a, ctx, func(ctx context.Context) (session.Session, error) { return a.profiler.Start(ctx, spec) })
	if g := session.GuardOf(ctx); err == nil && g != nil {
		a.watchOver(&started, g)
	}
	return started, err
}

// Get asks the profiler, as the next ones do.
func (a *Agent) Get(ctx context.Context, id session.ID) (session.Session, error) {
	return within(a, ctx, func(ctx context.Context) (session.Session, error) { return a.profiler.Get(ctx, id) })
}

// List is of session.Runner.
func (a *Agent) List(ctx context.Context, f session.Filter) ([]session.Session, error) {
	return within(a, ctx, func(ctx context.Context) ([]session.Session, error) { return a.profiler.List(ctx, f) })
}

// Cancel is of session.Runner. It waits for the names of what was sampled, and
// so for as long as the caller does.
func (a *Agent) Cancel(ctx context.Context, id session.ID) (session.Session, error) {
	s, err := a.profiler.Cancel(ctx, id)
	return s, a.outcome(ctx, err)
}

// Watch is of session.Runner. It lasts as long as the session does.
func (a *Agent) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) {
		for now, err := range a.profiler.Watch(ctx, id) {
			if !yield(now, a.outcome(ctx, err)) {
				return
			}
		}
	}
}

// Fetch is of session.Runner. The profile passes through as it is read.
func (a *Agent) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
	if want.Host == a.host {
		want.Host = ""
	}
	content, err := a.profiler.Fetch(ctx, id, want)
	if err = a.outcome(ctx, err); err != nil {
		return nil, err
	}
	passing := *content
	passing.Body = &body{content.Body, ctx, a}
	return &passing, nil
}

// within makes a call that must not take longer than is allowed, whatever the
// caller allows.
func within[A any](a *Agent, ctx context.Context, call func(context.Context) (A, error)) (A, error) {
	short, cancel := context.WithTimeout(ctx, time.Duration(a.limits.Load().CallTimeoutSeconds)*time.Second)
	defer cancel()
	answer, err := call(short)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = slow(err)
	}
	return answer, a.outcome(ctx, err)
}
