// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// host is what is known of one host. Poller.mu guards it.
type host struct {
	name    string
	address string
	labels  map[string]string
	fleet   session.Fleet
	removed bool

	state    session.HostState
	since    time.Time
	err      *session.Error
	version  string
	instance string
	others   int // sessions that run there, and are not ours
	ours     int
	sitting  int           // queued there
	heard    time.Time     // when it last answered
	asked    chan struct{} // closed when it was asked once
	tries    int           // in vain
	beat     beat

	placed  int
	targets map[string]int     // sampled there for us
	queued  []*part            // in the order of the queue
	active  map[*part]struct{} // that have a tracker
}

// away says that there is no use in sending it anything now.
func (h *host) away() bool { return h.state == session.HostAway }

// place is a part's place among those that wait for the host.
func (h *host) place(t *part) int { return slices.Index(h.queued, t) + 1 }

// most is how many sessions sample one of the targets.
func (h *host) most(targets []string) int {
	most := 0
	for _, key := range targets {
		most = max(most, h.targets[key])
	}
	return most
}

// SetHosts changes which hosts there are. What runs on one that is not there any
// more fails, at the poller; at the host it ends by itself.
func (p *Poller) SetHosts(all []HostConfig) error {
	names := map[string]bool{}
	for _, c := range all {
		if c.Name == "" || c.Fleet == nil || names[c.Name] {
			return session.Invalid("bad_host", fmt.Sprintf("the host %q has no name, no client, or is there twice", c.Name), "give each host a name of its own (agents)")
		}
		names[c.Name] = true
	}
	p.mu.Lock()
	defer p.unlock()
	for _, c := range all {
		h := p.hosts[c.Name]
		if h == nil {
			h = &host{name: c.Name, state: session.HostUnknown, since: time.Now(), asked: make(chan struct{}), targets: map[string]int{}, active: map[*part]struct{}{}}
			p.hosts[c.Name] = h
			p.beats.add(h, soonAmong(len(all)))
		}
		if h.fleet != c.Fleet && h.fleet != nil {
			h.tries = 0
			p.beats.soon(h, 0)
		}
		h.address, h.labels, h.fleet = c.Address, c.Labels, c.Fleet
	}
	p.names = p.names[:0]
	for name, h := range p.hosts {
		if names[name] {
			p.names = append(p.names, name)
			continue
		}
		p.removeHost(h)
	}
	slices.Sort(p.names)
	return nil
}

// removeHost ends what a host was to do. p.mu is held.
func (p *Poller) removeHost(h *host) {
	h.removed = true
	delete(p.hosts, h.name)
	p.beats.remove(h)
	for _, t := range slices.Clone(h.queued) {
		if t.whole.durable {
			p.giveUp(t, hostRemoved(h.name))
		}
	}
	for t := range h.active {
		t.nudge()
	}
}

// met takes in what a host told of itself, and says in which life it is.
func (p *Poller) met(h *host, told []session.Host) (instance string, err error) {
	if len(told) != 1 {
		err = &session.Error{Code: "not_one_host", Kind: session.ErrInvalid, Problem: fmt.Sprintf("what answers at %s stands for %d hosts", h.address, len(told)), Remedy: "name the address of an agent or of a profiler"}
		p.heard(h, sawRefusal, err.(*session.Error))
		return "", err
	}
	of := told[0]
	if of.Instance == "" || of.State == session.HostAway {
		e := of.Err
		if e == nil {
			e = &session.Error{Code: "profiler_unavailable", Kind: session.ErrUnavailable, Problem: "the profiler of that host does not answer its agent", Remedy: "see whether it runs"}
		}
		p.heard(h, sawNothing, e)
		return "", e
	}
	p.mu.Lock()
	h.version, h.instance, h.others, h.sitting = of.Version, of.Instance, max(0, of.Running-h.ours), of.Queued
	p.mu.Unlock()
	if of.State == session.HostUnhealthy {
		p.turn(h, session.HostUnhealthy, of.Err)
	} else {
		p.turn(h, session.HostReady, nil)
	}
	return of.Instance, nil
}

// heard notes what a call says of its host.
func (p *Poller) heard(h *host, s sight, e *session.Error) {
	switch {
	case s == sawNothing || s == sawStopping:
		if p.ctx.Err() == nil {
			p.turn(h, session.HostAway, e)
		}
	case s == sawRefusal && e.Code == "no_profiling":
		p.turn(h, session.HostUnsupported, e)
	default:
		p.turn(h, "", nil)
	}
}

// turn notes the state of a host; an empty one means that it answered. Where it
// is back, who waits for it is woken.
func (p *Poller) turn(h *host, to session.HostState, why *session.Error) {
	p.mu.Lock()
	defer p.unlock()
	was := h.state
	if to == "" {
		if to = was; was == session.HostAway || was == session.HostUnknown {
			to = session.HostReady
		}
	}
	if to == session.HostAway {
		h.tries++
		h.instance = "" // it may be another life when it is back
		p.beats.soon(h, seconds(p.limits.HeartbeatSeconds))
	} else {
		h.tries, h.heard = 0, time.Now()
	}
	if to != was || why != nil {
		h.err = why
	}
	if to == was {
		return
	}
	h.state, h.since = to, time.Now()
	p.note(func() { p.logHost(h.name, was, to, why) })
	if was == session.HostAway {
		p.wakeAll(h)
	}
}

