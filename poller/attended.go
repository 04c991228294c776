// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// For how long an attended session goes on with nobody there: at first, also
// after the poller was started again, and after the last one left. The hosts
// know nothing of it: to them the poller has started all sessions, and one that
// is started again must not end what runs.
const (
	attendedFirst = 10 * time.Second
	attendedAfter = 5 * time.Second
)

// unattendedBy is who cancels a session that nobody watches.
const unattendedBy = "unattended"

func unattendedError() *session.Error {
	return &session.Error{Code: "unattended", Kind: session.ErrCanceled,
		Problem: "the session was canceled because nobody watched it any more",
		Remedy:  "watch it until it ends, or start it so that it goes on alone"}
}

// attend cancels an attended session unless somebody comes to watch it. p.mu is
// held.
func (p *Poller) attend(w *whole, within time.Duration) {
	if !w.record.Session.Spec.Attended || w.state.Final() || p.stopping || !w.durable {
		return
	}
	until := time.Now().Add(within)
	w.unattended.stop()
	w.unattended = after(within, func() {
		p.mu.Lock()
		// Somebody may have come, or come and gone, while this waited for the lock.
		alone := len(w.watchers) == 0 && w.record.Session.Spec.Attended && !time.Now().Before(until) && !w.state.Final() && !p.stopping
		if alone {
			p.all.Go(func() { p.stop(w, unattendedBy) })
		}
		p.mu.Unlock()
	})
}

// stop cancels a session for a reason, for as long as it takes to write that
// down.
func (p *Poller) stop(w *whole, by string) {
	for try := 1; p.cancelBy(w, by) != nil; try++ {
		if !p.sleep(pauseAfter(try), w.done) {
			return
		}
	}
}
