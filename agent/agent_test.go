// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// one is a profiler with one session, which runs until it is canceled.
type one struct {
	session.Runner
	mu        sync.Mutex
	now       session.Session
	gets      int
	forgotten bool
}

func (o *one) Start(_ context.Context, spec session.Spec) (session.Session, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = session.Session{ID: "x", Spec: spec, State: session.StateRunning, Started: time.Now(), Shared: 1}
	return o.now, nil
}

func (o *one) Get(_ context.Context, id session.ID) (session.Session, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.gets++
	if o.forgotten {
		return session.Session{}, session.NotFound(id)
	}
	return o.now, nil
}

func (o *one) Cancel(context.Context, session.ID) (session.Session, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now.State = session.StateCanceled
	return o.now, nil
}

// allowance is a guard that changes its mind.
type allowance struct {
	mu      sync.Mutex
	refused error
	ended   chan session.Session
}

func (a *allowance) Permit(int, uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused
}

func (a *allowance) Ended(s session.Session) { a.ended <- s }

func (a *allowance) refuse() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = &session.Error{Code: "target_not_allowed", Kind: session.ErrForbidden, Problem: "not any more"}
}

// A session ends when nobody who asked for it may have it any more, and each of
// them is told how it ended.
func TestWhatIsNotAllowedAnyMoreEnds(t *testing.T) {
	profiler := &one{}
	told := make(chan session.Session, 10)
	a, err := New(profiler, func(context.Context) (remote.Report, error) { return remote.Report{Version: "1"}, nil },
		Options{Limits: DefaultLimits(), Changed: func(s session.Session) { told <- s }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	guards := []*allowance{{ended: make(chan session.Session, 1)}, {ended: make(chan session.Session, 1)}}
	spec := session.Spec{PIDs: []int{1}, Duration: time.Minute, Frequency: 99}
	for _, g := range guards {
		if _, err := a.Start(session.WithGuard(t.Context(), g), spec); err != nil {
			t.Fatal(err)
		}
	}
	if s, now := <-told, a.Stats(); s.State != session.StateRunning || now != (Stats{Running: 1}) {
		t.Errorf("two asked for one session: %+v, %+v", s, now)
	}
	guards[0].refuse()
	select {
	case s := <-guards[0].ended:
		t.Errorf("one of two may have it still, and it ended: %+v", s)
	case <-time.After(2 * lookEvery):
	}
	guards[1].refuse()
	for _, g := range guards {
		if s := <-g.ended; s.State != session.StateCanceled {
			t.Errorf("%+v", s)
		}
	}
	if s, now := <-told, a.Stats(); s.State != session.StateCanceled || now != (Stats{}) || len(told) > 0 {
		t.Errorf("%+v, %+v, and %d more", s, now, len(told))
	}
}

// A session that the profiler forgot did not end in any way that is known.
func TestSessionOutOfSight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		profiler := &one{}
		a, err := New(profiler, func(context.Context) (remote.Report, error) { return remote.Report{Version: "1"}, nil },
			Options{Limits: DefaultLimits(), Changed: func(s session.Session) {
				if s.State.Final() {
					t.Errorf("%+v", s)
				}
			}})
		if err != nil {
			t.Fatal(err)
		}
		g := &allowance{ended: make(chan session.Session, 1)}
		if _, err := a.Start(session.WithGuard(t.Context(), g), session.Spec{PIDs: []int{1}, Duration: time.Minute, Frequency: 99}); err != nil {
			t.Fatal(err)
		}
		profiler.mu.Lock()
		profiler.forgotten = true
		profiler.mu.Unlock()
		time.Sleep(2 * tellEvery)
		synctest.Wait()
		if got := a.Stats(); got != (Stats{OutOfSight: 1}) {
			t.Errorf("%+v", got)
		}
		a.Close()
		if len(g.ended) > 0 {
			t.Errorf("it is said to have ended: %+v", <-g.ended)
		}
	})
}

// A profiler writes down each call, and lets an agent make so many: a session
// that is watched over takes few of them, and its end is told at once all the
// same.
func TestWatchingOverAsksRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		profiler := &one{}
		a, err := New(profiler, func(context.Context) (remote.Report, error) { return remote.Report{Version: "1"}, nil }, Options{Limits: DefaultLimits()})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		g := &allowance{ended: make(chan session.Session, 1)}
		if _, err := a.Start(session.WithGuard(t.Context(), g), session.Spec{PIDs: []int{1}, Duration: time.Minute, Frequency: 99}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for time.Sleep(time.Minute / 2); time.Since(began) < time.Minute; time.Sleep(time.Second) {
			profiler.mu.Lock()
			profiler.now.Progress.Elapsed = time.Since(began)
			profiler.mu.Unlock()
		}
		profiler.mu.Lock()
		gets := profiler.gets
		profiler.now.State = session.StateSucceeded
		profiler.mu.Unlock()
		if gets > 8 {
			t.Errorf("it was asked %d times in a minute", gets)
		}
		if s := <-g.ended; s.State != session.StateSucceeded || time.Since(began) > time.Minute+3*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), s)
		}
	})
}

// What may be asked for here is bounded, also where the profiler allows more.
func TestLimits(t *testing.T) {
	a, err := New(&one{}, func(context.Context) (remote.Report, error) { return remote.Report{}, nil }, Options{Limits: Limits{MaxSessionDurationSeconds: 10, MaxFrequencyHz: 99, CallTimeoutSeconds: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	for code, spec := range map[string]session.Spec{
		"":                {PIDs: []int{1}, Duration: 10 * time.Second, Frequency: 99},
		"duration_limit":  {PIDs: []int{1}, Duration: 11 * time.Second, Frequency: 99},
		"frequency_limit": {PIDs: []int{1}, Duration: time.Second, Frequency: 100},
		"no_target":       {Duration: time.Second, Frequency: 99},
	} {
		_, err := a.Start(t.Context(), spec)
		var e *session.Error
		if code == "" && err != nil || code != "" && (!errors.As(err, &e) || e.Code != code) {
			t.Errorf("%q: %v", code, err)
		}
	}
	for _, l := range []Limits{{}, {MaxSessionDurationSeconds: 1, MaxFrequencyHz: 1, CallTimeoutSeconds: 26}} {
		if err := a.SetLimits(l); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("%+v: %v", l, err)
		}
	}
}