// wakeAll lets those who wait for a host try at once. p.mu is held.
func (p *Poller) wakeAll(h *host) {
	for t := range h.active {
		t.nudge()
	}
	p.dispatch()
}

func (p *Poller) logHost(name string, was, to session.HostState, why *session.Error) {
	switch {
	case to == session.HostReady && was == session.HostUnknown:
		p.log.Debug("host is ready", "host", name)
	case to == session.HostReady:
		p.log.Info("host is ready again", "host", name)
	case why != nil:
		p.log.Warn("host is "+string(to), "host", name, "code", why.Code, "error", why.Error())
	}
}

// firstAnswer is for how long Hosts waits for hosts that were not asked yet.
const firstAnswer = 2 * time.Second

// Hosts tells of the hosts that are meant, as they were when they last answered.
func (p *Poller) Hosts(ctx context.Context, of session.Hosts) ([]session.Host, error) {
	if err := of.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if of.Empty() || len(of.Names) == 0 && of.Labels == "" {
		of.All = true
	}
	p.mu.Lock()
	var meant []*host
	for _, name := range p.names {
		if h := p.hosts[name]; of.Mean(name, h.labels) {
			meant = append(meant, h)
		}
	}
	p.mu.Unlock()
	if of.Most > 0 && of.Most < len(meant) {
		meant = meant[:of.Most]
	}
	late, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	for _, h := range meant {
		select {
		case <-h.asked:
		case <-late.Done():
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []session.Host
	for _, h := range meant {
		all = append(all, h.view())
	}
	return all, nil
}

func (h *host) view() session.Host {
	return session.Host{Name: h.name, Address: h.address, Labels: h.labels, State: h.state, Since: h.since, Version: h.version,
		Running: h.others + h.ours, Queued: h.sitting, Err: h.err, Instance: h.instance}
}

// Processes lists those of a host, as it answers.
func (p *Poller) Processes(ctx context.Context, name string, s session.Selector, most int) ([]session.Process, error) {
	of := session.Hosts{}
	if name != "" {
		of.Names = []string{name}
	}
	p.mu.Lock()
	meant, err := p.mean(of)
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if len(meant) > 1 {
		return nil, session.Invalid("no_host", fmt.Sprintf("%q means %d hosts", name, len(meant)), "name one")
	}
	h := meant[0]
	fleet := p.fleetOf(h)
	all, err := fleet.Processes(ctx, "", s, most)
	return all, p.about(ctx, h, err)
}

func (p *Poller) fleetOf(h *host) session.Fleet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return h.fleet
}

// about notes what an error says of a host, and names the host in it.
func (p *Poller) about(ctx context.Context, h *host, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	s, e := outcome(err)
	p.heard(h, s, e)
	if s == sawNothing || s == sawStopping || e.Code == "no_profiling" {
		return &session.Error{Code: e.Code, Kind: e.Kind, Problem: h.name + ": " + e.Problem, Cause: e.Cause, Remedy: e.Remedy, RetryAfter: e.RetryAfter}
	}
	return err
}

// asksAtOnce bounds how many hosts are asked at the same time for one caller.
const asksAtOnce = 64

// Match asks each host that is meant what a spec means there.
func (p *Poller) Match(ctx context.Context, spec session.Spec) ([]session.Match, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	hosts, err := p.choose(&spec)
	commands := map[*host]string{}
	if w := p.requests[spec.RequestID]; err == nil && w != nil { // it means what it meant
		for _, t := range w.parts {
			commands[t.host] = t.run.Command
		}
	}
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	matches := make([]session.Match, len(hosts))
	room := make(chan struct{}, asksAtOnce)
	var all sync.WaitGroup
	for i, h := range hosts {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			matches[i] = p.match(ctx, h, spec, commands[h])
		})
	}
	all.Wait()
	return matches, ctx.Err()
}

func (p *Poller) match(ctx context.Context, h *host, spec session.Spec, command string) session.Match {
	spec.Hosts, spec.RequestID = session.Hosts{}, command
	ctx, cancel := context.WithTimeout(ctx, p.callTimeout())
	defer cancel()
	told, err := p.fleetOf(h).Match(ctx, spec)
	if err == nil && len(told) == 1 {
		return session.Match{Host: h.name, PIDs: told[0].PIDs, Err: told[0].Err}
	}
	m := session.Match{Host: h.name, Err: &session.Error{Code: "host_error", Kind: session.ErrUnavailable, Problem: "the host does not tell", Cause: err}}
	if err = p.about(ctx, h, err); err != nil {
		_ = errors.As(err, &m.Err) // else it stays as it is
	}
	return m
}
