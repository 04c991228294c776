// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// inMemory finds a session that goes on, or has ended just now.
func (p *Poller) inMemory(id session.ID) *whole {
	if w := p.wholes[id]; w != nil && w.durable {
		return w
	}
	return nil
}

// stored finds a session in the store.
func (p *Poller) stored(ctx context.Context, id session.ID) (*store.Record, error) {
	record, err := p.store.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, session.NotFound(id)
	}
	return record, err
}

// Get tells of a session.
func (p *Poller) Get(ctx context.Context, id session.ID) (session.Session, error) {
	if err := ctx.Err(); err != nil {
		return session.Session{}, err
	}
	p.mu.Lock()
	if w := p.inMemory(id); w != nil {
		defer p.mu.Unlock()
		return w.view(), nil
	}
	p.mu.Unlock()
	record, err := p.stored(ctx, id)
	if err != nil {
		return session.Session{}, err
	}
	return recordView(record), nil
}

// List tells of the chosen sessions, oldest first: those that go on, and those
// that have ended, from the store.
func (p *Poller) List(ctx context.Context, f session.Filter) ([]session.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ended := f
	ended.States = nil
	for _, s := range session.States {
		if s.Final() && (len(f.States) == 0 || slices.Contains(f.States, s)) {
			ended.States = append(ended.States, s)
		}
	}
	seen := map[session.ID]bool{}
	var all []session.Session
	p.mu.Lock()
	for id, w := range p.wholes {
		if !w.durable || w.refusedSoon() {
			continue
		}
		seen[id] = true
		if now := w.view(); f.Chooses(&now) {
			all = append(all, now)
		}
	}
	p.mu.Unlock()
	if len(ended.States) > 0 {
		records, err := p.store.List(ctx, ended)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if !seen[r.Session.ID] {
				all = append(all, recordView(r))
			}
		}
	}
	slices.SortFunc(all, func(a, b session.Session) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// refusedSoon says that nobody was told of the session yet, and nobody will be.
func (w *whole) refusedSoon() bool { return w.state == session.StateFailed && !w.answered }

// Cancel ends a session for all whom it serves, and returns when it has ended,
// or when nothing is left of it but hosts that cannot be reached: they are told
// as soon as they can be.
func (p *Poller) Cancel(ctx context.Context, id session.ID) (session.Session, error) {
	if err := ctx.Err(); err != nil {
		return session.Session{}, err
	}
	p.mu.Lock()
	w := p.inMemory(id)
	p.mu.Unlock()
	if w == nil {
		return p.Get(ctx, id)
	}
	if err := p.cancelBy(w, byName(ctx)); err != nil {
		return session.Session{}, err
	}
	_, watcher := p.join(id)
	if watcher == nil {
		return p.Get(ctx, id)
	}
	defer p.leave(w, watcher)
	for {
		p.mu.Lock()
		now, stuck := w.view(), w.outOfReach()
		p.mu.Unlock()
		if now.State.Final() || stuck {
			return now, nil
		}
		select {
		case <-watcher.wake:
		case <-w.done:
		case <-p.ctx.Done():
			return session.Session{}, stopping()
		case <-ctx.Done():
			return session.Session{}, ctx.Err()
		}
	}
}

// outOfReach says that all parts that go on are at hosts that do not answer.
// p.mu is held.
func (w *whole) outOfReach() bool {
	for _, t := range w.parts {
		if !t.run.State.Final() && !(t.host.away() && t.run.Instance != "") {
			return false
		}
	}
	return true
}

// cancelBy writes down that a session is to end, and only then lets it.
func (p *Poller) cancelBy(w *whole, by string) error {
	p.mu.Lock()
	done := w.state.Final() || w.record.CancelBy != ""
	p.mu.Unlock()
	if done {
		return nil
	}
	err := p.change(w, func(r *store.Record) {
		if r.CancelBy == "" {
			r.CancelBy = by
		}
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.unlock()
	p.log.Info("session is canceled", "session", w.id(), "request_id", w.record.Session.Spec.RequestID, "by", by)
	for _, t := range w.parts {
		t.nudge()
	}
	why := w.canceled()
	for _, t := range slices.Clone(w.queued) {
		p.giveUp(t, why)
	}
	return nil
}
