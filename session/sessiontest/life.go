// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// A session samples when Start returns, and ends by itself.
func (s *suite) life() {
	target := s.Busy(s)
	asked := s.spec(short, target)
	asked.RequestID, asked.Requester = "life", "a person"
	first := s.start(asked)
	if first.State != session.StateRunning || first.Started.IsZero() || first.Host == "" || first.Position != 0 || first.Shared != 1 {
		s.Errorf("with a place free, start is answered with %+v", first)
	}
	if first.Spec.RequestID != asked.RequestID || first.Spec.Requester != asked.Requester || first.Spec.Frequency != asked.Frequency || first.Spec.Duration != asked.Duration {
		s.Errorf("the session is to do %+v", first.Spec)
	}
	if len(first.Targets) != 1 || first.Targets[0].PID != target.PID || first.Targets[0].Name == "" {
		s.Errorf("the targets are %+v", first.Targets)
	}
	last := s.ended(first.ID)
	// Where others leave the target no time, for longer.
	for last.Err != nil && last.Err.Code == "no_samples" && 4*asked.Duration < s.MaxDuration {
		asked.Duration *= 4
		asked.RequestID += " again"
		last = s.ended(s.start(asked).ID)
	}
	if last.State != session.StateSucceeded || last.Err != nil || last.EndedBy != profile.EndedDuration {
		s.Errorf("it ended as %+v", last)
	}
	if last.Progress.Samples == 0 || last.Progress.Elapsed < short || last.Progress.Hottest == "" {
		s.Errorf("its progress in the end is %+v", last.Progress)
	}
	if last.Ended.Before(last.Started) || !last.Expires.After(last.Ended) {
		s.Errorf("it started %v, ended %v, expires %v", last.Started, last.Ended, last.Expires)
	}
}

// A session whose target exits has succeeded, and says why it ended.
func (s *suite) exit() {
	target := s.Busy(s)
	first := s.start(s.spec(s.MaxDuration, target))
	s.until(first.ID, sampled)
	target.Stop()
	last := s.ended(first.ID)
	if last.State != session.StateSucceeded || last.EndedBy != profile.EndedExited || last.Progress.Samples == 0 {
		s.Errorf("it ended as %+v", last)
	}
	_, err := s.Runner.Start(s.Context(), s.spec(short, target))
	s.wants("start on what exited", err, errNoProcess, "no_such_process")
}

// Without samples there is no profile, but a reason.
func (s *suite) noSamples() {
	first := s.start(s.spec(50*time.Millisecond, s.Idle(s)))
	last := s.ended(first.ID)
	if last.State != session.StateFailed {
		s.Errorf("it ended as %+v", last)
	}
	if last.Err == nil {
		s.Fatal("it does not say why")
	}
	s.wants("a session of a sleeper", last.Err, session.ErrNoSamples, "no_samples")
	_, err := s.Runner.Fetch(s.Context(), first.ID, session.Want{})
	s.wants("fetch", err, session.ErrNoSamples, "no_samples")
}

// One request ID leads to one session, however often, and also later.
func (s *suite) requestID() {
	asked := s.spec(short, s.Busy(s))
	asked.RequestID = "one"
	var mu sync.Mutex
	found := map[session.ID]bool{}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			now, err := s.Runner.Start(s.Context(), asked)
			if err != nil {
				s.Errorf("start: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			found[now.ID] = true
		})
	}
	all.Wait()
	if len(found) != 1 {
		s.Errorf("three identical requests led to %d sessions", len(found))
	}
	first := s.start(asked)
	if !found[first.ID] || first.Shared != 1 {
		s.Errorf("the request again leads to %+v", first)
	}
	other := asked
	other.Frequency--
	_, err := s.Runner.Start(s.Context(), other)
	s.wants("the request ID for something else", err, session.ErrInvalid, "request_id_reused")
	last := s.ended(first.ID)
	if again := s.start(asked); again.ID != first.ID || again.State != last.State {
		s.Errorf("after the end the request leads to %+v", again)
	}
	if n := len(s.listed(session.Filter{})); n != 1 {
		s.Errorf("there are %d sessions", n)
	}
}

