// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// point is where a poller crashes: at the nth call of that name, to a host or to
// the store, before or after it was done.
type point struct {
	call  string
	nth   int
	after bool
}

func (p point) String() string {
	when := "before"
	if p.after {
		when = "after"
	}
	return fmt.Sprintf("%s %s %d", when, p.call, p.nth)
}

// trap hangs a call at a point, once.
type trap struct {
	point
	mu     sync.Mutex
	seen   map[string]int
	caught chan struct{}
}

func (p point) trap() *trap {
	return &trap{point: p, seen: map[string]int{}, caught: make(chan struct{})}
}

// hang says whether a call is the one.
func (t *trap) hang(call string, done bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if call != t.call || done != t.after {
		return false
	}
	if t.seen[call]++; t.seen[call] != t.nth {
		return false
	}
	close(t.caught)
	return true
}

// trapped is the real store, in which calls may hang.
type trapped struct {
	store.Store
	*trap
}

func (s *trapped) do(ctx context.Context, call string, do func() error) error {
	if s.hang(call, false) {
		<-ctx.Done()
		return ctx.Err()
	}
	err := do()
	if s.hang(call, true) {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (s *trapped) Create(ctx context.Context, r *store.Record) error {
	return s.do(ctx, "Create", func() error { return s.Store.Create(ctx, r) })
}

func (s *trapped) Update(ctx context.Context, r *store.Record) error {
	return s.do(ctx, "Update", func() error { return s.Store.Update(ctx, r) })
}

func (s *trapped) UpdateRun(ctx context.Context, id session.ID, r *store.Run) error {
	return s.do(ctx, "UpdateRun", func() error { return s.Store.UpdateRun(ctx, id, r) })
}

// points are all places where a poller may die while it has a session.
func points(hosts int) []point {
	var all []point
	for _, after := range []bool{false, true} {
		all = append(all, point{"Create", 1, true}, point{"Start", 1, after}, point{"Get", 1, after}, point{"Get", 20, after}, point{"Fetch", 1, after},
			point{"Update", 1, after}, point{"Update", 2, after})
		for n := 1; n <= 3*hosts; n++ {
			all = append(all, point{"UpdateRun", n, after})
		}
	}
	return all
}

// A poller that dies at any moment loses nothing and begins nothing twice: the
// next one over the same store goes on, and the profiles are there.
func TestCrashAtEachState(t *testing.T) {
	for _, hosts := range []int{1, 3} {
		for _, at := range points(hosts) {
			for _, restart := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d hosts, %v, restart %v", hosts, at, restart), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { crashAt(t, hosts, at, restart) })
				})
			}
		}
	}
}

func crashAt(t *testing.T, hosts int, at point, restart bool) {
	trap := at.trap()
	f := newFleet(t, hosts, nil)
	f.crash()
	f.wrap = func(s store.Store) store.Store { return &trapped{s, trap} }
	for _, d := range f.hosts {
		d.hang = trap.hang
	}
	f.open()
	f.wrap = nil
	time.Sleep(time.Second)
	asked := everywhere(10 * time.Second)
	asked.RequestID = "once"
	var all sync.WaitGroup
	all.Go(func() {
		_, _ = f.Start(t.Context(), asked) // its answer may be lost
	})
	select {
	case <-trap.caught:
	case <-time.After(time.Minute):
		t.Fatalf("it never came to %v", at)
	}
	f.crash()
	all.Wait()
	for _, d := range f.hosts {
		d.set(func() { d.hang = nil })
	}
	if restart {
		f.hosts[0].restart()
	}
	f.open()
	defer f.crash()
	again := f.start(asked) // who missed the answer asks again
	last := f.ended(again.ID)
	everything, err := f.List(t.Context(), session.Filter{})
	if err != nil || len(everything) != 1 {
		t.Errorf("%d sessions, %v", len(everything), err)
	}
	want := session.StateSucceeded
	if h := last.Hosts[0]; restart && h.State == session.StateFailed {
		wants(t, h.Err, session.ErrUnavailable, "profiler_restarted")
		if hosts == 1 {
			want = session.StateFailed
		}
	}
	if last.State != want {
		t.Errorf("%+v", last)
	}
	if want == session.StateSucceeded {
		c, err := f.Fetch(t.Context(), last.ID, session.Want{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c.Body); err != nil {
			t.Error(err)
		}
	}
	f.once()
}

// chaos is a fleet to which everything happens.
type chaos struct {
	*fleet
	asked   map[string]session.Spec
	known   map[string]session.ID // by request ID, of those that were answered
	mu      sync.Mutex
	random  *rand.Rand
	trouble bool
}

// TestChaos lets pollers crash, hosts go and come and be started again, calls be
// lost, and requests be made twice, and then counts.
func TestChaos(t *testing.T) {
	n := uint64(15)
	if testing.Short() {
		n = 5
	}
	for seed := *firstSeed; seed < *firstSeed+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &chaos{fleet: newFleet(t, 4, func(l *Limits) { l.MaxSessionsPerHost, l.MaxHostsAtOnce = 2, 6 }), random: rand.New(rand.NewPCG(seed, 1)),
					asked: map[string]session.Spec{}, known: map[string]session.ID{}, trouble: true}
				c.play()
			})
		})
	}
}

