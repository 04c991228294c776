// SPDX-License-Identifier: Apache-2.0

// Package poller is a fleet of many hosts: a session.Fleet whose sessions
// survive what happens to it, to the hosts and to the network between them. A
// session is written down before anything is sent, each host is asked under a
// request ID that was written down, too, and what a host says is written down
// before anybody else hears it. So at any moment what is in the store is enough
// to go on: no session is lost, and none runs twice. Why, what it costs and
// where it ends is in docs/decisions/durable-sessions.md.
//
// A session is a [whole] of [part]s, one a host. A part waits for its place in
// the queue, where nobody owns it, or belongs to one goroutine, its tracker,
// which has the machine (machine.go) say what to do, does it, and writes down
// what came of it.
package poller

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
	"github.com/carverauto/serviceradar-profiler/store/files"
)

// Options are what a poller needs. The store is its caller's to close, after
// the poller.
type Options struct {
	Store  store.Store
	Files  *files.Files // where profiles lie
	Hosts  []HostConfig
	Limits Limits
	Spool  string       // directory for profiles in other forms, in files without a name; empty: that for temporary files
	Log    *slog.Logger // nil: no lines

	// Changed, if it is not nil, is told when a session begins to sample and
	// when it has ended; also of one that ended while no poller ran. It must be
	// quick, and ask nothing here.
	Changed func(session.Session)
}

// HostConfig is a host of the fleet.
type HostConfig struct {
	Name    string
	Address string // at which it is asked, for what is told of it
	Labels  map[string]string
	Fleet   session.Fleet // a fleet of one; mostly a remote.Client, which connects when it is first asked
}

// Health is how the poller itself is.
type Health struct {
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"` // why it is not
	Running int    `json:"running"`          // sessions
	Queued  int    `json:"queued"`
}

// Poller is a session.Fleet. It is safe for use by several goroutines.
//
// One lock guards what is in memory. It is held for moments only, never while a
// host is asked or anything is written.
type Poller struct {
	store   store.Store
	files   *files.Files
	spool   string
	log     *slog.Logger
	changed func(session.Session)
	ctx     context.Context // of all that goes on by itself
	end     context.CancelFunc
	all     sync.WaitGroup
	begun   time.Time

	mu       sync.Mutex
	limits   Limits
	stopping bool
	troubled error // why the store takes nothing, as far as is known
	hosts    map[string]*host
	names    []string // of hosts, in order
	wholes   map[session.ID]*whole
	requests map[string]*whole // by request ID, of those in memory
	number   uint64
	queue    []*whole // with parts that wait for a place, the oldest first
	placed   int      // places taken
	ended    endings
	notes    []func() // what unlock does when the lock is free

	storeErrors, collected uint64 // for Stats

	collecting chan struct{} // holds a value for each profile that is collected
	converting chan struct{} // while a profile is read again
	contents   contents      // profiles in other formats
	beats      beats
}

var _ session.Fleet = (*Poller)(nil)

// New is a poller that goes on with what is in the store.
func New(o Options) (*Poller, error) {
	if err := o.Limits.Validate(); err != nil {
		return nil, err
	}
	p := &Poller{store: o.Store, files: o.Files, spool: o.Spool, log: o.Log, changed: o.Changed, limits: o.Limits, begun: time.Now(),
		hosts: map[string]*host{}, wholes: map[session.ID]*whole{}, requests: map[string]*whole{},
		collecting: make(chan struct{}, o.Limits.MaxCollections), converting: make(chan struct{}, 1)}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.ctx, p.end = context.WithCancel(context.Background())
	p.beats = beats{calm: lane{most: calmAtOnce}, away: lane{most: awayAtOnce}, wake: make(chan struct{}, 1)}
	if err := p.SetHosts(o.Hosts); err != nil {
		return nil, err
	}
	if err := p.recover(); err != nil {
		p.end()
		p.all.Wait()
		return nil, fmt.Errorf("read the sessions: %w", err)
	}
	p.all.Go(p.beat)
	p.all.Go(p.expire)
	return p, nil
}

// Close ends what the poller does by itself. Sessions go on at their hosts, and
// whoever opens the store next goes on with them. The error is ctx's, if
// something had not ended by then.
func (p *Poller) Close(ctx context.Context) error {
	p.mu.Lock()
	p.stopping = true
	for _, w := range p.wholes {
		w.unattended.stop()
		w.waiting.stop()
		w.settle(stopping())
		w.tell()
	}
	p.mu.Unlock()
	p.end()
	over := make(chan struct{})
	go func() {
		p.all.Wait()
		close(over)
	}()
	select {
	case <-over:
		p.contents.close()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop the poller: %w", ctx.Err())
	}
}

func stopping() *session.Error {
	return &session.Error{Code: "service_stopping", Kind: session.ErrUnavailable, Problem: "the poller is about to stop", Remedy: "try again when it is back: sessions go on"}
}

// unlock ends what began with p.mu.Lock, where something may be told.
func (p *Poller) unlock() {
	notes := p.notes
	p.notes = nil
	p.mu.Unlock()
	for _, note := range notes {
		note()
	}
}

func (p *Poller) note(f func()) { p.notes = append(p.notes, f) }

// Limits are those in force.
func (p *Poller) Limits() Limits {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limits
}

// SetLimits changes them for all that is asked for from now on, and for what
// waits. How many profiles are collected at once stays.
func (p *Poller) SetLimits(l Limits) error {
	if err := l.Validate(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.unlock()
	l.MaxCollections = p.limits.MaxCollections
	p.limits = l
	p.dispatch()
	return nil
}

// Health tells whether sessions can be had.
func (p *Poller) Health() Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := Health{Healthy: true}
	for _, w := range p.wholes {
		switch w.state {
		case session.StateRunning:
			h.Running++
		case session.StatePending:
			h.Queued++
		}
	}
	switch {
	case p.stopping:
		h.Healthy, h.Reason = false, stopping().Problem
	case p.troubled != nil:
		h.Healthy, h.Reason = false, p.troubled.Error()
	}
	return h
}

// timer is a time.Timer that may not be there.
type timer struct{ *time.Timer }

func after(d time.Duration, f func()) timer { return timer{time.AfterFunc(d, f)} }

func (t timer) stop() {
	if t.Timer != nil {
		t.Stop()
	}
}
