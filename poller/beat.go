// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Each host is asked now and then how it is: one question at a time, with a
// deadline, and at a time of its own, so that ten thousand of them are not asked
// at once. Between the questions a host costs no goroutine, only its place in a
// heap. Those that are away are asked in a lane of their own: however many hang,
// the others have their turn.

// How many hosts are asked at the same time.
const (
	calmAtOnce = 64
	awayAtOnce = 64
)

// beat is when a host is asked next.
type beat struct {
	due   time.Time
	lane  *lane
	index int // in the lane; -1 while it is asked, and at the end
}

// lane has hosts in the order in which they are asked.
type lane struct {
	hosts []*host
	out   int // that are being asked
	most  int
}

func (l *lane) Len() int           { return len(l.hosts) }
func (l *lane) Less(i, j int) bool { return l.hosts[i].beat.due.Before(l.hosts[j].beat.due) }

func (l *lane) Swap(i, j int) {
	l.hosts[i], l.hosts[j] = l.hosts[j], l.hosts[i]
	l.hosts[i].beat.index, l.hosts[j].beat.index = i, j
}

// Push is of heap.Interface.
func (l *lane) Push(h any) {
	one, _ := h.(*host) // nothing else is pushed
	one.beat.index = len(l.hosts)
	l.hosts = append(l.hosts, one)
}

// Pop is of heap.Interface.
func (l *lane) Pop() any {
	last := l.hosts[len(l.hosts)-1]
	l.hosts = l.hosts[:len(l.hosts)-1]
	last.beat.index = -1
	return last
}

// beats are all of them. Poller.mu guards them.
type beats struct {
	calm, away lane
	wake       chan struct{} // has room for one
}

func (b *beats) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *beats) add(h *host, due time.Time) {
	h.beat.due, h.beat.lane = due, &b.calm
	if h.away() {
		h.beat.lane = &b.away
	}
	heap.Push(h.beat.lane, h)
	b.nudge()
}

func (b *beats) remove(h *host) {
	if h.beat.index >= 0 && h.beat.lane != nil {
		heap.Remove(h.beat.lane, h.beat.index)
	}
}

// soon lets a host be asked soon: later each time it does not answer, and
// sooner where somebody waits for it.
func (b *beats) soon(h *host, most time.Duration) {
	if h.removed || h.beat.index < 0 {
		return // it is being asked
	}
	if len(h.queued)+len(h.active) > 0 {
		most = min(most, longestPause)
	}
	wait := jitter(min(firstPause<<min(h.tries, 12), most))
	if due := time.Now().Add(wait); due.Before(h.beat.due) || h.beat.lane == &b.calm && h.away() {
		b.remove(h)
		b.add(h, due)
	}
}

// soonAmong spreads the first questions: hosts of a small fleet are asked at
// once.
func soonAmong(n int) time.Time {
	if n <= calmAtOnce {
		return time.Now()
	}
	return time.Now().Add(rand.N(time.Duration(n) * 2 * time.Millisecond))
}

// beat asks hosts when they are due, until the poller ends.
func (p *Poller) beat() {
	for {
		p.mu.Lock()
		wait := time.Hour
		for _, l := range []*lane{&p.beats.calm, &p.beats.away} {
			for l.Len() > 0 && l.out < l.most && !l.hosts[0].beat.due.After(time.Now()) {
				h, _ := heap.Pop(l).(*host)
				l.out++
				p.all.Go(func() { p.askHost(h, l) })
			}
			if l.Len() > 0 && l.out < l.most {
				wait = min(wait, time.Until(l.hosts[0].beat.due))
			}
		}
		p.mu.Unlock()
		if !p.sleep(max(wait, time.Millisecond), p.beats.wake) {
			return
		}
	}
}

// askHost asks a host how it is.
func (p *Poller) askHost(h *host, l *lane) {
	ctx, cancel := context.WithTimeout(p.ctx, p.callTimeout())
	defer cancel()
	told, err := p.fleetOf(h).Hosts(ctx, session.Hosts{})
	if err == nil {
		_, _ = p.met(h, told) // it is noted
	} else {
		s, e := outcome(err)
		p.heard(h, s, e)
	}
	p.mu.Lock()
	defer p.unlock()
	l.out--
	select {
	case <-h.asked:
	default:
		close(h.asked)
	}
	p.beats.nudge()
	if h.removed || p.ctx.Err() != nil {
		return
	}
	every := seconds(p.limits.HeartbeatSeconds)
	if !h.away() {
		p.beats.add(h, time.Now().Add(jitter(every)))
		return
	}
	p.beats.add(h, time.Now().Add(every))
	p.beats.soon(h, every)
	p.giveUpWaiting(h)
}

// giveUpWaiting ends those parts that were sent nothing and have waited for the
// host for long enough. p.mu is held.
func (p *Poller) giveUpWaiting(h *host) {
	for _, t := range slices.Clone(h.queued) {
		if t.block == blockAway && t.whole.durable && time.Now().After(t.run.Until) {
			p.giveUp(t, unreachable(&t.run, h.err))
		}
	}
}
