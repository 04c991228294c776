// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Who finds no place waits in a queue: the oldest session first, within it by
// host. Who is held up by its own host, or by its own session's bounds, holds up
// nobody else. p.mu is held in all of this file.

// enter puts a new session's parts into the queue and gives them places, as far
// as there are some.
func (p *Poller) enter(w *whole) {
	for _, t := range w.parts {
		if !t.run.State.Final() {
			p.enqueue(t)
		}
	}
	p.dispatch()
}

// enqueue lets a part wait for a place.
func (p *Poller) enqueue(t *part) {
	w := t.whole
	t.queued, t.block = true, blockNone
	w.queued = insert(w.queued, t, func(a, b *part) int { return cmp.Compare(a.index, b.index) })
	t.host.queued = insert(t.host.queued, t, func(a, b *part) int {
		return cmp.Or(cmp.Compare(a.whole.number, b.whole.number), cmp.Compare(a.index, b.index))
	})
	if len(w.queued) == 1 {
		p.queue = insert(p.queue, w, func(a, b *whole) int { return cmp.Compare(a.number, b.number) })
	}
}

func insert[E any](all []E, e E, order func(a, b E) int) []E {
	i, _ := slices.BinarySearchFunc(all, e, order)
	return slices.Insert(all, i, e)
}

// unqueue takes a part out of the queue, if it is in there. It belongs to the
// caller then.
func (p *Poller) unqueue(t *part) {
	if !t.queued {
		return
	}
	w := t.whole
	t.queued, t.block = false, blockNone
	w.queued = slices.DeleteFunc(w.queued, func(o *part) bool { return o == t })
	t.host.queued = slices.DeleteFunc(t.host.queued, func(o *part) bool { return o == t })
	if len(w.queued) == 0 {
		p.queue = slices.DeleteFunc(p.queue, func(o *whole) bool { return o == w })
	}
}

// dispatch gives places to those who wait, as far as there are some.
func (p *Poller) dispatch() {
	if p.stopping {
		return
	}
	for i, w := range slices.Clone(p.queue) {
		w.place = i + 1
		p.fill(w)
	}
}

// fill gives a session's parts places.
func (p *Poller) fill(w *whole) {
	most := p.limits.MaxHostsPerSelector
	if n := w.record.Session.Spec.AtOnce; n > 0 {
		most = min(most, n)
	}
	turn := w.canaries(p.limits.MaxHostsPerSession)
	for _, t := range slices.Clone(w.queued) {
		switch {
		case t.host.away():
			t.block = blockAway
			if t.run.Until.IsZero() {
				t.run.Until = time.Now().Add(seconds(p.limits.DispatchTTLSeconds))
				p.beats.soon(t.host, firstPause)
			}
		case turn <= 0:
			t.block = blockCanary
		case w.held >= most:
			t.block = blockWhole
		case p.placed >= p.limits.MaxHostsAtOnce:
			t.block = blockFleet
		case t.host.placed >= p.limits.MaxSessionsPerHost:
			t.block = blockHost
		case t.host.most(t.targets()) >= p.limits.MaxSessionsPerTarget:
			t.block = blockTarget
		default:
			turn--
			p.give(t)
		}
	}
}

// canaries is how many more parts may begin: all of them, unless one is to go
// first. Which one that is, is not kept: it is told by what the parts are.
func (w *whole) canaries(all int) int {
	if !w.record.Session.Spec.Canary {
		return all
	}
	begun := 0
	for _, t := range w.parts {
		switch {
		case t.run.State == session.StateSucceeded:
			return all
		case !t.queued && !t.run.State.Final():
			begun++
		}
	}
	return 1 - begun
}

// give gives a part its place, and a goroutine to go its way as soon as it is
// written down.
func (p *Poller) give(t *part) {
	p.unqueue(t)
	p.hold(t)
	if t.whole.durable {
		p.begins(t)
	}
}

// hold notes that a part has a place: also where there is none, because it
// samples already.
func (p *Poller) hold(t *part) {
	t.placed = true
	t.whole.held++
	p.placed++
	t.host.placed++
	for _, key := range t.targets() {
		t.host.targets[key]++
	}
}

