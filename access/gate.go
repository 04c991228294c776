// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"iter"
	"log/slog"
	"sync/atomic"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Gate is a runner before a runner: what is allowed goes through, anything else
// is refused. It is a fleet where what is behind it is one. It is safe for use
// by several goroutines.
type Gate struct {
	runner session.Runner
	remote bool // processes are those of other hosts
	audit  *slog.Logger
	policy atomic.Pointer[Policy]
	rate   *limiter
}

// New is the gate before a runner of this host. Each decision becomes a line of audit, which
// must take lines of level Info and write them so that nothing in a value can
// look like another line (as JSON does). A nil policy allows nobody anything.
func New(runner session.Runner, policy *Policy, audit *slog.Logger) (*Gate, error) {
	return newGate(runner, false, policy, audit)
}

func newGate(runner session.Runner, remote bool, policy *Policy, audit *slog.Logger) (*Gate, error) {
	g := &Gate{runner: runner, remote: remote, audit: audit, rate: newLimiter(Rate{})}
	if policy == nil {
		policy = &Policy{}
	}
	return g, g.SetPolicy(policy)
}

// SetPolicy changes who may do what, from the next call on; also for sessions
// that wait for their turn or run. A policy that is not valid changes nothing.
func (g *Gate) SetPolicy(p *Policy) error {
	validate := p.Validate
	if g.remote {
		validate = p.ValidateFleet
	}
	if err := validate(); err != nil {
		return err
	}
	g.policy.Store(p)
	g.rate.set(p.Rate)
	return nil
}

// Start lets through who may start sessions, for himself or for others, of
// processes that his role may have sampled.
func (g *Gate) Start(ctx context.Context, spec session.Spec) (started session.Session, err error) {
	c, err := g.admit(ctx, call{name: "start", spec: &spec}, PermissionStart)
	if err != nil {
		return session.Session{}, err
	}
	defer func() { c.decided(started.ID, err) }()
	if err := spec.Validate(); err != nil {
		return session.Session{}, c.passOn(err) // it is not for the gate to refuse
	}
	if err := c.mayAskFor(spec.Requester); err != nil {
		return session.Session{}, err
	}
	if g.remote {
		if err := c.mayUse(ctx, spec.Hosts); err != nil {
			return session.Session{}, err
		}
		started, err = g.runner.Start(session.WithGuard(ctx, &fleetGuard{guard{c}}), spec)
		return started, c.passOn(err)
	}
	if len(spec.PIDs) == 0 {
		if err := c.resolve(ctx, &spec); err != nil {
			return session.Session{}, c.passOn(err)
		}
	}
	if err := c.mayProfileAll(spec.PIDs); err != nil {
		return session.Session{}, err
	}
	started, err = g.runner.Start(session.WithGuard(ctx, &guard{c}), c.passedOn(spec))
	return started, c.passOn(err)
}

// passedOn is a spec whose processes were found here, as it is passed on: whose
// guard need not look at them, may have others by the session's turn, also in
// another process.
func (c *call) passedOn(spec session.Spec) session.Spec {
	if spec.Again && !spec.Select.Hottest && c.free() {
		spec.PIDs = nil
	}
	return spec
}

// Get lets through who may read.
func (g *Gate) Get(ctx context.Context, id session.ID) (session.Session, error) {
	c, err := g.admit(ctx, call{name: "get", session: id}, PermissionRead)
	if err != nil {
		return session.Session{}, err
	}
	s, err := g.runner.Get(ctx, id)
	c.decided(id, c.passOn(err))
	return s, err
}

// List lets through who may read.
func (g *Gate) List(ctx context.Context, f session.Filter) ([]session.Session, error) {
	c, err := g.admit(ctx, call{name: "list"}, PermissionRead)
	if err != nil {
		return nil, err
	}
	all, err := g.runner.List(ctx, f)
	c.decided("", c.passOn(err))
	return all, err
}

// Watch lets through who may read.
func (g *Gate) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) {
		c, err := g.admit(ctx, call{name: "watch", session: id}, PermissionRead)
		if err != nil {
			yield(session.Session{}, err)
			return
		}
		told := false
		for now, err := range g.runner.Watch(ctx, id) {
			if !told {
				c.decided(id, c.passOn(err))
				told = true
			}
			if !yield(now, err) {
				return
			}
		}
	}
}

// Fetch lets through who may read.
func (g *Gate) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
	c, err := g.admit(ctx, call{name: "fetch", session: id}, PermissionRead)
	if err != nil {
		return nil, err
	}
	content, err := g.runner.Fetch(ctx, id, want)
	c.decided(id, c.passOn(err))
	return content, err
}

// Cancel lets through who may cancel.
func (g *Gate) Cancel(ctx context.Context, id session.ID) (session.Session, error) {
	c, err := g.admit(ctx, call{name: "cancel", session: id}, PermissionCancel)
	if err != nil {
		return session.Session{}, err
	}
	s, err := g.runner.Cancel(ctx, id)
	c.decided(id, c.passOn(err))
	return s, err
}

func notPermitted(code, problem, remedy string) *session.Error {
	return &session.Error{Code: code, Kind: session.ErrForbidden, Problem: problem, Remedy: remedy}
}
