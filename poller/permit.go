// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"errors"
	"slices"

	"github.com/carverauto/serviceradar-profiler/session"
)

// revokedBy is who cancels a session that is not permitted any more.
const revokedBy = "permission ended"

func revokedError() *session.Error {
	return &session.Error{Code: "permission_ended", Kind: session.ErrCanceled,
		Problem: "the session was canceled because nobody who asked for it may have it any more",
		Remedy:  "ask whoever configures the poller (access.roles, access.scope.hosts)"}
}

// Reconsider asks the guards of all sessions again, because who may what has
// changed, and cancels those that none of them permits any more. It does not
// wait for that. Of a session that was asked for before the poller was started
// nobody is there to be asked: it goes on.
func (p *Poller) Reconsider() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return
	}
	var all []*whole
	for _, w := range p.wholes {
		if !w.state.Final() && w.durable && len(w.guards) > 0 {
			all = append(all, w)
		}
	}
	p.all.Go(func() {
		for _, w := range all {
			if p.ctx.Err() == nil && !p.permitted(w) {
				p.stop(w, revokedBy)
			}
		}
	})
}

// permitted says whether one of those who asked for a session may have it still.
// Whoever cannot be asked is no reason to end it.
func (p *Poller) permitted(w *whole) bool {
	p.mu.Lock()
	guards := slices.Clone(w.guards)
	p.mu.Unlock()
	return slices.ContainsFunc(guards, func(g session.Guard) bool {
		return g == nil || !errors.Is(g.Permit(0, 0), session.ErrForbidden)
	})
}
