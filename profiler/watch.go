// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// watcher is one who watches a session. Nobody ever waits for him: what he has
// not taken yet is replaced by what is later, but no state is left out.
type watcher struct {
	news []session.Session // not taken yet: at most one a state, the latest
	wake chan struct{}     // has room for one
}

// tell hands the session as it is now to those who watch it.
func (r *run) tell() {
	for w := range r.watchers {
		if last := len(w.news) - 1; last >= 0 && w.news[last].State == r.now.State {
			w.news[last] = r.view()
		} else {
			w.news = append(w.news, r.view())
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// Watch tells of a session; see [session.Runner].
func (s *Sessions) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(session.Session{}, err)
			return
		}
		r, w, err := s.join(id)
		if err != nil {
			yield(session.Session{}, err)
			return
		}
		defer s.leave(r, w)
		for {
			for _, now := range s.take(w) {
				if !yield(now, nil) || now.State.Final() {
					return
				}
			}
			select {
			case <-w.wake:
			case <-ctx.Done():
				yield(session.Session{}, ctx.Err())
				return
			}
		}
	}
}

func (s *Sessions) join(id session.ID) (*run, *watcher, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find(id)
	if err != nil {
		return nil, nil, err
	}
	w := &watcher{news: []session.Session{r.view()}, wake: make(chan struct{}, 1)}
	r.watchers[w] = struct{}{}
	return r, w, nil
}

func (s *Sessions) leave(r *run, w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(r.watchers, w)
	if len(r.watchers) == 0 {
		s.attend(r, attendedAfter)
	}
}

func (s *Sessions) take(w *watcher) []session.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := slices.Clone(w.news)
	w.news = w.news[:0]
	return news
}

// For how long an attended session goes on with nobody there: at first, and
// after the last one left.
const (
	attendedFirst = 10 * time.Second
	attendedAfter = 5 * time.Second
)

// attend cancels an attended session unless somebody comes to watch it.
func (s *Sessions) attend(r *run, within time.Duration) {
	if !r.now.Spec.Attended || r.now.State.Final() {
		return
	}
	until := time.Now().Add(within)
	r.unattended.stop()
	r.unattended = after(within, func() {
		s.mu.Lock()
		defer s.unlock()
		// Somebody may have come, or come and gone, while this waited for the lock.
		if len(r.watchers) == 0 && r.now.Spec.Attended && !time.Now().Before(until) {
			s.stop(r, &session.Error{Code: "unattended", Kind: session.ErrCanceled,
				Problem: "the session was canceled because nobody watched it any more",
				Remedy:  "watch it until it ends, or start it so that it goes on alone"})
		}
	})
}

// timer is a time.Timer that may not be there.
type timer struct{ *time.Timer }

func after(d time.Duration, f func()) timer { return timer{time.AfterFunc(d, f)} }

func (t timer) stop() {
	if t.Timer != nil {
		t.Stop()
	}
}
