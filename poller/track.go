// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// tracker goes with one part from its place in the queue to its end. Nobody else
// changes the part meanwhile.
type tracker struct {
	p     *Poller
	t     *part
	run   store.Run // as it was published last
	m     memory
	rules rules
}

// track is the life of a part that has a place, or had one before the poller was
// started again.
func (p *Poller) track(t *part) {
	k := &tracker{p: p, t: t}
	p.mu.Lock()
	k.run, k.m = t.run, t.memory
	if k.m.sent.IsZero() {
		k.m.sent = p.begun
	}
	t.host.active[t] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(t.host.active, t)
		p.vacate(t)
		p.dispatch()
		p.unlock()
	}()
	for p.ctx.Err() == nil {
		if !k.prepare() {
			return
		}
		switch next(&k.run, &k.m, &k.rules) {
		case stepNone:
			return
		case stepMeet:
			k.meet()
		case stepSend:
			k.send()
		case stepLook:
			k.look()
		case stepFollow:
			k.follow()
		case stepStop:
			k.stop()
		case stepCollect:
			k.collect()
		}
		if k.handBack() || k.m.retry > 0 && !p.sleep(jitter(k.m.retry), t.wake) {
			return
		}
	}
}

func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }

// prepare looks at what has changed around the run. It reports whether the run
// goes on.
func (k *tracker) prepare() bool {
	p, w := k.p, k.t.whole
	now := time.Now()
	p.mu.Lock()
	spec := &w.record.Session.Spec
	k.rules = p.limits.rules(spec)
	k.rules.canceled = w.canceled()
	if spec.MaxWait > 0 {
		k.rules.waitUntil = w.record.Session.Created.Add(spec.MaxWait)
	}
	removed := k.t.host.removed
	p.mu.Unlock()
	run := k.run
	if expire(&run, &k.m, &k.rules, now); !run.State.Final() && removed {
		lost(&run, &k.rules, now, hostRemoved(run.Host))
	}
	if run.State != k.run.State {
		return k.keep(run) && !k.run.State.Final()
	}
	if !sampling(&k.run, &k.rules, now) && k.run.Instance != "" {
		p.mu.Lock()
		p.vacate(k.t)
		p.dispatch()
		p.unlock()
	}
	return true
}

func hostRemoved(name string) *session.Error {
	return &session.Error{Code: "host_removed", Kind: session.ErrUnavailable, Problem: "the host " + name + " is not in the poller's configuration any more", Remedy: "put it back (agents), or start another session"}
}

// handBack lets a part wait in the queue again whose host is away and was sent
// nothing yet: others may have its place meanwhile.
func (k *tracker) handBack() bool {
	if k.run.Instance != "" || k.run.State.Final() || k.m.away.IsZero() {
		return false
	}
	p, t := k.p, k.t
	p.mu.Lock()
	defer p.unlock()
	if !t.host.away() || p.stopping {
		return false
	}
	t.memory = memory{}
	p.vacate(t)
	p.enqueue(t)
	t.block = blockAway
	p.dispatch()
	p.settleIfQuiet(t.whole)
	t.whole.tell()
	return true
}

// see takes in an observation. It reports whether the step it belongs to is
// still the one to take.
func (k *tracker) see(o observation) bool {
	o.at = time.Now()
	before := next(&k.run, &k.m, &k.rules)
	run := k.run
	observe(&run, &k.m, &k.rules, &o)
	if !k.keep(run) {
		return false
	}
	return next(&k.run, &k.m, &k.rules) == before
}

// keep writes a run down, if anything that counts has changed, and then lets
// everybody know.
func (k *tracker) keep(run store.Run) bool {
	if !kept(&k.run, &run) {
		if !k.p.writeRun(k.t, run) {
			return false
		}
	} else {
		k.p.publish(k.t, run)
	}
	k.run = run
	return true
}

// saw is the observation that an error is. What a host says of itself may change;
// only to a start it is the last word.
func (k *tracker) saw(err error, final bool) observation {
	s, e := outcome(err)
	if (s == sawRefusal || s == sawStopping) && !final {
		s = sawNothing
	}
	k.p.heard(k.t.host, s, e)
	return observation{sight: s, err: e}
}

// call bounds a call to a host.
func (k *tracker) call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(k.p.ctx, k.rules.callTimeout)
}

func (k *tracker) fleet() session.Fleet {
	k.p.mu.Lock()
	defer k.p.mu.Unlock()
	return k.t.host.fleet
}

