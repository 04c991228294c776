// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// What was sampled until a session is canceled can be fetched.
func (s *suite) cancel() {
	first := s.start(s.spec(s.MaxDuration, s.Busy(s)))
	s.until(first.ID, sampled)
	last, err := s.Runner.Cancel(s.Context(), first.ID)
	if err != nil || last.State != session.StateCanceled || last.Err == nil || last.Progress.Samples == 0 || last.EndedBy != profile.EndedInterrupted {
		s.Fatalf("cancel: %+v, %v", last, err)
	}
	s.wants("a canceled session", last.Err, session.ErrCanceled, "canceled")
	c, b := s.fetched(first.ID, session.Want{})
	if got := s.decoded(b).Meta.Counts.Samples; got != last.Progress.Samples || c.Session.State != session.StateCanceled {
		s.Errorf("the profile has %d samples of %d, its session is %s", got, last.Progress.Samples, c.Session.State)
	}
	if again, err := s.Runner.Cancel(s.Context(), first.ID); err != nil || again.State != session.StateCanceled || !again.Ended.Equal(last.Ended) {
		s.Errorf("cancel again: %+v, %v", again, err)
	}
	other := s.succeeded()
	if now, err := s.Runner.Cancel(s.Context(), other.ID); err != nil || now.State != session.StateSucceeded {
		s.Errorf("cancel after the end: %+v, %v", now, err)
	}
}

// fill takes all places but so many, with different sessions on one target.
func (s *suite) fill(target Target, n int) (all []session.Session) {
	s.Helper()
	for i := range n {
		asked := s.spec(s.MaxDuration, target)
		asked.Frequency = profile.Frequency(10 + i)
		all = append(all, s.start(asked))
	}
	return all
}

// Who finds no place waits, in sight; who cannot even wait is told when to come again.
func (s *suite) queue() {
	target := s.Busy(s)
	all := s.fill(target, s.Places+s.Queue)
	for i, now := range all {
		want, position := session.StateRunning, 0
		if i >= s.Places {
			want, position = session.StatePending, i-s.Places+1
		}
		if now.State != want || now.Position != position || want == session.StatePending && (!now.Started.IsZero() || now.Shared != 1) {
			s.Errorf("session %d of %d: %+v", i, len(all), now)
		}
	}
	waits := all[s.Places]
	_, err := s.Runner.Fetch(s.Context(), waits.ID, session.Want{})
	s.wants("fetch of one that waits", err, session.ErrNotReady, "not_started")
	if same := s.start(waits.Spec); same.ID != waits.ID || same.State != session.StatePending || same.Shared != 2 {
		s.Errorf("the same as one that waits: %+v", same)
	}
	_, err = s.Runner.Start(s.Context(), s.spec(short, target))
	if e := s.wants("start when all is full", err, session.ErrBusy, "busy"); e.RetryAfter <= 0 || e.RetryAfter > s.MaxDuration {
		s.Errorf("it is to be tried again after %v", e.RetryAfter)
	}
	last, err := s.Runner.Cancel(s.Context(), waits.ID)
	if err != nil || last.State != session.StateCanceled || last.Position != 0 || !last.Started.IsZero() {
		s.Errorf("cancel of one that waits: %+v, %v", last, err)
	}
	_, err = s.Runner.Fetch(s.Context(), waits.ID, session.Want{})
	s.wants("fetch of one that never began", err, session.ErrCanceled, "canceled")

	// It is refused at once also when it would have to wait.
	_, err = s.Runner.Start(s.Context(), s.spec(short, Target{PID: noProcess}))
	s.wants("a PID that nobody has", err, errNoProcess, "no_such_process")

	next := s.start(s.spec(short, target))
	if next.State != session.StatePending {
		s.Errorf("%+v does not wait", next)
	}
	var states []session.State
	for now, err := range s.Runner.Watch(s.Context(), next.ID) {
		if err != nil {
			s.Fatal(err)
		}
		if states = append(states, now.State); len(states) == 1 {
			if _, err := s.Runner.Cancel(s.Context(), all[0].ID); err != nil {
				s.Error(err)
			}
		}
	}
	if !strings.HasPrefix(join(states), "pending running") || !states[len(states)-1].Final() {
		s.Errorf("it went through %q", states)
	}
}

// join writes states, each once where it stays.
func join(states []session.State) string {
	var b strings.Builder
	for i, s := range states {
		if i == 0 || states[i-1] != s {
			b.WriteString(" " + string(s))
		}
	}
	return strings.TrimSpace(b.String())
}

func (s *suite) maxWait() {
	target := s.Busy(s)
	s.fill(target, s.Places)
	asked := s.spec(short, target)
	asked.MaxWait = 50 * time.Millisecond
	last := s.ended(s.start(asked).ID)
	if last.State != session.StateFailed || last.Err == nil || !last.Started.IsZero() || last.Position != 0 {
		s.Fatalf("it ended as %+v", last)
	}
	s.wants("to wait for too long", last.Err, session.ErrBusy, "waited_too_long")
}

