// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
	"github.com/carverauto/serviceradar-profiler/tracing"
)

// whole is a session, with all that belongs to it. Poller.mu guards it.
type whole struct {
	record    store.Record // as it is kept, without its runs
	state     session.State
	parts     []*part        // by name of host
	number    uint64         // in the order of creation
	anonymous bool           // a request without an ID led here
	trace     tracing.Parent // the call that asked for it first; not known after a restart
	saving    sync.Mutex     // held while the record is written; before Poller.mu

	durable  bool          // it is in the store
	settled  chan struct{} // closed when Start has its answer
	answered bool
	refused  error         // that answer, if it is an error
	done     chan struct{} // closed when its state is final
	held     int           // places its parts take
	place    int           // in the queue, when that was last gone through
	left     int           // parts that are not final
	queued   []*part       // that wait for a place, by index
	guards   []session.Guard

	watchers   map[*watcher]struct{}
	unattended timer
	waiting    timer
}

// part is one host's run of a session.
type part struct {
	whole  *whole
	index  int
	host   *host
	run    store.Run // as it is known, and where it counts, kept
	memory memory    // its tracker's
	placed bool
	queued bool
	block  block         // why it waits
	wake   chan struct{} // has room for one: something has changed
}

// block is why a part waits for its place.
type block string

const (
	blockNone   block = ""
	blockTarget block = "target"
	blockHost   block = "host"
	blockWhole  block = "session"
	blockFleet  block = "fleet"
	blockCanary block = "canary"
	blockAway   block = "away"
)

func newWhole(record store.Record) *whole {
	return &whole{record: record, state: record.Session.State, settled: make(chan struct{}), done: make(chan struct{}), watchers: map[*watcher]struct{}{}}
}

func (w *whole) id() session.ID { return w.record.Session.ID }

func (w *whole) add(h *host, run store.Run) {
	if !run.State.Final() {
		w.left++
	}
	w.parts = append(w.parts, &part{whole: w, index: len(w.parts), host: h, run: run, wake: make(chan struct{}, 1)})
}

// settle answers those who wait in Start, once.
func (w *whole) settle(err error) {
	if w.answered {
		return
	}
	w.answered, w.refused = true, err
	close(w.settled)
}

func (t *part) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// canceled is why the session is to end; nil: it is not.
func (w *whole) canceled() *session.Error {
	switch w.record.CancelBy {
	case "":
		return nil
	case unattendedBy:
		return unattendedError()
	case revokedBy:
		return revokedError()
	}
	return &session.Error{Code: "canceled", Kind: session.ErrCanceled, Problem: "the session was canceled on request", Remedy: "start another one"}
}

// became takes in that a part has changed, from what it was. It reports whether
// the session's own state is another one by that.
func (w *whole) became(t *part, was session.State) bool {
	if t.run.State.Final() && !was.Final() {
		w.left--
	}
	to := w.state
	switch {
	case w.state.Final():
	case w.left == 0:
		to = w.last()
	case w.state == session.StatePending && !t.run.Started.IsZero():
		to = session.StateRunning
	}
	if to == w.state {
		return false
	}
	if w.state == session.StatePending && to == session.StateSucceeded { // through it, for those who watch
		w.state = session.StateRunning
		w.announce()
	}
	w.state = to
	return true
}

// last is the final state.
func (w *whole) last() session.State {
	var count [3]int // succeeded, failed, canceled
	for _, t := range w.parts {
		switch t.run.State {
		case session.StateSucceeded:
			count[0]++
		case session.StateFailed:
			count[1]++
		case session.StateCanceled:
			count[2]++
		}
	}
	switch {
	case count[2] > 0 && (w.record.CancelBy != "" || count[0] == 0):
		return session.StateCanceled
	case count[0] > 0:
		return session.StateSucceeded
	}
	return session.StateFailed
}

