// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// publish lets everybody know what became of a part; what counts of it is
// written down by then.
func (p *Poller) publish(t *part, run store.Run) {
	w := t.whole
	p.mu.Lock()
	was := t.run.State
	t.run = run
	p.chosen(t)
	changed := w.became(t, was)
	if run.State.Final() && !was.Final() {
		p.logPart(t)
		p.vacate(t)
		p.canaryEnded(w, t)
		p.dispatch()
	}
	t.count(was)
	switch {
	case changed && w.refusedSoon() && len(w.parts) == 1: // who asked is told, and there never was a session
		p.all.Go(func() { p.refuse(w, run.Err) })
	case changed:
		p.moved(w)
		p.settleIfQuiet(w)
	default:
		w.tell()
		p.settleIfQuiet(w)
	}
	p.unlock()
}

// count notes whether a part samples. p.mu is held.
func (t *part) count(was session.State) {
	if t.run.State == session.StateRunning && was != session.StateRunning {
		t.host.ours++
	}
	if t.run.State != session.StateRunning && was == session.StateRunning {
		t.host.ours--
	}
}

// chosen takes over which processes a selector chose on the only host. p.mu is
// held.
func (p *Poller) chosen(t *part) {
	spec := &t.whole.record.Session.Spec
	if len(t.whole.parts) != 1 || len(spec.PIDs) > 0 || len(t.run.Targets) == 0 {
		return
	}
	for _, target := range t.run.Targets {
		spec.PIDs = append(spec.PIDs, target.PID)
	}
}

// moved is what follows from a session's new state. p.mu is held.
func (p *Poller) moved(w *whole) {
	final := w.state.Final()
	if final {
		w.record.Session.Expires = w.ended().Add(seconds(p.limits.ResultTTLSeconds))
		w.unattended.stop()
		w.waiting.stop()
		close(w.done)
	}
	w.announce()
	now := w.view()
	guards := w.guards
	p.note(func() {
		p.logState(&now)
		if p.changed != nil {
			p.changed(now)
		}
		for _, g := range guards {
			if final && g != nil {
				g.Ended(now)
			}
		}
	})
	p.all.Go(func() {
		p.save(w)
		if final {
			p.keepEnded(w)
		}
	})
}

// refuse answers Start with the error of the only host, and forgets the session:
// the host has none.
func (p *Poller) refuse(w *whole, why *session.Error) {
	for try := 1; ; try++ {
		err := p.store.Delete(p.ctx, w.id())
		if err == nil || p.ctx.Err() != nil {
			break
		}
		p.storeFailed(err, w.id())
		if !p.sleep(pauseAfter(try), nil) {
			break
		}
	}
	p.mu.Lock()
	defer p.unlock()
	p.drop(w)
	w.settle(why)
}

// canaryEnded lets the others be where the first host has failed. p.mu is held.
func (p *Poller) canaryEnded(w *whole, t *part) {
	if !w.record.Session.Spec.Canary || t.run.State == session.StateSucceeded || len(w.queued) == 0 {
		return
	}
	for _, o := range w.parts {
		if o.run.State == session.StateSucceeded {
			return
		}
	}
	why := &session.Error{Code: "canary_failed", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("%s went first, and has no profile", t.host.name),
		Cause: t.run.Err, Remedy: "mend that, or start without a canary"}
	if t.run.Err == nil {
		why.Cause = nil
	}
	for _, o := range slices.Clone(w.queued) {
		p.giveUp(o, why)
	}
}

func (p *Poller) logState(s *session.Session) {
	about := []any{"session", s.ID, "request_id", s.Spec.RequestID, "state", s.State, "hosts", len(s.Hosts), "failed", len(s.Failed()), "samples", s.Progress.Samples, "requester", s.Spec.Requester}
	level := slog.LevelInfo
	if s.Err != nil {
		about = append(about, "error", s.Err.Error())
	}
	if s.State == session.StateFailed {
		level = slog.LevelWarn
	}
	p.log.Log(p.ctx, level, "session "+string(s.State), about...)
}

func (p *Poller) logPart(t *part) {
	r, w := t.run, t.whole
	if r.State == session.StateFailed && len(w.parts) > 1 {
		p.note(func() {
			p.log.Warn("a host has no profile", "session", w.id(), "host", r.Host, "error", r.Err.Error())
		})
	}
}
