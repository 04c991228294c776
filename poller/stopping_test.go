// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// What a profiler refuses because it is about to stop begins in its next life:
// nothing of it was ever sampled, and so nothing was lost.
func TestStoppingIsNotRestarted(t *testing.T) {
	at := time.Now()
	ru := &rules{duration: time.Second, hostTTL: time.Minute, dispatchTTL: time.Minute, callTimeout: time.Second}
	r, m := &store.Run{HostRun: session.HostRun{Host: "web-01", State: session.StatePending}}, &memory{}
	see := func(o observation) step {
		at = at.Add(time.Second)
		o.at = at
		observe(r, m, ru, &o)
		return next(r, m, ru)
	}
	if to := see(observation{sight: sawLife, instance: "first"}); to != stepSend {
		t.Fatalf("after its life was told, the next step is %s", to)
	}
	if to := see(observation{sight: sawStopping, err: stopping()}); to != stepMeet || r.Waiting == "" || r.Until.IsZero() {
		t.Errorf("after it was refused, the next step is %s: %+v", to, r)
	}
	if to := see(observation{sight: sawLife, instance: "second"}); to != stepSend || r.Instance != "second" {
		t.Errorf("in the next life, the next step is %s: %+v", to, r)
	}
	if seen, _ := outcome(stopping()); seen != sawStopping {
		t.Errorf("the error of a profiler that stops is taken for %s", seen)
	}
}

// A host that dies after it was met and before it was asked begins in its next
// life, and one that may have been asked does not.
func TestNeverCameIsNotRestarted(t *testing.T) {
	otherLife := &session.Error{Code: "other_instance", Kind: session.ErrUnavailable, Problem: "another life", Undone: true}
	maybe := *otherLife
	maybe.Undone = false
	for _, c := range []struct {
		name  string
		seen  []observation
		steps []step
	}{
		{"another life answers", []observation{{sight: sawOther, err: otherLife}}, []step{stepMeet}},
		{"nobody is there", []observation{{sight: sawNothing, err: errNotSent}}, []step{stepMeet}},
		{"no place, and then another life", []observation{{sight: sawBusy, err: &session.Error{Code: "busy", Kind: session.ErrBusy}}, {sight: sawOther, err: otherLife}}, []step{stepSend, stepMeet}},
		{"another life answers the second try", []observation{{sight: sawOther, err: &maybe}, {sight: sawNone, instance: "second"}}, []step{stepLook, stepNone}},
		{"no answer, and then nobody is there", []observation{{sight: sawNothing, err: errAway}, {sight: sawNothing, err: errNotSent}, {sight: sawNone, instance: "second"}}, []step{stepLook, stepLook, stepNone}},
		{"refused on the way, and then another life", []observation{{sight: sawBusy, err: &session.Error{Code: "rate_limited", Kind: session.ErrBusy}}, {sight: sawNone, instance: "second"}}, []step{stepLook, stepNone}},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := time.Now()
			ru := &rules{duration: time.Second, hostTTL: time.Minute, dispatchTTL: time.Minute, callTimeout: time.Second}
			r, m := &store.Run{HostRun: session.HostRun{Host: "web-01", State: session.StatePending}}, &memory{}
			observe(r, m, ru, &observation{sight: sawLife, instance: "first", at: at})
			for i, o := range c.seen {
				at = at.Add(10 * time.Millisecond)
				o.at = at
				observe(r, m, ru, &o)
				if to := next(r, m, ru); to != c.steps[i] {
					t.Fatalf("after %s the next step is %s, want %s", o.sight, to, c.steps[i])
				}
			}
			if c.steps[len(c.steps)-1] == stepMeet {
				observe(r, m, ru, &observation{sight: sawLife, instance: "second", at: at})
				if to := next(r, m, ru); to != stepSend || r.Instance != "second" {
					t.Errorf("in the next life, the next step is %s: %+v", to, r)
				}
			} else if r.State != session.StateFailed || codeOf(r.Err) != "profiler_restarted" {
				t.Errorf("%+v", r)
			}
		})
	}
}
