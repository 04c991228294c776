// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// Commands come twice, at once, late and in another order, through a network
// that doubles and reorders what it carries.
func TestCommandsAreRepeated(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	target := programs.Start(t, "split.c", programs.Options{})
	for _, at := range []*node{f.hub, f.hosts[0].node} {
		at.set(func(w *weather) { *w = weather{double: 0.3, shuffle: 20 * time.Millisecond} })
	}
	spec := session.Spec{PIDs: []int{target.PID}, Duration: 2 * time.Second, Frequency: 199, Hosts: on("web-01"), RequestID: "twice"}
	const callers = 10
	ids := make([]session.ID, callers)
	var all sync.WaitGroup
	for i := range ids {
		client := f.dial("admin")
		all.Go(func() {
			one, err := client.Start(t.Context(), spec)
			if err != nil {
				t.Errorf("start: %v", err)
			}
			ids[i] = one.ID
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("one request became the sessions %s and %s", ids[0], id)
		}
	}
	other := spec
	other.Duration = 3 * time.Second
	f.reused(other)
	f.endsAs("asked for by many", ids[0], well)
	f.reused(other) // also now
	if again := f.start(spec); again.ID != ids[0] || again.State != session.StateSucceeded {
		t.Errorf("asked for again, it is %s, %s", again.ID, again.State)
	}

	spec.RequestID, spec.Duration = "canceled", 4*time.Minute
	one := f.start(spec)
	for range 2 {
		if now, err := f.client.Cancel(t.Context(), one.ID); err != nil || now.State != session.StateCanceled {
			t.Errorf("cancel: %s, %v", now.State, err)
		}
	}
	if again := f.start(spec); again.ID != one.ID || again.State != session.StateCanceled {
		t.Errorf("started once more after it was canceled, it is %s, %s", again.ID, again.State)
	}
	f.poller.Kill()
	f.poller.Start()
	if again := f.start(spec); again.ID != one.ID || again.State != session.StateCanceled {
		t.Errorf("started once more by another poller, it is %s, %s", again.ID, again.State)
	}
	f.reused(other)
	f.balance(2)
}

// reused makes sure that a request ID that stands for something else is refused.
func (f *fleet) reused(spec session.Spec) {
	f.t.Helper()
	spec.RequestID = "twice"
	_, err := f.client.Start(f.t.Context(), spec)
	var e *session.Error
	if !errors.As(err, &e) || e.Code != "request_id_reused" {
		f.t.Errorf("another session under a request ID that is taken: %v", err)
	}
}

// One of three hosts hangs: it keeps nobody else waiting.
func TestOneHostHangs(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, func(c object) { c["limits"].(object)["dispatch_ttl_seconds"] = 3600 })
	name := unique("beside")
	target := programs.Start(t, "split.c", programs.Options{As: name})
	stuck := f.hosts[1]
	stuck.agent.Signal(syscall.SIGSTOP)
	defer stuck.agent.Signal(syscall.SIGCONT)
	spec := session.Spec{Select: session.Selector{Name: name}, Duration: time.Second, Hosts: session.Hosts{All: true}}
	one := f.start(spec)
	f.await(one.ID, "the others are done", func(s *session.Session) bool {
		return s.Hosts[0].State == session.StateSucceeded && s.Hosts[2].State == session.StateSucceeded
	})
	for _, name := range []string{"web-01", "web-03"} {
		c, err := f.client.Fetch(t.Context(), one.ID, session.Want{Host: name})
		if err != nil {
			t.Errorf("%s cannot be fetched while another host hangs: %v", name, err)
			continue
		}
		c.Body.Close()
	}
	now := f.await(one.ID, "it says for whom it waits", func(s *session.Session) bool { return s.State.Final() || s.Hosts[1].Waiting != "" })
	if h := now.Hosts[1]; now.State != session.StateRunning || h.State != session.StatePending || !strings.Contains(h.Waiting, "web-02 does not answer") {
		t.Errorf("the session is %s, and the host that hangs %s, %q", now.State, h.State, h.Waiting)
	}
	// Another one, of hosts that are well, has nothing to wait for.
	f.endsAs("beside it", f.start(session.Spec{PIDs: []int{target.PID}, Duration: time.Second, Hosts: on("web-03")}).ID, well)
	stuck.agent.Signal(syscall.SIGCONT)
	last := f.ended(one.ID)
	if f.endsAsOneOf(&last, nil); len(last.Failed()) > 0 {
		t.Errorf("it hung, and is well again: %+v", last.Failed())
	}
	f.balance(2)
}
