// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"io/fs"
	"slices"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Permit makes the recording ask of each target whether it may be sampled:
// before the first sample, when it has executed another program, and before
// samples of it are taken in. Call it before Start. The error of ask is
// fs.ErrNotExist where the process is gone.
//
// A session whose targets, children included, may not all be sampled does not
// start. One that is refused later is left out from then on, with a warning in
// the profile: a shell runs sudo, and what follows is root's.
func (r *Recording) Permit(ask func(process.ID) error) { r.c.permit = ask }

// permitted asks of all targets before the first sample.
func (c *collector) permitted() error {
	if c.permit == nil {
		return nil
	}
	for pid, t := range c.targets {
		err := c.permit(t.id)
		switch {
		case err == nil:
		case !errors.Is(err, fs.ErrNotExist):
			return err
		case c.named(pid):
			return noSuchProcess(pid)
		default: // a child that has just exited
			c.drop(t)
			c.forget(t)
		}
	}
	return c.anyLeft()
}

// reconsider asks again whether a target may be sampled. One that is gone can
// be nothing else than it was when last looked at, unless it has executed
// another program: then nobody can say what it was. c.mu is held.
func (c *collector) reconsider(t *target, executed bool) {
	if c.permit == nil || c.barred[t.id.PID] {
		return
	}
	err := c.permit(t.id)
	if err == nil || errors.Is(err, fs.ErrNotExist) && !executed {
		return
	}
	if c.barred == nil {
		c.barred = map[int]bool{}
	}
	c.barred[t.id.PID] = true
	t.barred, t.running = true, false
	c.drop(t)
	if !errors.Is(err, fs.ErrNotExist) {
		c.meta.Warn("a process was left out from some moment on: " + problemOf(err))
	}
}

// reconsiderAll does it for all, before the samples of a drain are taken in.
func (c *collector) reconsiderAll() {
	if c.permit == nil {
		return
	}
	for _, t := range c.targets {
		c.reconsider(t, false)
	}
}

// overBecause says why nothing is left to be sampled.
func (c *collector) overBecause() profile.Ended {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.barred) > 0 {
		return profile.EndedRevoked
	}
	return profile.EndedExited
}

// shut says whether a sample must not be taken in.
func (c *collector) shut(n *sampler.Count) bool { return c.barred[n.Thread.PID] }

func problemOf(err error) string {
	var e *session.Error
	if errors.As(err, &e) {
		return e.Problem
	}
	return err.Error()
}

// permit asks those whom a session serves whether a process may be sampled: for
// one of them is enough, who could have a session of his own.
func (s *Sessions) permit(r *run, id process.ID) (refusal error) {
	s.mu.Lock()
	guards := slices.Clone(r.guards)
	s.mu.Unlock()
	for _, g := range guards {
		if g == nil {
			return nil
		}
		if refusal = g.Permit(id.PID, id.Start); refusal == nil || errors.Is(refusal, fs.ErrNotExist) {
			return refusal
		}
	}
	return refusal
}

// tellGuards tells them how it ended, from a goroutine: they may write to what
// is slow.
func (s *Sessions) tellGuards(r *run) {
	guards, ended := r.guards, r.view()
	s.all.Go(func() {
		for _, g := range guards {
			if g != nil {
				g.Ended(ended)
			}
		}
	})
}
