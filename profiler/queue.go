// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"fmt"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// free says whether a session can begin at once. Those that wait come first.
func (s *Sessions) free() bool { return s.busy < s.limits.MaxConcurrentSessions && len(s.queue) == 0 }

// begin gives a session a place.
func (s *Sessions) begin(r *run) {
	s.busy++
	r.placed, r.turn = true, time.Now()
	r.waiting.stop()
	s.all.Go(func() { s.run(r) })
}

// enqueue makes a session wait for a place.
func (s *Sessions) enqueue(r *run) {
	s.queue = append(s.queue, r)
	r.waited = true
	r.now.Position = len(s.queue)
	s.bound(r)
	r.settle(nil)
}

// bound ends the waiting of a session when it has lasted for too long.
func (s *Sessions) bound(r *run) {
	r.waiting.stop()
	most := r.now.Spec.MaxWait
	if most == 0 {
		return
	}
	r.waiting = after(time.Until(r.now.Created.Add(most)), func() {
		s.mu.Lock()
		defer s.unlock()
		if r.now.Position == 0 || r.now.Spec.MaxWait != most {
			return // it had its turn, or may wait for longer since
		}
		s.move(r, session.StateFailed, &session.Error{Code: "waited_too_long", Kind: session.ErrBusy, RetryAfter: s.nextFree(),
			Problem: fmt.Sprintf("no session ended within %v, for which this one was ready to wait", most), Remedy: "try again, or wait for longer"})
	})
}

// dequeue takes a session out of the queue, if it is in there.
func (s *Sessions) dequeue(r *run) {
	i := slices.Index(s.queue, r)
	if i < 0 {
		return
	}
	s.queue = slices.Delete(s.queue, i, i+1)
	r.now.Position = 0
	r.waiting.stop()
	for ; i < len(s.queue); i++ {
		s.queue[i].now.Position = i + 1
		s.queue[i].tell()
	}
}

// vacate gives the place of a session back, and the next in the queue his turn.
func (s *Sessions) vacate(r *run) {
	if !r.placed {
		return
	}
	r.placed = false
	s.busy--
	s.fill()
}

// fill gives free places to those who wait.
func (s *Sessions) fill() {
	for s.busy < s.limits.MaxConcurrentSessions && len(s.queue) > 0 {
		next := s.queue[0]
		s.dequeue(next)
		next.tell()
		s.begin(next)
	}
}

// nextFree is when the first of the running sessions will be over.
func (s *Sessions) nextFree() time.Duration {
	first := time.Duration(0)
	for _, r := range s.runs {
		if r.now.State.Final() || r.now.Position > 0 {
			continue
		}
		left := r.now.Spec.Duration
		if !r.now.Started.IsZero() {
			left = max(0, time.Until(r.now.Started.Add(left)))
		}
		if first == 0 || left < first {
			first = max(left, time.Millisecond)
		}
	}
	return first
}
