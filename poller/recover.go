// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// recover goes on with what is in the store: what was sent to a host is looked
// for there, what was not waits for its place again, and what has ended is kept
// for as long as it is to be.
func (p *Poller) recover() error {
	records, err := p.store.List(p.ctx, session.Filter{})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.unlock()
	known := map[string]bool{}
	for _, r := range records {
		for i := range r.Runs {
			known[r.Runs[i].Command] = true
		}
		if r.Session.State.Final() {
			p.ended.add(r)
			continue
		}
		p.resume(r)
	}
	p.dispatch()
	for _, name := range p.files.Names() { // of sessions that are forgotten, where the crash came between
		if known[name] {
			continue
		}
		if err := p.files.Remove(name); err != nil {
			p.log.Warn("a profile without a session could not be removed", "file", name, "error", err)
		}
	}
	return nil
}

// resume goes on with a session. p.mu is held.
func (p *Poller) resume(r *store.Record) {
	p.number++
	record := *r
	record.Runs = nil
	w := newWhole(record)
	w.number, w.durable = p.number, true
	w.settle(nil)
	for _, run := range r.Runs {
		h := p.hosts[run.Host]
		if h == nil { // its tracker will say so
			h = &host{name: run.Host, removed: true, state: session.HostUnknown, targets: map[string]int{}, active: map[*part]struct{}{}, beat: beat{index: -1}}
		}
		w.add(h, run)
		if run.State == session.StateRunning {
			h.ours++
		}
	}
	p.wholes[w.id()] = w
	for _, id := range append([]string{record.Session.Spec.RequestID}, record.Requests...) {
		if id != "" {
			p.requests[id] = w
		}
	}
	p.log.Info("session goes on", "session", w.id(), "state", w.state, "hosts", len(w.parts))
	if w.left == 0 || !began(r).IsZero() && w.state == session.StatePending { // only the session's own state was not written down
		p.catchUp(w)
	}
	if w.state.Final() {
		return
	}
	for _, t := range w.parts {
		switch {
		case t.run.State.Final():
		case t.run.Instance == "" && record.CancelBy == "" && !t.host.removed:
			p.enqueue(t)
		default:
			p.hold(t)
			p.begins(t)
		}
	}
	p.boundWait(w)
	p.attend(w, attendedFirst)
}

// began is when the first host did.
func began(r *store.Record) (first time.Time) {
	for i := range r.Runs {
		if at := r.Runs[i].Started; !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// catchUp brings a session's state up to that of its parts. p.mu is held.
func (p *Poller) catchUp(w *whole) {
	for _, t := range w.parts {
		if w.became(t, t.run.State) {
			p.moved(w)
		}
	}
}