// chance is one in n, while there is trouble.
func (c *chaos) chance(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble && c.random.IntN(n) == 0
}

// IntN is that of rand.Rand; hosts ask for it, too.
func (c *chaos) IntN(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(n)
}

func (c *chaos) play() {
	for _, d := range c.hosts {
		d.set(func() { d.lose = func(string, bool) bool { return c.chance(12) } })
	}
	for range 120 {
		c.event()
		time.Sleep(time.Duration(c.IntN(3000)) * time.Millisecond)
	}
	c.mu.Lock()
	c.trouble = false
	c.mu.Unlock()
	for _, d := range c.hosts {
		d.set(func() { d.down = false })
	}
	for id := range c.asked { // who does not know what became of his request asks again
		c.request(id)
	}
	c.count()
	c.crash()
}

func (c *chaos) event() {
	d := c.hosts[c.IntN(len(c.hosts))]
	switch n := c.IntN(20); {
	case n < 6:
		id := fmt.Sprint("request ", len(c.asked))
		s := spec(time.Duration(1+c.IntN(40)) * time.Second)
		s.RequestID = id
		s.Frequency += 1 // so that it is another one
		s.Select.Name = id
		if s.Hosts.All = c.IntN(2) == 0; !s.Hosts.All {
			s.Hosts.Names = []string{d.name}
		}
		s.Canary = c.IntN(5) == 0
		c.asked[id] = s
		c.request(id)
	case n < 9 && len(c.asked) > 0:
		c.request(fmt.Sprint("request ", c.IntN(len(c.asked))))
	case n < 11:
		for _, id := range c.known {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, _ = c.Cancel(ctx, id) // it may not be answered, and is done all the same
			cancel()
			break
		}
	case n < 13:
		c.crash()
		c.open()
	case n < 14:
		d.restart()
	case n < 16:
		d.set(func() { d.down = !d.down })
	}
}

// request asks for a session, the first time or again.
func (c *chaos) request(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+c.IntN(3000))*time.Millisecond)
	if !c.trouble {
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), time.Hour)
	}
	defer cancel()
	now, err := c.Start(ctx, c.asked[id])
	if err != nil {
		if !c.trouble && !errors.Is(err, session.ErrBusy) {
			c.Errorf("%s: %v", id, err)
		}
		return
	}
	if before, ok := c.known[id]; ok && before != now.ID {
		c.Errorf("%s led to %s and to %s", id, before, now.ID)
	}
	c.known[id] = now.ID
}

// count waits until all have ended, and counts.
func (c *chaos) count() {
	by := map[session.State]int{}
	for id, of := range c.known {
		last := c.ended(of)
		by[last.State]++
		if last.State != session.StateSucceeded && last.Err == nil {
			c.Errorf("%s: no reason: %+v", id, last)
		}
		for _, h := range last.Hosts {
			if h.State == session.StateSucceeded {
				content, err := c.Fetch(context.Background(), of, session.Want{Host: h.Host})
				if err != nil {
					c.Errorf("%s: %v", id, err)
					continue
				}
				if _, err := io.Copy(io.Discard, content.Body); err != nil {
					c.Error(err)
				}
			} else if h.Err == nil {
				c.Errorf("%s on %s: no reason", id, h.Host)
			}
		}
	}
	all, err := c.List(context.Background(), session.Filter{})
	if err != nil || len(all) != by[session.StateSucceeded]+by[session.StateFailed]+by[session.StateCanceled] {
		c.Errorf("%d sessions, and %v: %v", len(all), by, err)
	}
	c.once()
	c.Poller.mu.Lock()
	defer c.Poller.mu.Unlock()
	if c.placed != 0 || len(c.queue) != 0 {
		c.Errorf("%d places are taken, %d wait", c.placed, len(c.queue))
	}
	c.Logf("%v", by)
}