// alive asks the host which life it is in.
func (k *tracker) alive(ctx context.Context) (string, error) {
	hosts, err := k.fleet().Hosts(ctx, session.Hosts{})
	if err != nil {
		return "", err
	}
	return k.p.met(k.t.host, hosts)
}

func (k *tracker) meet() {
	ctx, cancel := k.call()
	defer cancel()
	instance, err := k.alive(ctx)
	if err != nil {
		k.see(k.saw(err, true))
		return
	}
	k.see(observation{sight: sawLife, instance: instance})
}

func (k *tracker) send() {
	ctx, cancel := k.call()
	defer cancel()
	k.p.mu.Lock()
	spec := k.p.specFor(k.t)
	k.p.mu.Unlock()
	now, err := k.fleet().Start(k.t.whole.trace.Within(ctx), spec)
	if err != nil {
		k.see(k.saw(err, true))
		return
	}
	k.p.heard(k.t.host, sawSession, nil)
	k.see(observation{sight: sawSession, session: now})
}

// look finds the session by its command. In which life the host is, is asked
// afterwards: so what was not there, was not there in that life.
func (k *tracker) look() {
	ctx, cancel := k.call()
	defer cancel()
	all, err := k.fleet().List(ctx, session.Filter{})
	if err != nil {
		k.see(k.saw(err, false))
		return
	}
	for _, s := range all {
		if s.Spec.RequestID == k.run.Command || k.run.ID != "" && s.ID == k.run.ID {
			k.see(observation{sight: sawSession, session: s})
			return
		}
	}
	instance, err := k.alive(ctx)
	if err != nil {
		k.see(k.saw(err, false))
		return
	}
	k.see(observation{sight: sawNone, instance: instance})
}

// follow watches the session, and asks for it where nothing comes: who is to
// tell may hang.
func (k *tracker) follow() {
	ctx, cancel := context.WithCancel(k.p.ctx)
	defer cancel()
	silent := time.AfterFunc(k.rules.callTimeout, cancel)
	defer silent.Stop()
	defer k.woken(ctx, cancel)()
	for now, err := range k.fleet().Watch(ctx, k.run.ID) {
		silent.Reset(k.rules.callTimeout)
		if err != nil {
			if ctx.Err() == nil {
				k.see(k.saw(err, false))
				return
			}
			break
		}
		k.p.heard(k.t.host, sawSession, nil)
		if !k.see(observation{sight: sawSession, session: now}) {
			return
		}
	}
	k.ask()
}

// ask asks once how the session is.
func (k *tracker) ask() {
	ctx, cancel := k.call()
	defer cancel()
	now, err := k.fleet().Get(ctx, k.run.ID)
	if err != nil {
		if k.p.ctx.Err() == nil {
			k.see(k.saw(err, false))
		}
		return
	}
	k.see(observation{sight: sawSession, session: now})
}

// stop has the host cancel the session, which takes as long as finding names
// does.
func (k *tracker) stop() {
	ctx, cancel := context.WithTimeout(k.p.ctx, 3*k.rules.callTimeout)
	defer cancel()
	now, err := k.fleet().Cancel(k.t.whole.trace.Within(ctx), k.run.ID)
	if err != nil {
		k.see(k.saw(err, false))
		return
	}
	k.see(observation{sight: sawSession, session: now})
}

// woken ends a context when the part is woken. What woke it is looked at before
// the next step. The function that it returns ends the context, too, and waits.
func (k *tracker) woken(ctx context.Context, cancel context.CancelFunc) func() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-k.t.wake:
			cancel()
		case <-ctx.Done():
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// writeRun writes a part's run down, for as long as it takes, and then publishes
// it. It reports whether that was done before the poller ended.
func (p *Poller) writeRun(t *part, run store.Run) bool {
	for try := 1; ; try++ {
		err := p.store.UpdateRun(p.ctx, t.whole.id(), &run)
		if err == nil {
			p.storeWorks()
			p.publish(t, run)
			return true
		}
		if p.ctx.Err() != nil {
			return false
		}
		p.storeFailed(err, t.whole.id())
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrTransition) { // nobody but us writes there
			p.log.Error("what is kept of a session is not what it was to be", "session", t.whole.id(), "host", run.Host, "error", err)
		}
		if !p.sleep(pauseAfter(try), nil) {
			return false
		}
	}
}
