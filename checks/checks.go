// SPDX-License-Identifier: Apache-2.0

// Package checks is what a poller of ServiceRadar does: it asks the agents of
// its configuration for their checks, again and again, and reports to core what
// they say, as ServiceRadar's own poller does it (docs/serviceradar.md). Checks
// of type profiler are ours: how profiling stands on a host, and profiles by a
// schedule.
//
// What an agent says waits in a queue on disk until core has it. An agent is
// never polled twice at a time, and one that does not answer keeps no other one
// waiting.
package checks

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store/queue"
)

// Options are what checks need.
type Options struct {
	Config Config
	Agents map[string]*serviceradar.AgentClient // one for each of Config.Agents that has checks
	Core   *serviceradar.CoreClient
	// Fleet is whom checks of type profiler are about, the hosts by the names of
	// Config.Agents. nil: such checks ask the agents, as real pollers do.
	Fleet   session.Fleet
	Queue   *queue.Queue // of reports
	Dir     string       // for what is remembered of scheduled profiles
	Version string
	Log     *slog.Logger // nil: no lines
	// Former are checks that have ended, with another configuration: what they
	// remember is taken over. They have the same Queue and Dir.
	Former *Checks
}

// Checks asks, and reports.
type Checks struct {
	config   Config
	interval time.Duration
	sourceIP string
	agents   []*agent // by name
	core     *serviceradar.CoreClient
	queue    *queue.Queue
	profiler *profiling
	reported *reported
	log      *slog.Logger

	waiting collector
	outbox  outbox
}

// agent is one with its checks, and what is remembered of it.
type agent struct {
	name    string
	client  *serviceradar.AgentClient
	where   *whereabouts
	status  []Check
	results []*resultsCheck
	after   time.Duration // the beginning of a poll it is asked

	ill  bool // what its health was last
	left bool // out of the poll before, because it had not answered; of Run's goroutine
}