// begins starts the tracker of a part that has its place.
func (p *Poller) begins(t *part) {
	p.all.Go(func() { p.track(t) })
}

// vacate takes a part's place back.
func (p *Poller) vacate(t *part) {
	if !t.placed {
		return
	}
	t.placed = false
	t.whole.held--
	p.placed--
	t.host.placed--
	for _, key := range t.targets() {
		if t.host.targets[key]--; t.host.targets[key] == 0 {
			delete(t.host.targets, key)
		}
	}
}

// targets are what a part samples, as far as that is known before.
func (t *part) targets() []string {
	spec := &t.whole.record.Session.Spec
	if !spec.Select.Empty() {
		return []string{spec.Select.String()}
	}
	pids := slices.Clone(spec.PIDs)
	slices.Sort(pids)
	keys := make([]string, 0, len(pids))
	for _, pid := range slices.Compact(pids) {
		keys = append(keys, strconv.Itoa(pid))
	}
	return keys
}

// full refuses a session of which all has to wait, where nobody may wait any
// more. The session is in the queue already.
func (p *Poller) full(w *whole) error {
	waiting := 0
	for _, other := range p.queue {
		if other != w && other.held == 0 && other.state == session.StatePending {
			waiting++
		}
	}
	if w.held > 0 || waiting < p.limits.MaxQueuedSessions {
		return nil
	}
	if t := w.parts[0]; len(w.parts) == 1 && t.host.away() {
		return unreachable(&t.run, t.host.err)
	}
	wait := p.nextFree()
	return &session.Error{Code: "busy", Kind: session.ErrBusy, RetryAfter: wait,
		Problem: fmt.Sprintf("there is no place for the session, and %d wait already, which is as many as this poller allows (limits in its configuration)", waiting),
		Remedy:  fmt.Sprintf("try again in %v", wait)}
}

// nextFree is when the first place may be free.
func (p *Poller) nextFree() time.Duration {
	first := time.Duration(0)
	for _, w := range p.wholes {
		if w.held == 0 {
			continue
		}
		left := w.record.Session.Spec.Duration
		for _, t := range w.parts {
			if t.placed && !t.run.Started.IsZero() {
				left = min(left, time.Until(t.run.Started.Add(w.record.Session.Spec.Duration)))
			}
		}
		if first == 0 || left < first {
			first = max(left, time.Second)
		}
	}
	return max(first, time.Second).Round(time.Second)
}

// boundWait ends the waiting of a session when it has lasted for too long.
func (p *Poller) boundWait(w *whole) {
	w.waiting.stop()
	most := w.record.Session.Spec.MaxWait
	if most == 0 || w.state.Final() || p.stopping {
		return
	}
	w.waiting = after(time.Until(w.record.Session.Created.Add(most)), func() {
		p.mu.Lock()
		defer p.unlock()
		if w.record.Session.Spec.MaxWait != most || p.stopping {
			return
		}
		retry := p.nextFree()
		for _, t := range slices.Clone(w.queued) {
			p.giveUp(t, waitedTooLong(t, most, retry))
		}
	})
}

func waitedTooLong(t *part, most, retry time.Duration) *session.Error {
	why := &session.Error{Code: "waited_too_long", Kind: session.ErrBusy, RetryAfter: retry,
		Problem: fmt.Sprintf("no place became free within %v, for which this session was ready to wait", most), Remedy: "try again, or wait for longer"}
	if t.block == blockAway && t.host.err != nil {
		why = unreachable(&t.run, t.host.err)
	}
	return why
}

// giveUp ends a part that waits.
func (p *Poller) giveUp(t *part, why *session.Error) {
	p.unqueue(t)
	to := session.StateFailed
	if why.Kind == session.ErrCanceled {
		to = session.StateCanceled
	}
	p.all.Go(func() {
		p.mu.Lock()
		run := t.run
		p.mu.Unlock()
		end(&run, time.Now(), to, why)
		p.writeRun(t, run)
	})
}