// ended is when its last part ended.
func (w *whole) ended() time.Time {
	last := w.record.Session.Created
	for _, t := range w.parts {
		if t.run.Ended.After(last) {
			last = t.run.Ended
		}
	}
	return last
}

// whyFailed is the error of a session none of whose hosts has a profile.
func whyFailed(hosts []session.HostRun) *session.Error {
	if len(hosts) == 1 {
		return hosts[0].Err
	}
	type reason struct {
		n   int
		err *session.Error
	}
	reasons := map[string]*reason{}
	var most *reason
	for i := range hosts {
		e := hosts[i].Err
		if e == nil {
			continue
		}
		r := reasons[e.Code]
		if r == nil {
			r = &reason{err: e}
			reasons[e.Code] = r
		}
		if r.n++; most == nil || r.n > most.n {
			most = r
		}
	}
	all := &session.Error{Code: "all_hosts_failed", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("none of %d hosts has a profile", len(hosts))}
	if most != nil {
		all.Kind, all.Cause, all.Remedy = most.err.Kind, most.err, most.err.Remedy
		all.Problem = fmt.Sprintf("none of %d hosts has a profile; with %d of them it is", len(hosts), most.n)
	}
	return all
}

// save writes the session down. It goes on until that is done, or the poller
// ends: then whoever comes next finds out by the runs.
func (p *Poller) save(w *whole) {
	w.saving.Lock()
	defer w.saving.Unlock()
	for try := 1; ; try++ {
		p.mu.Lock()
		record := w.record
		record.Session = w.view()
		record.Session.Hosts = nil
		step := record
		through := w.record.Session.State == session.StatePending && record.Session.State == session.StateSucceeded
		p.mu.Unlock()
		var err error
		if step.Session.State = session.StateRunning; through { // the table of states has no shorter way
			err = p.update(w, &step)
			record.Revision = step.Revision
		}
		if err == nil {
			err = p.update(w, &record)
		}
		if err == nil || p.ctx.Err() != nil {
			return
		}
		p.storeFailed(err, w.id())
		if !p.sleep(pauseAfter(try), nil) {
			return
		}
	}
}

// change writes a change of the record down, and only then makes it.
func (p *Poller) change(w *whole, by func(*store.Record)) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	p.mu.Lock()
	changed := w.record
	changed.Requests = slices.Clone(changed.Requests)
	by(&changed)
	changed.Session = w.viewOf(&changed)
	changed.Session.Hosts = nil
	p.mu.Unlock()
	if err := p.update(w, &changed); err != nil {
		p.storeFailed(err, w.id())
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	by(&w.record)
	return nil
}

// update is store.Update, whose answer may have been lost once. w.saving is
// held.
func (p *Poller) update(w *whole, record *store.Record) error {
	err := p.store.Update(p.ctx, record)
	if errors.Is(err, store.ErrChanged) { // by ourselves: the answer was lost
		var is *store.Record
		if is, err = p.store.Get(p.ctx, w.id()); err == nil {
			record.Revision = is.Revision
			err = p.store.Update(p.ctx, record)
		}
	}
	if err != nil {
		return err
	}
	p.storeWorks()
	p.mu.Lock()
	w.record.Revision, w.record.Session.State = record.Revision, record.Session.State
	p.mu.Unlock()
	return nil
}

func (p *Poller) storeFailed(err error, about session.ID) {
	p.mu.Lock()
	first := p.troubled == nil
	p.troubled = err
	p.storeErrors++
	p.mu.Unlock()
	if first {
		p.log.Error("what is known cannot be written down, and so waits", "session", about, "error", err)
	}
}

func (p *Poller) storeWorks() {
	p.mu.Lock()
	was := p.troubled
	p.troubled = nil
	p.mu.Unlock()
	if was != nil {
		p.log.Info("what is known can be written down again")
	}
}

// sleep waits for a while, less if it is woken. It reports whether the poller
// goes on.
func (p *Poller) sleep(d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-p.ctx.Done():
	}
	return p.ctx.Err() == nil
}