// New is ready to Run. The configuration must be valid.
func New(o Options) (*Checks, error) {
	if key, err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	c := &Checks{config: o.Config, interval: o.Config.interval(), sourceIP: sourceIP(o.Config.SourceIP, o.Config.CoreAddress), core: o.Core, queue: o.Queue, log: o.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.reported, err = openReported(o.Dir); err != nil {
		return nil, err
	}
	c.profiler = newProfiling(o.Fleet, o.Version, c.interval)
	for _, name := range slices.Sorted(maps.Keys(o.Config.Agents)) {
		settings := o.Config.Agents[name]
		if len(settings.Checks) == 0 {
			continue
		}
		client := o.Agents[name]
		if client == nil {
			return nil, fmt.Errorf("agent %s has checks, and there is nobody to ask for them", name)
		}
		a := &agent{name: name, client: client, where: newWhereabouts(settings.Address, c.sourceIP)}
		for _, check := range settings.Checks {
			if check.ResultsInterval == nil {
				a.status = append(a.status, check)
				continue
			}
			a.results = append(a.results, c.resultsCheck(a, check))
		}
		c.agents = append(c.agents, a)
	}
	c.forget()
	c.outbox.wake, c.outbox.refused = make(chan struct{}, 1), c.reported.refused()
	if o.Former != nil {
		c.inherit(o.Former)
	}
	for _, a := range c.agents {
		a.after = jitter(a.name, spread(c.interval, len(c.agents)))
	}
	return c, nil
}

// forget lets go what was reported of checks that are none any more.
func (c *Checks) forget() {
	scheduled := map[string]bool{}
	for _, a := range c.agents {
		for _, r := range a.results {
			if r.schedule != nil {
				scheduled[r.schedule.key] = true
			}
		}
	}
	c.reported.keep(scheduled)
}

// inherit goes on where former checks ended: results are due when they would
// have been.
func (c *Checks) inherit(former *Checks) {
	before := map[[3]string]*resultsCheck{}
	for _, a := range former.agents {
		for _, r := range a.results {
			before[[3]string{a.name, r.Type, r.Name}] = r
		}
	}
	for _, a := range c.agents {
		for _, r := range a.results {
			if was := before[[3]string{a.name, r.Type, r.Name}]; was != nil {
				was.mu.Lock()
				r.last, r.sequence = was.last, was.sequence
				was.mu.Unlock()
			}
		}
	}
	former.outbox.mu.Lock()
	defer former.outbox.mu.Unlock()
	c.outbox.refused, c.outbox.state, c.outbox.unsaved = former.outbox.refused, former.outbox.state, former.outbox.unsaved
}

// spread is within what time the agents of one poll are begun with: not at one
// moment, and a poller with few of them is in no way slower.
func spread(interval time.Duration, agents int) time.Duration {
	return min(interval/10, time.Duration(agents-1)*10*time.Millisecond)
}

// jitter is where in that time an agent has its place. It is always the same
// one, so that its polls are as far apart as the others'.
func jitter(name string, within time.Duration) time.Duration {
	if within <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return time.Duration(h.Sum64() % uint64(within))
}

// Run polls and reports until ctx is over. What is on its way then is not
// reported, and is asked for again by who comes after; what was reported and not
// taken stays in the queue.
func (c *Checks) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer func() {
		wg.Wait()
		for _, f := range c.waiting.take() {
			if f.lost != nil {
				f.lost()
			}
		}
	}()
	wg.Go(func() { c.deliver(ctx) })
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	for {
		c.poll(ctx, &wg)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// patience is how long a report waits for agents that do not answer. What they
// say later is in the next one.
func (c *Checks) patience() time.Duration { return min(10*time.Second, c.interval/2) }

// poll asks all agents that are not being asked, and reports what all said since
// the last report.
func (c *Checks) poll(ctx context.Context, wg *sync.WaitGroup) {
	began := time.Now()
	for _, a := range c.agents {
		if !c.waiting.begin(a) {
			if !a.left {
				c.log.Warn("an agent is still being polled, so it is left out until it has answered", "agent", a.name)
			}
			a.left = true
			continue
		}
		a.left = false
		wg.Go(func() {
			defer c.waiting.end(a)
			if pause(ctx, a.after) {
				c.ask(ctx, a)
			}
		})
	}
	c.waiting.wait(ctx, c.patience())
	if ctx.Err() == nil {
		c.report(began)
	}
}

// pause waits; it says whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// What an agent has for its answers: the two deadlines are those of real
// pollers.
const (
	healthWithin  = 5 * time.Second
	checksWithin  = 30 * time.Second
	resultsWithin = 30 * time.Second
)

// ask polls one agent: its health, its status checks at the same time, then
// the results that are due. What is there is handed in at once.
func (c *Checks) ask(ctx context.Context, a *agent) {
	c.askHealth(ctx, a)
	a.where.find(ctx)
	c.together(ctx, checksWithin, len(a.status), func(ctx context.Context, i int) *finding { return c.status(ctx, a, i) })
	due := slices.DeleteFunc(slices.Clone(a.results), func(r *resultsCheck) bool { return !r.due(time.Now()) })
	c.together(ctx, resultsWithin, len(due), func(ctx context.Context, i int) *finding { return c.results(ctx, a, due[i]) })
}

// together makes checks at the same time, under one deadline.
func (c *Checks) together(ctx context.Context, within time.Duration, n int, check func(context.Context, int) *finding) {
	short, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if f := check(short, i); f != nil {
				c.waiting.add(f)
			}
		})
	}
	wg.Wait()
}

// askHealth only warns: an agent that says it is ill may know more than one
// that says nothing.
func (c *Checks) askHealth(ctx context.Context, a *agent) {
	short, cancel := context.WithTimeout(ctx, healthWithin)
	defer cancel()
	err := a.client.Health(short)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && !a.ill:
		c.log.Warn("an agent is not healthy", "agent", a.name, "error", err.Error())
	case err == nil && a.ill:
		c.log.Info("an agent is healthy again", "agent", a.name)
	}
	a.ill = err != nil
}
