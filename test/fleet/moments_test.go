// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/agents"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// A daemon is killed, or asked to end, while commands are on their way: each
// session that was accepted ends, and none runs twice.
func TestEndedWhileStarting(t *testing.T) {
	const sessions = 12
	for _, ends := range []struct {
		name string
		who  func(f *fleet) *daemons.Program
		how  func(*daemons.Program)
		may  []string // codes of sessions that fail
	}{
		{"poller killed", func(f *fleet) *daemons.Program { return f.poller }, (*daemons.Program).Kill, nil},
		{"poller stopped", func(f *fleet) *daemons.Program { return f.poller }, stop, nil},
		{"agent killed", func(f *fleet) *daemons.Program { return f.hosts[0].agent }, (*daemons.Program).Kill, nil},
		{"agent stopped", func(f *fleet) *daemons.Program { return f.hosts[0].agent }, stop, nil},
		{"profiler killed", func(f *fleet) *daemons.Program { return f.hosts[0].profiler }, (*daemons.Program).Kill, []string{"profiler_restarted"}},
		{"profiler stopped", func(f *fleet) *daemons.Program { return f.hosts[0].profiler }, stop, []string{"profiler_restarted", "service_stopping"}},
	} {
		t.Run(ends.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 1, func(c object) { c["limits"].(object)["max_sessions_per_target"] = 100 })
			target := programs.Start(t, "split.c", programs.Options{})
			f.hosts[0].set(func(w *weather) { w.delay = 50 * time.Millisecond })
			ids := make([]session.ID, sessions)
			var all sync.WaitGroup
			for i := range ids {
				all.Go(func() {
					ids[i] = f.start(session.Spec{PIDs: []int{target.PID}, Duration: time.Second + time.Duration(i)*time.Millisecond, Hosts: on("web-01")}).ID
				})
			}
			daemons.Until(t, "the first ones are sent", func() bool {
				_, ok := f.hosts[0].profiler.Find(func(l *daemons.Line) bool { return l.Message == "session started" })
				return ok
			})
			ends.how(ends.who(f))
			ends.who(f).Start()
			all.Wait()
			f.hosts[0].set(func(w *weather) { *w = weather{} })
			for _, id := range ids {
				if id == "" {
					t.Fatal("a session was not accepted")
				}
				s := f.ended(id)
				f.endsAsOneOf(&s, ends.may)
			}
			f.balance(sessions)
		})
	}
}

func stop(p *daemons.Program) { p.Stop() }

// endsAsOneOf makes sure that a session has succeeded, or has not for one of
// these reasons.
func (f *fleet) endsAsOneOf(s *session.Session, codes []string) {
	f.t.Helper()
	if s.State == session.StateSucceeded {
		f.wholeProfile(s.ID)
		return
	}
	if f.starved(s) {
		return
	}
	for _, code := range codes {
		if s.Err != nil && s.Err.Code == code {
			return
		}
	}
	f.t.Errorf("a session %s: %v; want that it succeeded, or one of %v", s.State, s.Err, codes)
}

// A large profile comes through a bad network when the poller ends, or the
// network does. What had come is not fetched again.
func TestEndedWhileCollecting(t *testing.T) {
	for _, fault := range []struct {
		name    string
		happens func(*fleet)
		anew    bool // the profile is asked for again, for sure
	}{
		{"poller killed", func(f *fleet) { f.poller.Kill(); f.poller.Start() }, true},
		{"poller stopped", func(f *fleet) { f.poller.Stop(); f.poller.Start() }, true},
		{"network cut", func(f *fleet) { f.stands("far-away", session.HostAway) }, false},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 0)
			at := s.node("far-away")
			simulated := s.simulate(at, agents.Options{Stacks: 60_000})
			f := s.fleet(1, nil)
			at.set(func(w *weather) { *w = weather{delay: 20 * time.Millisecond, cutAfter: 768 << 10} })
			one := f.start(session.Spec{PIDs: []int{1}, Duration: time.Second, Hosts: on(at.name)})
			daemons.Until(t, "the first part of the profile is there", func() bool { return at.isCut() && f.partial() > 256<<10 })
			had := f.partial()
			fault.happens(f)
			at.set(func(w *weather) { *w = weather{} })
			last := f.ended(one.ID)
			f.endsAsOneOf(&last, nil)
			fetches := simulated.Fetches()
			if fault.anew && len(fetches) < 2 || len(fetches) > 1 && fetches[len(fetches)-1] < had/2 {
				t.Errorf("%d bytes had come, and fetches began at %v", had, fetches)
			}
			f.balance(1)
		})
	}
}