// Who asks for the same while it runs shares the session; something else runs beside it.
func (s *suite) attach() {
	one, two := s.Busy(s), s.Busy(s)
	asked := s.spec(s.MaxDuration, one, two)
	asked.RequestID = "first"
	first := s.start(asked)
	same := s.spec(s.MaxDuration, two, one, two)
	same.RequestID = "second"
	second := s.start(same)
	if second.ID != first.ID || second.Shared != 2 {
		s.Errorf("an identical request leads to %s, shared by %d, not to %s", second.ID, second.Shared, first.ID)
	}
	if again := s.start(same); again.ID != first.ID || again.Shared != 2 {
		s.Errorf("the second one once more leads to %s, shared by %d", again.ID, again.Shared)
	}
	same.RequestID = ""
	if third := s.start(same); third.ID != first.ID || third.Shared != 3 {
		s.Errorf("one without a request ID leads to %s, shared by %d", third.ID, third.Shared)
	}
	other := asked
	other.RequestID = ""
	other.Frequency--
	beside := s.start(other)
	if beside.ID == first.ID || beside.State != session.StateRunning {
		s.Errorf("another request leads to %+v", beside)
	}
	for _, id := range []session.ID{first.ID, beside.ID} {
		if now := s.until(id, sampled); now.State != session.StateRunning {
			s.Errorf("%s: %+v", id, now)
		}
		if _, err := s.Runner.Cancel(s.Context(), id); err != nil {
			s.Error(err)
		}
	}
	// It was canceled for all, so the next one is a new one.
	if fresh := s.start(s.spec(s.MaxDuration, one, two)); fresh.ID == first.ID {
		s.Error("a request joins a session that was canceled")
	} else if _, err := s.Runner.Cancel(s.Context(), fresh.ID); err != nil {
		s.Error(err)
	}
}

// A client that missed the answer asks again, maybe after the session's end.
func (s *suite) repeat() {
	asked := s.spec(50*time.Millisecond, s.Busy(s))
	first := s.start(asked)
	s.ended(first.ID)
	if again := s.start(asked); again.ID != first.ID {
		s.Errorf("the same request a moment later leads to %s, not to %s", again.ID, first.ID)
	}
	asked.RequestID = "new" // who has one is no such client
	if other := s.start(asked); other.ID == first.ID {
		s.Error("a request with an ID joined a session that had ended")
	}
}

func (s *suite) get() {
	target := s.Busy(s)
	first := s.start(s.spec(s.MaxDuration, target))
	now, err := s.Runner.Get(s.Context(), first.ID)
	if err != nil || now.ID != first.ID || now.State != session.StateRunning {
		s.Errorf("get: %+v, %v", now, err)
	}
	s.until(first.ID, sampled)
	target.Stop()
	last := s.ended(first.ID)
	if now, err = s.Runner.Get(s.Context(), first.ID); err != nil || now.State != last.State || now.Progress != last.Progress || !now.Ended.Equal(last.Ended) {
		s.Errorf("get says %+v, watch %+v: %v", now, last, err)
	}
}

func (s *suite) list() {
	if got := s.listed(session.Filter{}); len(got) != 0 {
		s.Fatalf("there are sessions already: %q", got)
	}
	one, two := s.Busy(s), s.Busy(s)
	a := s.succeeded()
	b := s.start(s.spec(s.MaxDuration, one))
	c := s.start(s.spec(s.MaxDuration, two, one))
	for _, test := range []struct {
		filter session.Filter
		want   []session.ID
	}{
		{session.Filter{}, []session.ID{a.ID, b.ID, c.ID}},
		{session.Filter{PID: two.PID}, []session.ID{c.ID}},
		{session.Filter{States: []session.State{session.StateSucceeded}}, []session.ID{a.ID}},
		{session.Filter{States: []session.State{session.StateRunning, session.StatePending}}, []session.ID{b.ID, c.ID}},
		{session.Filter{States: []session.State{session.StateRunning, session.StateSucceeded}, PID: one.PID}, []session.ID{b.ID, c.ID}},
		{session.Filter{States: []session.State{session.StateFailed}}, nil},
	} {
		if got := s.listed(test.filter); !slices.Equal(got, test.want) {
			s.Errorf("%+v chooses %q, want %q", test.filter, got, test.want)
		}
	}
}

