// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"slices"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Snapshot is the profile so far, with names, of a session that goes on: its
// Meta.Ended is empty. Any goroutine may ask for one after Start; those who ask
// at once are served one after the other. When sampling is over it waits for
// what Run returns, and returns that. The session goes on meanwhile: names are
// looked for in a copy.
func (r *Recording) Snapshot(ctx context.Context) (*profile.Profile, error) {
	select {
	case r.naming <- struct{}{}:
	case <-r.ended:
		return r.result, r.err
	case <-r.closed:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p, err := r.snapshot()
	if p != nil || err != nil {
		return p, err
	}
	select {
	case <-r.ended:
		return r.result, r.err
	case <-r.closed:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var errClosed = &session.Error{Code: "session_over", Kind: session.ErrUnavailable, Problem: "the session was given up"}

// snapshot makes a profile unless sampling is over. r.naming is held, until it
// returns.
func (r *Recording) snapshot() (*profile.Profile, error) {
	defer func() { <-r.naming }() // also when a file makes a parser panic: Close waits for it
	select {
	case <-r.closed:
		return nil, errClosed
	default:
	}
	if r.ending.Load() {
		return nil, nil
	}
	p, err := r.c.copy()
	if err != nil {
		return nil, err
	}
	r.c.symbolize(p)
	p.Count()
	return p, nil
}

// copy is what was collected by now, without names.
func (c *collector) copy() (*profile.Profile, error) {
	if err := c.drain(); err != nil {
		return nil, err
	}
	c.draining.Lock()
	totals, err := c.totalsNow()
	c.draining.Unlock()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.builder.Profile()
	return &profile.Profile{
		Meta:      c.metadata(totals),
		Mappings:  slices.Clone(p.Mappings),
		Addresses: slices.Clone(p.Addresses),
		Samples:   slices.Clone(p.Samples), // the ids of their addresses never change
	}, nil
}
