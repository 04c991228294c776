// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Cancel ends a session for all whom it serves, and returns when it has ended:
// what was sampled has names then. That ctx is over before changes nothing of that.
func (s *Sessions) Cancel(ctx context.Context, id session.ID) (session.Session, error) {
	if err := ctx.Err(); err != nil {
		return session.Session{}, err
	}
	s.mu.Lock()
	r, err := s.find(id)
	if err == nil {
		s.stop(r, &session.Error{Code: "canceled", Kind: session.ErrCanceled, Problem: "the session was canceled on request", Remedy: "start another one"})
	}
	s.unlock()
	if err != nil {
		return session.Session{}, err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return session.Session{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.view(), nil
}

// stop cancels a session for a reason, unless it was canceled for another one
// before, or has ended.
func (s *Sessions) stop(r *run, why *session.Error) {
	if r.stopped != nil || r.now.State.Final() {
		return
	}
	r.stopped = why
	if r.now.State == session.StatePending { // nothing was sampled
		s.move(r, session.StateCanceled, why)
		return
	}
	r.cancel() // its goroutine does the rest
}

func serviceStopping() *session.Error {
	return &session.Error{Code: "service_stopping", Kind: session.ErrUnavailable, Problem: "the profiler is about to stop", Remedy: "try again when it is back"}
}

// keepEnded takes a session that has just ended among those that are kept for
// a while.
func (s *Sessions) keepEnded(r *run) {
	s.ended = append(s.ended, r)
	for len(s.ended) > s.limits.MaxKeptSessions {
		s.forget(s.ended[0])
	}
	s.awaitExpiry()
}

// awaitExpiry sets the timer for the first session that is to be forgotten.
// That is not the first that ended, where the limits have changed since.
func (s *Sessions) awaitExpiry() {
	s.expiry.stop()
	s.expiry = timer{}
	if len(s.ended) > 0 {
		first := slices.MinFunc(s.ended, func(a, b *run) int { return a.now.Expires.Compare(b.now.Expires) })
		s.expiry = after(time.Until(first.now.Expires), s.expire)
	}
}

func (s *Sessions) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Clone(s.ended) {
		if !time.Now().Before(r.now.Expires) {
			s.forget(r)
		}
	}
	s.awaitExpiry()
}

// forget lets go of a session that has ended, and of its profile.
func (s *Sessions) forget(r *run) {
	if i := slices.Index(s.ended, r); i >= 0 {
		s.ended = slices.Delete(s.ended, i, i+1)
	}
	r.forgotten = true
	for _, c := range r.contents {
		s.discard(c)
	}
	r.contents = nil
	s.drop(r)
}

// drop removes a session from where it can be found.
func (s *Sessions) drop(r *run) {
	delete(s.runs, r.now.ID)
	for _, id := range r.requests {
		delete(s.requests, id)
	}
}

// Close stops gracefully: there are no new sessions, those that wait or run are
// canceled and get their names, and their profiles, and others that nobody has
// fetched yet, can be fetched until the grace period or ctx is over. Then
// nothing is kept, and no goroutine is left.
//
// The error is ctx's, if sessions had not ended by then.
func (s *Sessions) Close(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	for _, r := range s.runs {
		s.stop(r, serviceStopping())
	}
	s.unlock()
	ended := make(chan struct{})
	go func() {
		s.all.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("stop sessions: %w", ctx.Err())
	}
	s.grace(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ended) > 0 {
		s.forget(s.ended[0])
	}
	s.awaitExpiry()
	return nil
}

// grace waits until all profiles were fetched, for so long as it may.
func (s *Sessions) grace(ctx context.Context) {
	limits := s.Limits()
	over := time.NewTimer(limits.gracePeriod())
	defer over.Stop()
	for s.undelivered() {
		select {
		case <-s.handedOut:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (s *Sessions) undelivered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.ended, func(r *run) bool { return len(r.contents) > 0 && !r.delivered })
}