// What is wrong is an error of Start, and leaves no session.
func (s *suite) invalid() {
	target := s.Busy(s)
	with := func(change func(*session.Spec)) session.Spec {
		spec := s.spec(short, target)
		change(&spec)
		return spec
	}
	for _, test := range []struct {
		code string
		kind error
		spec session.Spec
	}{
		{"no_target", session.ErrInvalid, with(func(s *session.Spec) { s.PIDs = nil })},
		{"bad_pid", session.ErrInvalid, with(func(s *session.Spec) { s.PIDs = []int{-1} })},
		{"bad_duration", session.ErrInvalid, with(func(s *session.Spec) { s.Duration = 0 })},
		{"bad_frequency", session.ErrInvalid, with(func(s *session.Spec) { s.Frequency = 0 })},
		{"bad_max_wait", session.ErrInvalid, with(func(s *session.Spec) { s.MaxWait = -1 })},
		{"bad_text", session.ErrInvalid, with(func(s *session.Spec) { s.RequestID = strings.Repeat("x", 129) })},
		{"duration_limit", session.ErrInvalid, with(func(spec *session.Spec) { spec.Duration = s.MaxDuration + 1 })},
		{"frequency_limit", session.ErrInvalid, with(func(spec *session.Spec) { spec.Frequency = s.MaxFrequency + 1 })},
		{"no_such_process", errNoProcess, with(func(s *session.Spec) { s.PIDs = []int{noProcess} })},
		{"no_such_process", errNoProcess, with(func(s *session.Spec) { s.PIDs = append(s.PIDs, noProcess) })},
		{"kernel_thread", session.ErrInvalid, with(func(s *session.Spec) { s.PIDs = []int{2} })}, // kthreadd
	} {
		_, err := s.Runner.Start(s.Context(), test.spec)
		s.wants(test.code, err, test.kind, test.code)
	}
	if got := s.listed(session.Filter{}); len(got) > 0 {
		s.Errorf("bad requests made sessions: %q", got)
	}
}

func (s *suite) unknown() {
	const id = "00000000-0000-4000-8000-000000000000"
	_, err := s.Runner.Get(s.Context(), id)
	s.wants("get", err, session.ErrNotFound, "no_such_session")
	_, err = s.Runner.Fetch(s.Context(), id, session.Want{})
	s.wants("fetch", err, session.ErrNotFound, "no_such_session")
	_, err = s.Runner.Cancel(s.Context(), id)
	s.wants("cancel", err, session.ErrNotFound, "no_such_session")
	n := 0
	for _, err := range s.Runner.Watch(s.Context(), id) {
		n++
		s.wants("watch", err, session.ErrNotFound, "no_such_session")
	}
	if n != 1 {
		s.Errorf("watch says %d things", n)
	}
}

// Who gives up gets his context's error, and ends nothing that others share.
func (s *suite) contexts() {
	target := s.Busy(s)
	asked := s.spec(s.MaxDuration, target)
	first := s.start(asked)
	gone := s.canceled()
	_, err := s.Runner.Start(gone, asked)
	s.wants("start", err, context.Canceled, "")
	_, err = s.Runner.Get(gone, first.ID)
	s.wants("get", err, context.Canceled, "")
	_, err = s.Runner.List(gone, session.Filter{})
	s.wants("list", err, context.Canceled, "")
	_, err = s.Runner.Fetch(gone, first.ID, session.Want{})
	s.wants("fetch", err, context.Canceled, "")
	_, err = s.Runner.Cancel(gone, first.ID)
	s.wants("cancel", err, context.Canceled, "")
	for _, err := range s.Runner.Watch(gone, first.ID) {
		s.wants("watch", err, context.Canceled, "")
	}
	ctx, leave := context.WithCancel(s.Context())
	defer leave()
	var last error
	for _, err := range s.Runner.Watch(ctx, first.ID) {
		last = err
		leave()
	}
	s.wants("watch, given up", last, context.Canceled, "")
	late, expire := context.WithTimeout(s.Context(), 300*time.Millisecond)
	defer expire()
	for _, err := range s.Runner.Watch(late, first.ID) {
		last = err
	}
	s.wants("watch, with a deadline", last, context.DeadlineExceeded, "")
	if now := s.until(first.ID, sampled); now.State != session.StateRunning {
		s.Errorf("the session of others is %+v", now)
	}
}

// Many callers at once get what each of them would alone.
func (s *suite) atOnce() {
	target := s.Busy(s)
	asked := s.spec(s.MaxDuration, target)
	var all, started sync.WaitGroup
	started.Add(8)
	for range 8 {
		all.Go(func() {
			now, err := s.Runner.Start(s.Context(), asked)
			started.Done()
			if err != nil {
				s.Errorf("start: %v", err)
				return
			}
			for seen, err := range s.Runner.Watch(s.Context(), now.ID) {
				if err != nil {
					s.Errorf("watch: %v", err)
					return
				}
				if _, err := s.Runner.Get(s.Context(), now.ID); err != nil {
					s.Errorf("get: %v", err)
				}
				c, err := s.Runner.Fetch(s.Context(), now.ID, session.Want{Format: "folded"})
				if errors.Is(err, session.ErrNotReady) && !seen.State.Final() {
					continue
				}
				if err == nil {
					_, err = read(c)
				}
				if err != nil {
					s.Errorf("fetch: %v", err)
				}
			}
		})
	}
	started.Wait()
	for _, now := range s.listed(session.Filter{PID: target.PID}) {
		s.until(now, sampledWell)
	}
	target.Stop() // it is over when all of them were there
	all.Wait()
	got, err := s.Runner.List(s.Context(), session.Filter{})
	if err != nil || len(got) != 1 || got[0].State != session.StateSucceeded || got[0].Shared != 8 {
		s.Errorf("there are %+v, %v", got, err)
	}
}
