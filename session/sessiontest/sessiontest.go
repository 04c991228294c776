// SPDX-License-Identifier: Apache-2.0

// Package sessiontest is what each [session.Runner] has to pass, wherever it
// runs its sessions: one test for each clause of the contract. It asks for
// everything through the interface, so the runner may be behind a network.
package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Fixture is a runner to be tested, which nobody else uses, and what it takes.
type Fixture struct {
	Runner session.Runner

	// Busy starts a process that works all the time, in a function called
	// Hottest twice as much as in any other. It ends with the test at the latest.
	Busy    func(t testing.TB) Target
	Hottest string
	// Named starts one that works as Busy's does, by a name of its own. RunFleet
	// alone needs it.
	Named func(t testing.TB, name string) Target
	// Idle starts one that sleeps.
	Idle func(t testing.TB) Target

	// The runner's limits. They have to be small: 2 places and 1 in the queue
	// are made full. Both others must be below those of a session.Spec, and the
	// duration at least 20 s, the frequency about 400 Hz.
	Places, Queue int
	MaxDuration   time.Duration
	MaxFrequency  profile.Frequency
}

// Target is a process that can be profiled.
type Target struct {
	PID  int
	Stop func() // ends it, and returns when it is gone; may be called twice
}

// suite is a fixture in a test.
type suite struct {
	Fixture
	*testing.T
}

// Run tests a runner; each test has one of its own.
func Run(t *testing.T, fixture func(t *testing.T) Fixture) {
	for _, test := range []struct {
		name string
		run  func(s *suite)
	}{
		{"Life", (*suite).life},
		{"Exit", (*suite).exit},
		{"NoSamples", (*suite).noSamples},
		{"RequestID", (*suite).requestID},
		{"Attach", (*suite).attach},
		{"Repeat", (*suite).repeat},
		{"Get", (*suite).get},
		{"List", (*suite).list},
		{"Watch", (*suite).watch},
		{"WatchSlowly", (*suite).watchSlowly},
		{"Attended", (*suite).attended},
		{"FetchRunning", (*suite).fetchRunning},
		{"FetchEnded", (*suite).fetchEnded},
		{"Resume", (*suite).resume},
		{"Formats", (*suite).formats},
		{"Cancel", (*suite).cancel},
		{"Queue", (*suite).queue},
		{"MaxWait", (*suite).maxWait},
		{"Invalid", (*suite).invalid},
		{"Unknown", (*suite).unknown},
		{"Contexts", (*suite).contexts},
		{"AtOnce", (*suite).atOnce},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(&suite{fixture(t), t}) })
	}
}

// short is long enough for a profile, if the machine has time for the target.
const short = 500 * time.Millisecond

func (s *suite) spec(d time.Duration, targets ...Target) session.Spec {
	spec := session.Spec{Duration: d, Frequency: min(399, s.MaxFrequency)}
	for _, t := range targets {
		spec.PIDs = append(spec.PIDs, t.PID)
	}
	return spec
}

func (s *suite) start(spec session.Spec) session.Session {
	s.Helper()
	now, err := s.Runner.Start(s.Context(), spec)
	if err != nil {
		s.Fatalf("start: %v", err)
	}
	if now.ID == "" || now.Shared < 1 || now.Created.IsZero() || !now.Spec.Same(&spec) {
		s.Errorf("start is answered with %+v", now)
	}
	return now
}

// ended follows a session to its end.
func (s *suite) ended(id session.ID) session.Session {
	s.Helper()
	return s.until(id, func(now session.Session) bool { return now.State.Final() })
}

// until watches a session until something holds.
func (s *suite) until(id session.ID, holds func(session.Session) bool) session.Session {
	s.Helper()
	var last session.Session
	for now, err := range s.Runner.Watch(s.Context(), id) {
		if err != nil {
			s.Fatalf("watch: %v", err)
		}
		if last = now; holds(now) {
			return now
		}
	}
	s.Fatalf("what was waited for never came: %+v", last)
	return last
}

// succeeded is a session that has ended with a profile, however busy the
// machine is: its target exited once there were samples.
func (s *suite) succeeded() session.Session {
	s.Helper()
	target := s.Busy(s)
	id := s.start(s.spec(s.MaxDuration, target)).ID
	s.until(id, sampledWell)
	target.Stop()
	last := s.ended(id)
	if last.State != session.StateSucceeded {
		s.Fatalf("a session whose target exited: %+v", last)
	}
	return last
}

func sampled(now session.Session) bool { return now.Progress.Samples > 0 }

// sampledWell says that there are so many samples that it is not by chance
// which function is the hottest.
func sampledWell(now session.Session) bool { return now.Progress.Samples >= 200 }

// wants checks an error: its kind, its code if there is to be one, and that it
// is a sentence.
func (s *suite) wants(what string, err, kind error, code string) *session.Error {
	s.Helper()
	var e *session.Error
	switch {
	case err == nil:
		s.Errorf("%s is no error", what)
	case !errors.Is(err, kind):
		s.Errorf("%s: %v (kind %q), want kind %v", what, err, session.KindName(err), kind)
	case code == "":
	case !errors.As(err, &e):
		s.Errorf("%s: %v is no *session.Error", what, err)
	case e.Code != code:
		s.Errorf("%s: %v has code %q, want %q", what, err, e.Code, code)
	case e.Problem == "" || e.Remedy == "":
		s.Errorf("%s: %v does not say what is wrong and what to do", what, err)
	}
	if e == nil {
		return &session.Error{} // so that callers can ask on
	}
	return e
}

// fetched is the content of a session, and its bytes.
func (s *suite) fetched(id session.ID, want session.Want) (*session.Content, []byte) {
	s.Helper()
	c, err := s.Runner.Fetch(s.Context(), id, want)
	if err != nil {
		s.Fatalf("fetch %+v: %v", want, err)
	}
	b, err := read(c)
	if err != nil {
		s.Fatalf("fetch %+v: %v", want, err)
	}
	return c, b
}

// read reads a content and checks what can be checked of any.
func read(c *session.Content) ([]byte, error) {
	b, err := io.ReadAll(c.Body)
	if err != nil {
		return nil, err
	}
	if err := c.Body.Close(); err != nil {
		return nil, err
	}
	if int64(len(b)) != c.Size-c.Offset {
		return nil, fmt.Errorf("%d bytes came, from %d on of %d", len(b), c.Offset, c.Size)
	}
	return b, nil
}

// noProcess is a PID that no process has: Linux's PID_MAX_LIMIT, which is one
// more than the highest.
const noProcess = 1 << 22

// kinds of error that a bad request may have.
var errNoProcess = fs.ErrNotExist

// canceled is a context that is over.
func (s *suite) canceled() context.Context {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	return ctx
}

func ids(all []session.Session) []session.ID {
	var ids []session.ID
	for _, s := range all {
		ids = append(ids, s.ID)
	}
	return ids
}

// listed are the IDs of chosen sessions.
func (s *suite) listed(f session.Filter) []session.ID {
	s.Helper()
	all, err := s.Runner.List(s.Context(), f)
	if err != nil {
		s.Fatalf("list: %v", err)
	}
	if !slices.IsSortedFunc(all, func(a, b session.Session) int { return a.Created.Compare(b.Created) }) {
		s.Errorf("the list is not in order: %+v", all)
	}
	return ids(all)
}
