// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"context"
	"iter"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// watcher is one who watches a session. Nobody ever waits for him: what he has
// not taken yet is replaced by what is later, but no state of the session is
// left out. Of what changes within one state he is told a few times a second.
type watcher struct {
	news  []session.Session // one a state of the session; not taken yet
	stale bool              // there is later than what he was told last
	wake  chan struct{}     // has room for one
}

// tellEvery is how often there is progress to be told.
const tellEvery = 200 * time.Millisecond

// tell lets those who watch know that there is something to see.
func (w *whole) tell() {
	for one := range w.watchers {
		one.stale = true
		one.nudge()
	}
}

// announce tells those who watch of a new state.
func (w *whole) announce() {
	if len(w.watchers) == 0 {
		return
	}
	now := w.view()
	for one := range w.watchers {
		one.news, one.stale = append(one.news, now), false
		one.nudge()
	}
}

func (o *watcher) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Watch tells of a session; see [session.Runner].
func (p *Poller) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(session.Session{}, err)
			return
		}
		w, one := p.join(id)
		if w == nil { // it may have ended long ago
			yield(p.Get(ctx, id))
			return
		}
		defer p.leave(w, one)
		for {
			news, err := p.take(w, one)
			told := time.Now()
			for _, now := range news {
				if !yield(now, nil) || now.State.Final() {
					return
				}
			}
			if err != nil {
				yield(session.Session{}, err)
				return
			}
			if err := p.await(ctx, one, told); err != nil {
				yield(session.Session{}, err)
				return
			}
		}
	}
}

// await waits for news, and for a while since the last ones if no state has
// changed: a session of a thousand hosts has progress a thousand times as often.
func (p *Poller) await(ctx context.Context, one *watcher, told time.Time) error {
	for enough := (<-chan time.Time)(nil); ; {
		select {
		case <-one.wake:
		case <-enough:
			return nil
		case <-p.ctx.Done():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		p.mu.Lock()
		hurry := len(one.news) > 0
		p.mu.Unlock()
		if hurry {
			return nil
		}
		enough = time.After(tellEvery - time.Since(told))
	}
}

func (p *Poller) join(id session.ID) (*whole, *watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.wholes[id]
	if w == nil || !w.durable {
		return nil, nil
	}
	one := &watcher{news: []session.Session{w.view()}, wake: make(chan struct{}, 1)}
	w.watchers[one] = struct{}{}
	return w, one
}

func (p *Poller) leave(w *whole, one *watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(w.watchers, one)
	if len(w.watchers) == 0 {
		p.attend(w, attendedAfter)
	}
}

// take is what there is to tell. The error ends the watching.
func (p *Poller) take(w *whole, one *watcher) ([]session.Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	news := one.news
	one.news = nil
	if one.stale {
		news = append(news, w.view())
		one.stale = false
	}
	if p.stopping && !w.state.Final() {
		return news, stopping()
	}
	return news, nil
}
