// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// states are sessions of one host, one in each state.
type states struct {
	ended, running, waiting session.Session
	all                     int // how many there were before it was so
}

// eachState has a session in each state: the host has one place, and the
// poller's queue the rest. On a machine that is busy with other things the
// second one may have ended when the third one is there: then it takes longer
// ones.
func (f *fleet) eachState() states {
	f.t.Helper()
	var s states
	start := func(d time.Duration) session.Session {
		s.all++
		return f.start(session.Spec{PIDs: []int{programs.Start(f.t, "split.c", programs.Options{}).PID}, Duration: d, Frequency: 199, Hosts: on("web-01")})
	}
	s.ended = f.ended(start(time.Second).ID)
	for long := 6 * time.Second; ; long *= 2 {
		s.running = start(long)
		f.await(s.running.ID, "it samples", func(s *session.Session) bool { return s.State != session.StatePending })
		s.waiting = start(time.Second)
		if s.waiting.State == session.StatePending {
			return s
		}
	}
}

// outcome is how a session is to end: its state, and the code of its error.
type outcome struct {
	state session.State
	code  string
}

var well = outcome{session.StateSucceeded, ""}

// endsAs wants one of these outcomes.
func (f *fleet) endsAs(what string, id session.ID, wants ...outcome) {
	f.t.Helper()
	s := f.ended(id)
	is := outcome{state: s.State}
	if s.Err != nil {
		is.code = s.Err.Code
	}
	if f.starved(&s) && slices.Contains(wants, well) {
		return
	}
	if !slices.Contains(wants, is) {
		f.t.Errorf("the session that was %s is %s, %v; want %v", what, s.State, s.Err, wants)
	}
	if s.State != session.StateSucceeded {
		return
	}
	if got := f.hottest(id); !strings.HasPrefix(got, "hot_") { // a or b: there may be few samples
		f.t.Errorf("the hottest function of the session that was %s is %q", what, got)
	}
}

// starved says whether a session has sampled, and there was nothing to sample,
// because others left the target no CPU.
func (f *fleet) starved(s *session.Session) bool {
	if s.State != session.StateFailed || s.Err == nil || s.Err.Code != "no_samples" {
		return false
	}
	f.t.Logf("this machine is busy: %v", s.Err)
	return true
}

// hottest fetches a profile.
func (f *fleet) hottest(id session.ID) string {
	f.t.Helper()
	c, err := f.client.Fetch(f.t.Context(), id, session.Want{})
	if err != nil {
		f.t.Errorf("fetch: %v", err)
		return ""
	}
	defer c.Body.Close()
	p, err := pprof.Read(c.Body)
	if err != nil {
		f.t.Errorf("fetch: %v", err)
		return ""
	}
	var text strings.Builder
	if err := folded.Write(&text, p, folded.Options{}); err != nil {
		f.t.Fatal(err)
	}
	return hottest(f.t, text.String())
}

// Everything that can fail fails once, while a session has ended, one runs and
// one waits. Each of them ends in the state that is true.
func TestFaults(t *testing.T) {
	lost := outcome{session.StateFailed, "profiler_restarted"}
	for _, fault := range []struct {
		name    string
		happens func(f *fleet, h *host)
		running outcome
	}{
		{"poller killed", func(f *fleet, _ *host) { f.poller.Kill(); f.poller.Start() }, well},
		{"poller stopped", func(f *fleet, _ *host) { f.poller.Stop(); f.poller.Start() }, well},
		{"agent killed", func(_ *fleet, h *host) { h.agent.Kill(); time.Sleep(2 * time.Second); h.agent.Start() }, well},
		{"agent stopped", func(_ *fleet, h *host) { h.agent.Stop(); h.agent.Start() }, well},
		{"profiler stopped", func(_ *fleet, h *host) { h.profiler.Stop(); h.profiler.Start() }, outcome{session.StateCanceled, "service_stopping"}},
		{"profiler killed", func(_ *fleet, h *host) { h.profiler.Kill(); h.profiler.Start() }, lost},
		{"host killed, and the poller", func(f *fleet, h *host) {
			f.poller.Kill()
			h.agent.Kill()
			h.profiler.Kill()
			h.profiler.Start()
			h.agent.Start()
			f.poller.Start()
		}, lost},
		{"network cut beyond the end", func(_ *fleet, h *host) {
			h.set(func(w *weather) { w.cut = true })
			time.Sleep(9 * time.Second)
			h.set(func(w *weather) { w.cut = false })
		}, well},
		{"network cut, and the poller killed", func(f *fleet, h *host) {
			h.set(func(w *weather) { w.cut = true })
			f.poller.Kill()
			f.poller.Start()
			time.Sleep(7 * time.Second)
			h.set(func(w *weather) { w.cut = false })
		}, well},
		{"link down", func(f *fleet, h *host) {
			run(f.t, "ip", "-n", h.space(), "link", "set", "wire", "down")
			time.Sleep(7 * time.Second)
			run(f.t, "ip", "-n", h.space(), "link", "set", "wire", "up")
		}, well},
		{"agent hangs", func(_ *fleet, h *host) {
			h.agent.Signal(syscall.SIGSTOP)
			time.Sleep(8 * time.Second)
			h.agent.Signal(syscall.SIGCONT)
		}, well},
		{"profiler hangs", func(_ *fleet, h *host) {
			h.profiler.Signal(syscall.SIGSTOP)
			time.Sleep(8 * time.Second)
			h.profiler.Signal(syscall.SIGCONT)
		}, well},
		{"slow network that loses, doubles and reorders", func(_ *fleet, h *host) {
			h.set(func(w *weather) {
				*w = weather{delay: 40 * time.Millisecond, lose: 0.05, double: 0.1, shuffle: 60 * time.Millisecond}
			})
		}, well},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel() // they wait, most of the time
			f := newFleet(t, 1, func(c object) { c["limits"].(object)["max_sessions_per_host"] = 1 })
			s := f.eachState()
			fault.happens(f, f.hosts[0])
			f.endsAs("ended", s.ended.ID, well)
			f.endsAs("running", s.running.ID, fault.running, well) // it may have ended before
			waiting := []outcome{well, fault.running}              // and this one begun
			if fault.running != well {
				waiting = append(waiting, lost) // or the answer whether it has begun went with the profiler
			}
			f.endsAs("waiting", s.waiting.ID, waiting...)
			f.balance(s.all)
		})
	}
}

