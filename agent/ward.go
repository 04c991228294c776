// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"io/fs"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// ward is a session over which the agent watches for those who asked for it.
type ward struct {
	guards []session.Guard
	state  session.State // as it was seen last
}

const (
	lookEvery = time.Second
	tellEvery = 10 * time.Second
	maxGuards = 256 // of one session: a client that repeats its request has the same rights each time
	lostAfter = time.Minute
)

// watchOver asks the guards again while the session waits and runs, ends what
// none of them permits any more, and tells them how it ended. A context does not
// go to another process, so this is what takes its place: the guards are asked
// once a second. How far it is, the profiler is asked more rarely, because there
// each time is a line of the audit and one of the calls that an agent has; from
// the moment on when it should have ended, once a second, too. To watch it would
// make it attended.
func (a *Agent) watchOver(s *session.Session, g session.Guard) {
	if s.State.Final() {
		g.Ended(*s)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.wards[s.ID]; w != nil {
		if len(w.guards) < maxGuards {
			w.guards = append(w.guards, g)
		}
		return
	}
	if a.ctx.Err() != nil {
		return
	}
	a.wards[s.ID] = &ward{guards: []session.Guard{g}, state: session.StatePending}
	a.wg.Go(func() {
		a.saw(s)
		a.guard(*s)
	})
}

// saw notes how a session is, and tells of what is new.
func (a *Agent) saw(s *session.Session) {
	a.mu.Lock()
	w := a.wards[s.ID]
	began := w.state == session.StatePending && !s.Started.IsZero()
	w.state = s.State
	a.mu.Unlock()
	if began {
		begun := *s
		begun.State = session.StateRunning
		a.changed(begun)
	}
	if s.State.Final() {
		a.changed(*s)
	}
}

// Stats are counts for who watches an agent.
type Stats struct {
	Running, Pending int    // sessions that were asked for here, and have not ended
	OutOfSight       uint64 // of which nobody knows how they ended, since the start
}

// Stats counts. It asks nobody.
func (a *Agent) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := Stats{OutOfSight: a.unseen}
	for _, w := range a.wards {
		switch w.state {
		case session.StatePending:
			now.Pending++
		case session.StateRunning:
			now.Running++
		}
	}
	return now
}

func (a *Agent) guard(last session.Session) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	seen, next := time.Now(), time.Now().Add(untilTold(&last))
	for canceled := false; ; {
		select {
		case <-a.ctx.Done():
			a.leave(last.ID)
			return
		case <-tick.C:
		}
		permitted := canceled || a.permitted(&last)
		if permitted && time.Now().Before(next) {
			continue
		}
		now, err := a.Get(a.ctx, last.ID)
		switch {
		case err == nil:
			last, seen, next = now, time.Now(), time.Now().Add(untilTold(&now))
			a.saw(&now)
		case errors.Is(err, session.ErrNotFound), time.Since(seen) > lostAfter:
			a.leave(last.ID)
			a.mu.Lock()
			a.unseen++
			a.mu.Unlock()
			a.log.Warn("a session was lost sight of", "session", last.ID, "error", err.Error())
			return
		default:
			continue // the profiler may come back, and have it still
		}
		if last.State.Final() {
			for _, g := range a.leave(last.ID) {
				g.Ended(last)
			}
			return
		}
		if !permitted {
			canceled, next = a.revoke(last.ID), time.Now()
		}
	}
}

// untilTold is for how long it is enough to know what is known of a session.
func untilTold(s *session.Session) time.Duration {
	if s.State != session.StateRunning {
		return tellEvery
	}
	return min(tellEvery, s.Spec.Duration-s.Progress.Elapsed)
}

// revoke ends a session.
func (a *Agent) revoke(id session.ID) (canceled bool) {
	a.log.Warn("a session ends because nobody who asked for it may have it any more", "session", id)
	if _, err := a.profiler.Cancel(a.ctx, id); err != nil && a.ctx.Err() == nil {
		a.log.Warn("a session could not be ended", "session", id, "error", err.Error())
		return false
	}
	return true
}

// permitted says whether one of those who asked may still sample all targets.
func (a *Agent) permitted(s *session.Session) bool {
	a.mu.Lock()
	guards := append([]session.Guard{}, a.wards[s.ID].guards...)
	a.mu.Unlock()
	for _, g := range guards {
		if permits(g, s.Spec.PIDs) {
			return true
		}
	}
	return false
}

func permits(g session.Guard, pids []int) bool {
	for _, pid := range pids {
		// Which process it was is known to the profiler alone: who has that PID now
		// is what can be asked here.
		if err := g.Permit(pid, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// leave ends the watch over a session.
func (a *Agent) leave(id session.ID) []session.Guard {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.wards[id]
	delete(a.wards, id)
	return w.guards
}