// Watch tells at once, in the order of states, and ends with a final one.
func (s *suite) watch() {
	target := s.Busy(s)
	first := s.start(s.spec(s.MaxDuration, target))
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { s.follow(first.ID) })
	}
	s.until(first.ID, sampledWell)
	target.Stop()
	all.Wait()
	n := 0
	for now, err := range s.Runner.Watch(s.Context(), first.ID) {
		if n++; err != nil || now.State != session.StateSucceeded {
			s.Errorf("after the end watch says %+v, %v", now, err)
		}
	}
	if n != 1 {
		s.Errorf("after the end watch says %d things", n)
	}
}

// follow checks all that watch tells of a session.
func (s *suite) follow(id session.ID) {
	var last session.Session
	progress := 0
	for now, err := range s.Runner.Watch(s.Context(), id) {
		if err != nil {
			s.Errorf("watch: %v", err)
			return
		}
		switch {
		case now.ID != id:
			s.Errorf("watch of %s tells of %s", id, now.ID)
		case last.ID == "":
		case last.State.Final():
			s.Errorf("%s after %s", now.State, last.State)
		case now.State != last.State && !last.State.May(now.State):
			s.Errorf("from %s to %s", last.State, now.State)
		case now.Progress.Samples < last.Progress.Samples || now.Progress.Elapsed < last.Progress.Elapsed:
			s.Errorf("progress went back from %+v to %+v", last.Progress, now.Progress)
		}
		if now.State == session.StateRunning && now.Progress.Samples > last.Progress.Samples {
			progress++
		}
		last = now
	}
	if last.State != session.StateSucceeded || progress == 0 {
		s.Errorf("watch ended with %+v, after %d reports of progress", last, progress)
	}
}

// One who looks away keeps nobody waiting, and misses no state.
func (s *suite) watchSlowly() {
	target := s.Busy(s)
	first := s.start(s.spec(s.MaxDuration, target))
	var states []session.State
	for now, err := range s.Runner.Watch(s.Context(), first.ID) {
		if err != nil {
			s.Fatal(err)
		}
		if states = append(states, now.State); len(states) == 1 {
			target.Stop()
			s.ended(first.ID) // another one sees all of it meanwhile
		}
	}
	if n := len(states); n < 2 || states[0] != session.StateRunning || !states[n-1].Final() {
		s.Errorf("a slow watcher saw %q", states)
	}
}

// An attended session ends when nobody watches it any more.
func (s *suite) attended() {
	asked := s.spec(s.MaxDuration, s.Busy(s))
	asked.Attended = true
	first := s.start(asked)
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	for now, err := range s.Runner.Watch(ctx, first.ID) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				s.Errorf("watch: %v", err)
			}
			break
		}
		if sampled(now) {
			cancel()
		}
	}
	// To look is not to watch.
	var last session.Session
	for !last.State.Final() {
		var err error
		if last, err = s.Runner.Get(s.Context(), first.ID); err != nil {
			s.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if last.State != session.StateCanceled || last.Err == nil || last.Progress.Elapsed >= s.MaxDuration {
		s.Fatalf("it ended as %+v", last)
	}
	s.wants("the end of an attended session", last.Err, session.ErrCanceled, "unattended")
	if c, _ := s.fetched(first.ID, session.Want{}); c.Session.State != session.StateCanceled {
		s.Errorf("its profile is of a session that is %s", c.Session.State)
	}
}
