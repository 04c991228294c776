// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// watchman is a guard who changes his mind.
type watchman struct {
	says  atomic.Pointer[error]
	ended atomic.Pointer[session.Session]
}

func (w *watchman) Permit(int, uint64) error {
	if e := w.says.Load(); e != nil {
		return *e
	}
	return nil
}

func (w *watchman) Ended(s session.Session) { w.ended.Store(&s) }

func (w *watchman) say(err error) { w.says.Store(&err) }

// Who may what is asked again when it has changed: a session ends that nobody who
// asked for it may have any more, whether it runs or waits.
func TestReconsider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, nil)
		defer f.crash()
		refusal := error(&session.Error{Code: "not_permitted", Kind: session.ErrForbidden, Problem: "no", Remedy: "ask"})
		one, other := &watchman{}, &watchman{}
		by := func(g session.Guard, s session.Spec) session.ID {
			t.Helper()
			ctx := t.Context()
			if g != nil {
				ctx = session.WithGuard(ctx, g)
			}
			now, err := f.Start(ctx, s)
			if err != nil {
				t.Fatal(err)
			}
			return now.ID
		}
		shared := by(one, everywhere(5*time.Minute))
		if again := by(other, everywhere(5*time.Minute)); again != shared {
			t.Fatalf("%s and %s are not one", again, shared)
		}
		waits := by(one, everywhere(4*time.Minute)) // for the same targets
		ours := by(nil, everywhere(3*time.Minute))
		reconsidered := func() {
			f.Reconsider()
			time.Sleep(5 * time.Second)
		}
		state := func(id session.ID) session.Session {
			t.Helper()
			now, err := f.Get(context.Background(), id)
			if err != nil {
				t.Fatal(err)
			}
			return now
		}
		one.say(errors.New("he cannot be asked"))
		reconsidered()
		if s := state(waits); s.State != session.StatePending {
			t.Errorf("%+v", s)
		}
		one.say(refusal)
		reconsidered()
		if s := state(waits); s.State != session.StateCanceled {
			t.Errorf("what waits is %s", s.State)
		} else {
			wants(t, s.Err, session.ErrCanceled, "permission_ended")
		}
		if s := state(shared); s.State != session.StateRunning {
			t.Errorf("what somebody else may have is %s: %v", s.State, s.Err)
		}
		other.say(refusal)
		reconsidered()
		last := state(shared)
		if last.State != session.StateCanceled || states(last)[session.StateCanceled] != 2 || last.Progress.Samples == 0 {
			t.Errorf("%+v", last)
		}
		wants(t, last.Err, session.ErrCanceled, "permission_ended")
		if s := other.ended.Load(); s == nil || s.ID != shared {
			t.Errorf("who asked was told of the end of %+v", s)
		}
		if s := state(ours); s.State != session.StateRunning {
			t.Errorf("what nobody has asked for is %s", s.State)
		}
		f.once()
	})
}
