// SPDX-License-Identifier: Apache-2.0

package profiler_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// chosen is what a selector came to: the processes may have exited since.
func chosen(pids ...int) session.Spec {
	return session.Spec{PIDs: pids, Select: session.Selector{Name: "split"}, Frequency: 99, Duration: 20 * time.Second}
}

// One of several processes that were chosen may go before the session begins,
// and while it waits; the others are sampled. All of them may not.
func TestChosenMayExit(t *testing.T) {
	needs(t, "gcc")
	s := sessions(t, func(l *profiler.Limits) { l.MaxConcurrentSessions = 1 })
	gone, first, stays := busy(t), busy(t), busy(t)
	gone.Stop()
	running := started(t, s, chosen(gone.PID, first.PID))
	if running.State != session.StateRunning || len(running.Targets) != 1 || running.Targets[0].PID != first.PID {
		t.Errorf("%+v", running)
	}
	_, err := s.Start(t.Context(), session.Spec{PIDs: []int{gone.PID, first.PID}, Frequency: 99, Duration: time.Second})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the same processes by their PIDs: %v", err)
	}
	if _, err := s.Start(t.Context(), chosen(gone.PID)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is gone: %v", err)
	}
	goes := busy(t)
	waits := started(t, s, chosen(goes.PID, stays.PID))
	lonely := started(t, s, chosen(goes.PID))
	if waits.State != session.StatePending || lonely.State != session.StatePending {
		t.Fatalf("%+v, %+v", waits, lonely)
	}
	goes.Stop()
	first.Stop()
	now := until(t, s, waits.ID, sampled)
	if len(now.Targets) != 1 || now.Targets[0].PID != stays.PID {
		t.Errorf("%+v", now)
	}
	stays.Stop()
	if last := until(t, s, waits.ID, over); last.State != session.StateSucceeded {
		t.Errorf("%+v", last)
	}
	if last := until(t, s, lonely.ID, over); last.State != session.StateFailed || last.Err.Code != "process_exited" {
		t.Errorf("%+v", last)
	}
	if _, err := s.Start(t.Context(), session.Spec{Select: session.Selector{Name: "split"}, Frequency: 99, Duration: time.Second}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("a selector that nobody resolved: %v", err)
	}
}

// What a selector means is found again when the turn of a session comes that had
// to wait: what was started anew meanwhile is sampled, by leave of who asked.
func TestChosenAgain(t *testing.T) {
	needs(t, "gcc")
	s := sessions(t, func(l *profiler.Limits) { l.MaxConcurrentSessions = 1 })
	var now atomic.Pointer[[]int]
	s.Resolve = func(_ context.Context, of session.Selector) ([]int, error) {
		if of.Name != "split" {
			t.Errorf("%s is looked for", of.String())
		}
		if pids := now.Load(); pids != nil {
			return *pids, nil
		}
		return nil, &session.Error{Code: "no_such_process", Kind: fs.ErrNotExist, Problem: "none has the name", Remedy: "look again"}
	}
	first, before, after := busy(t), busy(t), busy(t)
	runs := started(t, s, chosen(first.PID))
	if runs.State != session.StateRunning || runs.Spec.PIDs[0] != first.PID {
		t.Fatalf("%+v", runs)
	}
	again := func(frequency profile.Frequency) session.Spec {
		spec := chosen(before.PID)
		spec.Again, spec.Frequency = true, frequency
		return spec
	}
	waits := started(t, s, again(99))
	hot := again(39)
	hot.Select = session.Selector{Hottest: true}
	hottest := started(t, s, hot)
	fixed := chosen(before.PID) // somebody else has decided who it is
	fixed.Frequency = 29
	decided := started(t, s, fixed)
	lonely := again(49)
	nobody := started(t, s, lonely)
	if decided.State != session.StatePending || waits.State != session.StatePending || hottest.State != session.StatePending || nobody.State != session.StatePending {
		t.Fatalf("%+v, %+v, %+v", waits, hottest, nobody)
	}
	before.Stop()
	now.Store(&[]int{after.PID})
	first.Stop()
	got := until(t, s, waits.ID, sampled)
	if len(got.Targets) != 1 || got.Targets[0].PID != after.PID || !slices.Equal(got.Spec.PIDs, []int{after.PID}) {
		t.Errorf("%+v", got)
	}
	now.Store(nil)
	after.Stop()
	for _, id := range []session.ID{hottest.ID, decided.ID} {
		if last := until(t, s, id, over); last.State != session.StateFailed || last.Err.Code != "process_exited" {
			t.Errorf("%+v", last)
		}
	}
	if last := until(t, s, nobody.ID, over); last.State != session.StateFailed || last.Err.Code != "no_such_process" {
		t.Errorf("%+v", last)
	}
}
