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