// A profile is on its slow way when the agent ends, or the profiler: the agent
// has nothing that could be lost, and what the profiler had is there, or gone
// with it for a reason that is told.
func TestHostEndedWhileCollecting(t *testing.T) {
	for _, ends := range []struct {
		name string
		who  func(*host) *daemons.Program
		how  func(*daemons.Program)
		may  []string
	}{
		{"agent killed", func(h *host) *daemons.Program { return h.agent }, (*daemons.Program).Kill, nil},
		{"agent stopped", func(h *host) *daemons.Program { return h.agent }, stop, nil},
		{"profiler killed", func(h *host) *daemons.Program { return h.profiler }, (*daemons.Program).Kill, []string{"profiler_restarted"}},
		{"profiler stopped", func(h *host) *daemons.Program { return h.profiler }, stop, []string{"profiler_restarted"}},
	} {
		t.Run(ends.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 1, nil)
			h := f.hosts[0]
			target := programs.Start(t, "split.c", programs.Options{})
			one := f.start(session.Spec{PIDs: []int{target.PID}, Duration: time.Second, Hosts: on("web-01")})
			h.set(func(w *weather) { w.delay = 300 * time.Millisecond })
			f.await(one.ID, "its profile is collected", func(s *session.Session) bool { return s.State.Final() || s.Hosts[0].EndedBy != "" })
			ends.how(ends.who(h))
			ends.who(h).Start()
			h.set(func(w *weather) { *w = weather{} })
			last := f.ended(one.ID)
			f.endsAsOneOf(&last, ends.may)
			f.balance(1)
		})
	}
}

// partial is how much of a profile is there that is on its way.
func (f *fleet) partial() (size int64) {
	names, err := filepath.Glob(filepath.Join(f.data, "results", "partial", "*"))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil { // else it is whole by now
			size += info.Size()
		}
	}
	return size
}

// Somebody cancels a session whose host is cut off, and then a daemon ends: it
// is canceled all the same, and what was sampled up to then is there unless it
// was the profiler that ended.
func TestEndedWhileCanceling(t *testing.T) {
	for _, fault := range []struct {
		name    string
		happens func(*fleet)
		profile bool
	}{
		{"poller killed", func(f *fleet) { f.poller.Kill(); f.poller.Start() }, true},
		{"poller stopped", func(f *fleet) { f.poller.Stop(); f.poller.Start() }, true},
		{"agent killed", func(f *fleet) { f.hosts[0].agent.Kill(); f.hosts[0].agent.Start() }, true},
		{"agent stopped", func(f *fleet) { f.hosts[0].agent.Stop(); f.hosts[0].agent.Start() }, true},
		{"profiler killed", func(f *fleet) { f.hosts[0].profiler.Kill(); f.hosts[0].profiler.Start() }, false},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 1, nil)
			target := programs.Start(t, "split.c", programs.Options{})
			one := f.start(session.Spec{PIDs: []int{target.PID}, Duration: 4 * time.Minute, Hosts: on("web-01")})
			f.await(one.ID, "it has samples", func(s *session.Session) bool { return s.Progress.Samples > 20 })
			f.hosts[0].set(func(w *weather) { w.cut = true })
			if now, err := f.client.Cancel(t.Context(), one.ID); err != nil || now.State.Final() {
				t.Errorf("canceling what is cut off: %s, %v", now.State, err)
			}
			fault.happens(f)
			f.hosts[0].set(func(w *weather) { *w = weather{} })
			last := f.ended(one.ID)
			if last.State != session.StateCanceled || last.Err == nil || last.Err.Code != "canceled" {
				t.Errorf("it is %s: %v", last.State, last.Err)
			}
			if fault.profile {
				f.wholeProfile(one.ID)
			}
			f.balance(1)
		})
	}
}
