// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/carverauto/serviceradar-profiler/session"
)

const (
	codeOK       = "ok"
	codeInternal = "internal"
	codeGone     = "call_ended" // whoever asked went away, or had no more time
	codeOther    = "other"
)

// codeOf is the label of an answer.
func (m *Metrics) codeOf(err error) string {
	var e *session.Error
	switch {
	case err == nil:
		return codeOK
	case errors.As(err, &e):
		return m.codes.bounded(e.Code)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return codeGone
	}
	return codeInternal
}

// maxCodes bounds the codes that are told apart. Ours are fewer; whatever goes
// wrong, a stranger cannot make more of them.
const maxCodes = 128

// codes are those that were seen.
type codes struct {
	mu   sync.Mutex
	seen map[string]bool
}

// bounded is the code, or one that stands for all others.
func (c *codes) bounded(code string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[code] {
		return code
	}
	if code == "" || len(code) > 64 || len(c.seen) >= maxCodes {
		return codeOther
	}
	if c.seen == nil {
		c.seen = map[string]bool{}
	}
	c.seen[code] = true
	return code
}

// has says whether a code was seen.
func (c *codes) has(code string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[code]
}

// Runner counts the calls to a fleet, by their answers. What it stands before
// is all that refuses: put it outermost.
func (m *Metrics) Runner(r session.Fleet) session.Fleet {
	if m == nil {
		return r
	}
	return &runner{m, r}
}

type runner struct {
	m *Metrics
	r session.Fleet
}

func (c *runner) answered(call string, err error) {
	c.m.calls.WithLabelValues(call, c.m.codeOf(err)).Inc()
}

func (c *runner) Start(ctx context.Context, spec session.Spec) (session.Session, error) {
	s, err := c.r.Start(ctx, spec)
	c.answered("start", err)
	return s, err
}

func (c *runner) Get(ctx context.Context, id session.ID) (session.Session, error) {
	s, err := c.r.Get(ctx, id)
	c.answered("get", err)
	return s, err
}

func (c *runner) List(ctx context.Context, f session.Filter) ([]session.Session, error) {
	all, err := c.r.List(ctx, f)
	c.answered("list", err)
	return all, err
}

// Watch is counted at its end.
func (c *runner) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) {
		var last error
		defer func() { c.answered("watch", last) }()
		for s, err := range c.r.Watch(ctx, id) {
			last = err
			if !yield(s, err) {
				return
			}
		}
	}
}

func (c *runner) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
	content, err := c.r.Fetch(ctx, id, want)
	c.answered("fetch", err)
	return content, err
}

func (c *runner) Cancel(ctx context.Context, id session.ID) (session.Session, error) {
	s, err := c.r.Cancel(ctx, id)
	c.answered("cancel", err)
	return s, err
}

func (c *runner) Hosts(ctx context.Context, h session.Hosts) ([]session.Host, error) {
	all, err := c.r.Hosts(ctx, h)
	c.answered("hosts", err)
	return all, err
}

func (c *runner) Processes(ctx context.Context, host string, s session.Selector, most int) ([]session.Process, error) {
	all, err := c.r.Processes(ctx, host, s, most)
	c.answered("processes", err)
	return all, err
}

func (c *runner) Match(ctx context.Context, spec session.Spec) ([]session.Match, error) {
	all, err := c.r.Match(ctx, spec)
	c.answered("match", err)
	return all, err
}
