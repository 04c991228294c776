// SPDX-License-Identifier: Apache-2.0

package access

import (
	"container/list"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate bounds how often each peer may ask. What is zero has its default.
type Rate struct {
	PerSecond float64 `json:"per_second"` // calls, in the long run: 20
	Burst     int     `json:"burst"`      // calls at once: 100
}

const (
	defaultPerSecond = 20
	defaultBurst     = 100
	maxPeers         = 1024 // that are remembered; who was not heard of for the longest time makes room
)

func (r *Rate) validate() error {
	if r.PerSecond < 0 || r.PerSecond > 1e6 || r.Burst < 0 || r.Burst > 1e6 {
		return bad(fmt.Sprintf("access.rate allows %g calls a second and %d at once", r.PerSecond, r.Burst), "choose from 0 (the default) to a million")
	}
	return nil
}

func (r *Rate) withDefaults() Rate {
	with := *r
	if with.PerSecond == 0 {
		with.PerSecond = defaultPerSecond
	}
	if with.Burst == 0 {
		with.Burst = defaultBurst
	}
	return with
}

// limiter counts calls by peer. It takes the same room however many there are.
type limiter struct {
	mu    sync.Mutex
	rate  Rate
	peers map[string]*list.Element // of *caller
	order list.List                // the last heard of first
}

type caller struct {
	name   string
	calls  *rate.Limiter
	told   time.Time // when it was last written down that it asks too often
	silent int       // refusals since
}

func newLimiter(r Rate) *limiter {
	return &limiter{rate: r.withDefaults(), peers: map[string]*list.Element{}}
}

// set changes the rate for all. What they have used up stays used up.
func (l *limiter) set(r Rate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = r.withDefaults()
	for e := l.order.Front(); e != nil; e = e.Next() {
		c := e.Value.(*caller).calls
		c.SetLimit(rate.Limit(l.rate.PerSecond))
		c.SetBurst(l.rate.Burst)
	}
}

// wait is for how long a peer has to wait before it may ask again; 0 lets this
// call through. tell says whether to write the refusal down, and how many were
// not before: who asks too often must not fill the disk either.
func (l *limiter) wait(name string) (wait time.Duration, tell bool, silent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.find(name)
	now := time.Now()
	r := c.calls.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait == 0 {
		return 0, false, 0
	}
	r.CancelAt(now)
	if now.Sub(c.told) < time.Second {
		c.silent++
		return wait, false, 0
	}
	silent, c.told, c.silent = c.silent, now, 0
	return wait, true, silent
}

func (l *limiter) find(name string) *caller {
	if e := l.peers[name]; e != nil {
		l.order.MoveToFront(e)
		return e.Value.(*caller)
	}
	if len(l.peers) >= maxPeers {
		oldest := l.order.Back()
		delete(l.peers, l.order.Remove(oldest).(*caller).name)
	}
	c := &caller{name: name, calls: rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)}
	l.peers[name] = l.order.PushFront(c)
	return c
}
