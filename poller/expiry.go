// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"context"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// ending is what is remembered of a session that has ended: the rest is in the
// store.
type ending struct {
	id       session.ID
	ended    time.Time
	expires  time.Time
	profiles []string // their names in the files
}

// endings are those that are kept, the oldest first. Poller.mu guards them.
type endings struct {
	all []ending
}

func (e *endings) add(r *store.Record) {
	one := ending{id: r.Session.ID, ended: r.Session.Ended, expires: r.Session.Expires}
	for i := range r.Runs {
		if r.Runs[i].Collected {
			one.profiles = append(one.profiles, r.Runs[i].Command)
		}
	}
	e.all = insert(e.all, one, func(a, b ending) int { return a.ended.Compare(b.ended) })
}

// Kept is how many sessions that have ended are known still, and the bytes of
// all profiles that are kept.
func (p *Poller) Kept() (sessions int, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ended.all), p.files.Used()
}

// forgetAfter is for how long a session that has ended stays in memory: so long
// a request may be the repetition of its own.
const forgetAfter = repeatWithin + 5*time.Second

// keepEnded takes a session that has ended, and is written down, among those
// that are kept for a while.
func (p *Poller) keepEnded(w *whole) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return
	}
	record := store.Record{Session: session.Session{ID: w.id(), Ended: w.ended(), Expires: w.record.Session.Expires}}
	for _, t := range w.parts {
		record.Runs = append(record.Runs, t.run)
	}
	p.ended.add(&record)
	after(forgetAfter, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.wholes[w.id()] == w {
			delete(p.wholes, w.id())
			p.forgetRequests(w)
		}
	})
}

// expireEvery is how often it is looked for what is to be forgotten.
const expireEvery = time.Second

// expire forgets sessions when their time has come, or when there are too many.
func (p *Poller) expire() {
	for p.sleep(expireEvery, nil) {
		p.mu.Lock()
		var over []ending
		excess := len(p.ended.all) - p.limits.MaxKeptSessions
		for i, e := range p.ended.all {
			if i < excess || !time.Now().Before(e.expires) {
				over = append(over, e)
			}
		}
		p.mu.Unlock()
		for _, e := range over {
			p.forget(e)
		}
	}
}

// forget lets go of a session that has ended, and of its profiles; in this
// order, because files that nobody knows are found and a profile that is not
// there cannot be.
func (p *Poller) forget(e ending) bool {
	if err := p.store.Delete(p.ctx, e.id); err != nil {
		if p.ctx.Err() == nil {
			p.storeFailed(err, e.id)
		}
		return false
	}
	for _, name := range e.profiles {
		if err := p.files.Remove(name); err != nil {
			p.log.Warn("a profile could not be removed", "session", e.id, "file", name, "error", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended.all = slices.DeleteFunc(p.ended.all, func(o ending) bool { return o.id == e.id })
	if w := p.wholes[e.id]; w != nil {
		delete(p.wholes, e.id)
		p.forgetRequests(w)
	}
	p.contents.forget(e.id)
	return true
}

// makeRoom forgets the oldest session that has a profile. It reports whether
// there was one.
func (p *Poller) makeRoom(ctx context.Context) bool {
	p.mu.Lock()
	i := slices.IndexFunc(p.ended.all, func(e ending) bool { return len(e.profiles) > 0 })
	var oldest ending
	if i >= 0 {
		oldest = p.ended.all[i]
	}
	p.mu.Unlock()
	if i < 0 || ctx.Err() != nil {
		return false
	}
	p.log.InfoContext(ctx, "session forgotten for lack of room", "session", oldest.id, "profiles", len(oldest.profiles))
	return p.forget(oldest)
}
