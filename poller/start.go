// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
	"github.com/carverauto/serviceradar-profiler/tracing"
)

// Start begins a session on the hosts that are meant, or joins one; see
// [session.Runner]. It returns when the first of them samples, or when all wait
// or have failed. What the only host refuses is refused, and leaves no session.
//
// That ctx ends meanwhile stops nothing: who asks again finds it.
func (p *Poller) Start(ctx context.Context, spec session.Spec) (session.Session, error) {
	if err := spec.Validate(); err != nil {
		return session.Session{}, err
	}
	limits := p.Limits()
	if err := limits.check(&spec); err != nil {
		return session.Session{}, err
	}
	if err := ctx.Err(); err != nil {
		return session.Session{}, err
	}
	if who, err := auth.PeerOf(ctx); err == nil { // without a peer it is this program that asks
		spec.Requester = cmp.Or(spec.Requester, who.Name())
	}
	spec.PIDs, spec.Hosts.Names = slices.Clone(spec.PIDs), slices.Clone(spec.Hosts.Names)
	if known, err := p.requested(ctx, &spec); known != nil || err != nil {
		return known.session(), err
	}
	w, err := p.admit(ctx, spec)
	if err != nil {
		return session.Session{}, err
	}
	select {
	case <-w.settled:
	case <-ctx.Done():
		return session.Session{}, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return w.view(), w.refused
}

// known is a session that is not in memory any more.
type known struct{ record *store.Record }

func (k *known) session() session.Session {
	if k == nil {
		return session.Session{}
	}
	return recordView(k.record)
}

// requested finds the session of a request ID among those that ended some time
// ago.
func (p *Poller) requested(ctx context.Context, spec *session.Spec) (*known, error) {
	if spec.RequestID == "" {
		return nil, nil
	}
	p.mu.Lock()
	inMemory := p.requests[spec.RequestID] != nil
	p.mu.Unlock()
	if inMemory {
		return nil, nil
	}
	record, err := p.store.ByRequest(ctx, spec.RequestID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case !record.Session.State.Final(): // it came to be just now: it is in memory
		return nil, nil
	case !record.Session.Spec.SameRequest(spec):
		return nil, requestReused(spec.RequestID, record.Session.ID)
	}
	return &known{record}, nil
}

func requestReused(request string, id session.ID) *session.Error {
	return session.Invalid("request_id_reused", fmt.Sprintf("the request ID %q was used for another session (%s)", request, id), "make up a new one for each request")
}

// admit finds the session that a request leads to, or makes it.
func (p *Poller) admit(ctx context.Context, spec session.Spec) (*whole, error) {
	guard := session.GuardOf(ctx)
	p.mu.Lock()
	if p.stopping {
		p.mu.Unlock()
		return nil, stopping()
	}
	if w := p.requests[spec.RequestID]; w != nil && spec.RequestID != "" {
		defer p.mu.Unlock()
		if !w.record.Session.Spec.SameRequest(&spec) {
			return nil, requestReused(spec.RequestID, w.id())
		}
		return w, nil
	}
	hosts, err := p.choose(&spec)
	if err != nil {
		p.mu.Unlock()
		return nil, err
	}
	if w := p.identical(&spec, hosts); w != nil {
		p.mu.Unlock()
		return w, p.attach(ctx, w, &spec, guard)
	}
	defer p.unlock()
	w := p.create(spec, hosts)
	w.guards, w.trace = []session.Guard{guard}, tracing.ParentOf(ctx)
	p.enter(w)
	if err := p.full(w); err != nil {
		p.drop(w)
		w.settle(err) // somebody may have found it by its request ID
		return nil, err
	}
	p.all.Go(func() { p.begin(w) })
	return w, nil
}

// repeatWithin is how long after a session's start a request for the same,
// without a RequestID, is taken for a repetition by a client that missed the
// answer.
const repeatWithin = 10 * time.Second

// identical finds a session that does what is asked for: one that has not
// ended, or one whose request this one repeats. p.mu is held.
func (p *Poller) identical(spec *session.Spec, hosts []*host) *whole {
	for _, w := range p.wholes {
		s := &w.record.Session
		repeated := spec.RequestID == "" && w.anonymous && w.state != session.StateCanceled && time.Since(s.Created) < repeatWithin+w.lasted()
		if w.state.Final() && !repeated || w.record.CancelBy != "" || !w.asks(spec, hosts) {
			continue
		}
		return w
	}
	return nil
}

// asks says whether a session does what is asked for, however its hosts were
// named.
func (w *whole) asks(spec *session.Spec, hosts []*host) bool {
	if !slices.EqualFunc(w.parts, hosts, func(t *part, h *host) bool { return t.host == h }) {
		return false
	}
	a, b := w.record.Session.Spec, *spec
	a.Hosts, b.Hosts = session.Hosts{}, session.Hosts{}
	return a.Same(&b) || len(b.PIDs) == 0 && a.SameRequest(&b)
}

// lasted is how long a session waited before it began.
func (w *whole) lasted() time.Duration {
	for _, t := range w.parts {
		if !t.run.Started.IsZero() {
			return max(0, t.run.Started.Sub(w.record.Session.Created))
		}
	}
	return 0
}

// maxShared bounds what is remembered of those who share a session.
const maxShared = 10_000

// attach lets a session serve one more request.
func (p *Poller) attach(ctx context.Context, w *whole, spec *session.Spec, guard session.Guard) error {
	select { // before it is in the store there is nothing to change
	case <-w.settled:
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	if w.refused != nil {
		p.mu.Unlock()
		return w.refused
	}
	if w.record.Session.Shared >= maxShared {
		p.mu.Unlock()
		return &session.Error{Code: "shared_limit", Kind: session.ErrBusy, Problem: fmt.Sprintf("%d requests share session %s already", maxShared, w.id()), Remedy: "watch or fetch that session"}
	}
	again := w.state.Final() // then it is the same request once more
	p.mu.Unlock()
	if again {
		return nil
	}
	if err := p.change(w, func(r *store.Record) { share(r, spec) }); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.unlock()
	w.anonymous = w.anonymous || spec.RequestID == ""
	if spec.RequestID != "" {
		p.requests[spec.RequestID] = w
	}
	if !w.state.Final() {
		w.guards = append(w.guards, guard)
	} else if guard != nil {
		last := w.view()
		p.note(func() { guard.Ended(last) })
	}
	p.boundWait(w)
	if w.unattended.stop(); len(w.watchers) == 0 {
		p.attend(w, attendedFirst)
	}
	w.tell()
	return nil
}

// share is what one more request changes: the session goes on for the one who
// asks for more.
func share(r *store.Record, spec *session.Spec) {
	s := &r.Session
	s.Shared++
	if spec.RequestID != "" && !slices.Contains(r.Requests, spec.RequestID) {
		r.Requests = append(r.Requests, spec.RequestID)
	}
	if s.Spec.MaxWait != 0 && spec.MaxWait == 0 {
		s.Spec.MaxWait = 0
	} else if s.Spec.MaxWait != 0 {
		s.Spec.MaxWait = max(s.Spec.MaxWait, time.Since(s.Created)+spec.MaxWait)
	}
	s.Spec.Attended = s.Spec.Attended && spec.Attended
}

// create makes a session in memory. p.mu is held.
func (p *Poller) create(spec session.Spec, hosts []*host) *whole {
	p.number++
	w := newWhole(store.Record{Session: session.Session{ID: session.NewID(), Spec: spec, State: session.StatePending, Shared: 1, Created: time.Now()}})
	w.number, w.anonymous = p.number, spec.RequestID == ""
	for _, h := range hosts {
		w.add(h, store.Run{HostRun: session.HostRun{Host: h.name, State: session.StatePending}, Command: string(session.NewID())})
	}
	p.wholes[w.id()] = w
	if spec.RequestID != "" {
		p.requests[spec.RequestID] = w
	}
	return w
}

// drop forgets a session of which nobody was told. p.mu is held.
func (p *Poller) drop(w *whole) {
	for _, t := range w.parts {
		p.unqueue(t)
		p.vacate(t)
	}
	delete(p.wholes, w.id())
	p.forgetRequests(w)
	w.unattended.stop()
	w.waiting.stop()
	p.dispatch()
}

func (p *Poller) forgetRequests(w *whole) {
	for _, id := range append([]string{w.record.Session.Spec.RequestID}, w.record.Requests...) {
		if p.requests[id] == w {
			delete(p.requests, id)
		}
	}
}

// begin writes a new session down, and only then lets it go its way.
func (p *Poller) begin(w *whole) {
	err := p.refusedAtOnce(w)
	if err == nil {
		p.meetFirst(w)
		err = p.write(w)
	}
	p.mu.Lock()
	defer p.unlock()
	if err != nil {
		p.drop(w)
		w.settle(err)
		return
	}
	w.durable = true
	p.log.Info("session created", "session", w.id(), "request_id", w.record.Session.Spec.RequestID, "hosts", len(w.parts), "requester", w.record.Session.Spec.Requester)
	for _, t := range w.parts {
		if t.placed {
			p.begins(t)
		}
	}
	p.boundWait(w)
	p.attend(w, attendedFirst)
	p.dispatch()
	p.settleIfQuiet(w)
}

// meetWithin is for how long a session that is not written down yet waits for its
// host.
const meetWithin = time.Second

// meetFirst asks the only host of a session that has its place in which life it
// is, so that that is written down together with the session.
func (p *Poller) meetFirst(w *whole) {
	p.mu.Lock()
	t, limits := w.parts[0], p.limits
	ask := len(w.parts) == 1 && t.placed
	p.mu.Unlock()
	if !ask {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, meetWithin)
	defer cancel()
	told, err := p.fleetOf(t.host).Hosts(ctx, session.Hosts{})
	if err != nil {
		return // its tracker asks again
	}
	instance, err := p.met(t.host, told)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	rules := limits.rules(&w.record.Session.Spec)
	observe(&t.run, &t.memory, &rules, &observation{sight: sawLife, at: time.Now(), instance: instance})
}

// write keeps a new session.
func (p *Poller) write(w *whole) error {
	p.mu.Lock()
	record := w.record
	record.Session = w.view()
	record.Session.Hosts = nil
	for _, t := range w.parts {
		record.Runs = append(record.Runs, t.run)
	}
	p.mu.Unlock()
	if err := p.store.Create(p.ctx, &record); err != nil {
		if p.ctx.Err() != nil {
			return stopping()
		}
		p.storeFailed(err, w.id())
		return err
	}
	p.storeWorks()
	p.mu.Lock()
	w.record.Revision = record.Revision
	p.mu.Unlock()
	return nil
}

// refusedAtOnce asks the only host of a session that is to wait whether it would
// have it at all. What cannot be asked may wait.
func (p *Poller) refusedAtOnce(w *whole) error {
	p.mu.Lock()
	t := w.parts[0]
	ask := len(w.parts) == 1 && t.queued && t.block != blockAway
	fleet, spec := t.host.fleet, p.specFor(t)
	p.mu.Unlock()
	if !ask {
		return nil
	}
	ctx, cancel := context.WithTimeout(w.trace.Within(p.ctx), p.callTimeout())
	defer cancel()
	matches, err := fleet.Match(ctx, spec)
	if err == nil && len(matches) == 1 && matches[0].Err != nil {
		err = matches[0].Err
	}
	if err != nil {
		if seen, e := outcome(err); seen == sawRefusal && e.Code != "no_profiling" {
			return e
		}
	}
	return nil
}

// specFor is what a host is asked for. p.mu is held.
func (p *Poller) specFor(t *part) session.Spec {
	spec := t.whole.record.Session.Spec
	spec.RequestID, spec.Instance, spec.Hosts = t.run.Command, t.run.Instance, session.Hosts{}
	spec.Attended, spec.Canary, spec.AtOnce = false, false, 0
	if spec.MaxWait > 0 {
		spec.MaxWait = max(time.Millisecond, spec.MaxWait-time.Since(t.whole.record.Session.Created))
	}
	return spec
}

func (p *Poller) callTimeout() time.Duration {
	l := p.Limits()
	return seconds(l.CallTimeoutSeconds)
}

// settleIfQuiet answers who waits in Start, where all parts wait or have ended,
// or one has begun. p.mu is held.
func (p *Poller) settleIfQuiet(w *whole) {
	if w.answered || !w.durable {
		return
	}
	if w.state == session.StatePending {
		for _, t := range w.parts {
			if !t.queued && !t.run.State.Final() && t.run.Waiting == "" {
				return
			}
		}
	}
	w.settle(nil)
}
