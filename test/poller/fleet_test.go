// SPDX-License-Identifier: Apache-2.0

package poller_test

import (
	"context"
	"io"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// fleet has hosts and sessions as a test wrote them: what fails, and when, a real
// one cannot be told. What does not need that is tested with the real programs,
// in real_test.go.
type fleet struct {
	mu       sync.Mutex
	hosts    []session.Host
	sessions []session.Session
	folded   map[session.ID]string
	tooLarge session.ID     // for another form than it is kept in
	specs    []session.Spec // of all calls of Start
	fail     error          // of Start
	lists    int
	fetches  int
}

func (f *fleet) Hosts(context.Context, session.Hosts) ([]session.Host, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hosts, nil
}

func (f *fleet) Processes(context.Context, string, session.Selector, int) ([]session.Process, error) {
	return nil, nil
}

func (f *fleet) Match(context.Context, session.Spec) ([]session.Match, error) { return nil, nil }

func (f *fleet) Start(_ context.Context, spec session.Spec) (session.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.specs = append(f.specs, spec)
	if f.fail != nil {
		return session.Session{}, f.fail
	}
	for _, s := range f.sessions {
		if s.Spec.RequestID == spec.RequestID {
			return s, nil
		}
	}
	s := session.Session{ID: session.ID(session.NewID()), Spec: spec, State: session.StateRunning, Created: time.Now(), Hosts: []session.HostRun{{Host: "web1", State: session.StateRunning}}}
	f.sessions = append(f.sessions, s)
	return s, nil
}

// end ends a session: with a profile, or failed.
func (f *fleet) end(id session.ID, folded string, err *session.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.sessions {
		s := &f.sessions[i]
		if s.ID != id {
			continue
		}
		s.State, s.Ended, s.Err = session.StateSucceeded, time.Now(), err
		if err != nil {
			s.State = session.StateFailed
		}
		s.Hosts = []session.HostRun{{Host: "web1", State: s.State, Err: err}}
		if f.folded == nil {
			f.folded = map[session.ID]string{}
		}
		f.folded[id] = folded
	}
}

// running are the sessions that go on.
func (f *fleet) running() (ids []session.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		if !s.State.Final() {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

func (f *fleet) started() []session.Spec {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.specs
}

func (f *fleet) failWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *fleet) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions = nil
}

func (f *fleet) Get(_ context.Context, id session.ID) (session.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		if s.ID == id {
			return s, nil
		}
	}
	return session.Session{}, session.NotFound(id)
}

func (f *fleet) List(context.Context, session.Filter) ([]session.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	return append([]session.Session(nil), f.sessions...), nil
}

func (f *fleet) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) { yield(f.Get(ctx, id)) }
}

func (f *fleet) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
	s, err := f.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fetches++
	if id == f.tooLarge {
		return nil, &session.Error{Code: "too_large_to_convert", Kind: session.ErrTooLarge, Problem: "the profile is too large"}
	}
	return &session.Content{Session: s, Format: want.Format, Body: io.NopCloser(strings.NewReader(f.folded[id]))}, nil
}

func (f *fleet) Cancel(ctx context.Context, id session.ID) (session.Session, error) {
	return f.Get(ctx, id)
}