// balance makes sure that there are so many sessions, that all have ended, and
// that no host ran one of them twice.
func (f *fleet) balance(sessions int) {
	f.t.Helper()
	all, err := f.client.List(f.t.Context(), session.Filter{})
	if err != nil {
		f.t.Fatal(err)
	}
	by := map[session.State]int{}
	for _, s := range all {
		by[s.State]++
	}
	if len(all) != sessions || by[session.StateSucceeded]+by[session.StateFailed]+by[session.StateCanceled] != sessions {
		f.t.Errorf("%d sessions were started, and there are %v", sessions, by)
	}
	for _, h := range f.hosts {
		started := map[string]int{}
		for _, l := range h.profiler.All(func(l *daemons.Line) bool { return l.Message == "session started" }) {
			if started[l.RequestID]++; started[l.RequestID] > 1 {
				f.t.Errorf("%s ran %s twice", h.name, l.RequestID)
			}
		}
	}
}

// Sessions come all the time while daemons are killed and networks cut at
// random, as often as it goes. Each session that was accepted ends, with a
// reason if not well, and none runs twice.
func TestStorm(t *testing.T) {
	f := newFleet(t, 2, func(c object) {
		c["limits"].(object)["dispatch_ttl_seconds"] = 20
		c["limits"].(object)["max_sessions_per_host"] = 3
	})
	const sessions = 40
	pids := []int{}
	for range 4 {
		pids = append(pids, programs.Start(t, "split.c", programs.Options{}).PID)
	}
	stop := make(chan struct{})
	over := make(chan struct{})
	go func() { defer close(over); f.trouble(stop) }()
	var ids []session.ID
	for i := range sessions {
		// No two ask for the same, or they are one session.
		spec := session.Spec{PIDs: []int{pids[i%len(pids)]}, Duration: time.Duration(200+rand.IntN(1500))*time.Millisecond + time.Duration(i)*time.Microsecond,
			Frequency: 199, Hosts: on(f.hosts[i%2].name), RequestID: fmt.Sprintf("storm-%d", i)}
		ids = append(ids, f.start(spec).ID)
		if again := f.start(spec); again.ID != ids[i] { // as a client does that got no answer
			t.Errorf("request %d became two sessions", i)
		}
		if i%7 == 3 {
			if _, err := f.client.Cancel(t.Context(), ids[i]); err != nil && !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("cancel: %v", err)
			}
		}
	}
	close(stop)
	<-over
	if unique := len(slices.Compact(slices.Sorted(slices.Values(ids)))); unique != sessions {
		t.Errorf("%d requests became %d sessions", sessions, unique)
	}
	reasons := map[string]int{}
	for _, id := range ids {
		s := f.ended(id)
		switch {
		case s.State == session.StateSucceeded:
			reasons["succeeded"]++
			f.wholeProfile(id)
		case s.Err == nil || s.Err.Code == "" || s.Err.Problem == "":
			t.Errorf("a session %s, and nothing says why: %+v", s.State, s)
		default:
			reasons[string(s.State)+" "+s.Err.Code]++
		}
	}
	t.Log(reasons)
	f.balance(sessions)
}

// trouble kills and cuts, one thing after the other, and mends it.
func (f *fleet) trouble(stop <-chan struct{}) {
	for {
		h := f.hosts[rand.IntN(len(f.hosts))]
		switch rand.IntN(5) {
		case 0:
			f.poller.Kill()
			f.poller.Start()
		case 1:
			h.agent.Kill()
			h.agent.Start()
		case 2:
			h.profiler.Kill()
			h.profiler.Start()
		case 3:
			h.set(func(w *weather) { w.cut = true })
			time.Sleep(time.Duration(rand.IntN(4000)) * time.Millisecond)
			h.set(func(w *weather) { w.cut = false })
		case 4:
			h.set(func(w *weather) { w.lose, w.delay = 0.1, 20*time.Millisecond })
		}
		select {
		case <-stop:
			for _, h := range f.hosts {
				h.set(func(w *weather) { *w = weather{} })
			}
			return
		case <-time.After(time.Duration(300+rand.IntN(1500)) * time.Millisecond):
		}
	}
}

// wholeProfile fetches a profile and checks nothing but that it is one.
func (f *fleet) wholeProfile(id session.ID) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), daemons.Hangs)
	defer cancel()
	c, err := f.client.Fetch(ctx, id, session.Want{})
	if err != nil {
		f.t.Errorf("fetch %s: %v", id, err)
		return
	}
	defer c.Body.Close()
	if _, err := pprof.Read(c.Body); err != nil {
		f.t.Errorf("fetch %s: %v", id, err)
	}
	_, _ = io.Copy(io.Discard, c.Body) // its end was read
}
