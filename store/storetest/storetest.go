// SPDX-License-Identifier: Apache-2.0

// Package storetest is the suite that every [store.Store] passes: what the
// interface says, with many callers at once, for large fleets, after the store
// was opened again, and after the process that had it open was killed in the
// middle of its work ([Crash]).
package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// Open makes an empty store for a test. To reopen closes it, if it is not
// closed yet, and opens it again with what is in it.
type Open func(t testing.TB) (s store.Store, reopen func() store.Store)

// Run runs the suite; each of its tests has a store of its own.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"NothingForgotten", (*suite).nothingForgotten},
		{"LeastRecord", (*suite).leastRecord},
		{"AnyText", (*suite).anyText},
		{"AskedForStays", (*suite).askedForStays},
		{"Exists", (*suite).exists},
		{"Joined", (*suite).joined},
		{"NotFound", (*suite).notFound},
		{"NoRecord", (*suite).noRecord},
		{"SessionTransitions", (*suite).sessionTransitions},
		{"RunTransitions", (*suite).runTransitions},
		{"Order", (*suite).order},
		{"Filters", (*suite).filters},
		{"Delete", (*suite).delete},
		{"OwnCopies", (*suite).ownCopies},
		{"LostUpdates", (*suite).lostUpdates},
		{"RunsAtOnce", (*suite).runsAtOnce},
		{"OneFailsAlone", (*suite).oneFailsAlone},
		{"WholeOrNot", (*suite).wholeOrNot},
		{"LargeFleet", (*suite).largeFleet},
		{"Canceled", (*suite).canceled},
		{"Closed", (*suite).closed},
		{"CloseWaits", (*suite).closeWaits},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, reopen := open(t)
			c.test(&suite{T: t, store: s, reopen: reopen})
		})
	}
}

type suite struct {
	*testing.T
	store  store.Store
	reopen func() store.Store
}

// again opens the store anew.
func (s *suite) again() {
	s.Helper()
	s.store = s.reopen()
}

// began is when sessions of the suite are created.
var began = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// record is a session that waits, with runs that wait.
func record(id session.ID, hosts ...string) *store.Record {
	rec := &store.Record{Session: session.Session{ID: id, State: session.StatePending, Created: began,
		Spec: session.Spec{Select: session.Selector{Name: "postgres"}, Duration: time.Second, Frequency: 99}}}
	for _, h := range hosts {
		rec.Runs = append(rec.Runs, run(h))
	}
	return rec
}

func run(host string) store.Run {
	return store.Run{HostRun: session.HostRun{Host: host, State: session.StatePending}, Command: "command for " + host}
}

func (s *suite) create(rec *store.Record) *store.Record {
	s.Helper()
	if err := s.store.Create(s.Context(), rec); err != nil {
		s.Fatalf("create %s: %v", rec.Session.ID, err)
	}
	return rec
}

func (s *suite) get(id session.ID) *store.Record {
	s.Helper()
	rec, err := s.store.Get(s.Context(), id)
	if err != nil {
		s.Fatalf("get %s: %v", id, err)
	}
	return rec
}

func (s *suite) list(f session.Filter) []*store.Record {
	s.Helper()
	records, err := s.store.List(s.Context(), f)
	if err != nil {
		s.Fatalf("list %+v: %v", f, err)
	}
	return records
}

// is checks what is in the store, by each way to read it.
func (s *suite) is(what string, want *store.Record) {
	s.Helper()
	if diff := cmp.Diff(want, s.get(want.Session.ID), same); diff != "" {
		s.Errorf("%s: %s", what, diff)
	}
	if id := want.Session.Spec.RequestID; id != "" {
		got, err := s.store.ByRequest(s.Context(), id)
		if err != nil {
			s.Errorf("%s, by its request: %v", what, err)
		}
		if diff := cmp.Diff(want, got, same); diff != "" {
			s.Errorf("%s, by its request: %s", what, diff)
		}
	}
	for _, got := range s.list(session.Filter{}) {
		if got.Session.ID == want.Session.ID {
			if diff := cmp.Diff(want, got, same); diff != "" {
				s.Errorf("%s, in the list: %s", what, diff)
			}
			return
		}
	}
	s.Errorf("%s: it is not in the list", what)
}

// wants checks of which kind an error is.
func (s *suite) wants(what string, err, kind error) {
	s.Helper()
	if !errors.Is(err, kind) {
		s.Errorf("%s: the error is %v, not: %v", what, err, kind)
	}
}

func ids(records []*store.Record) []session.ID {
	var all []session.ID
	for _, rec := range records {
		all = append(all, rec.Session.ID)
	}
	return all
}

// same compares what was kept with what was to be kept. Of the cause of an error
// the text is kept; that nothing and an empty list are the same is all it
// overlooks.
var same = cmp.Options{
	cmp.Comparer(func(a, b *session.Error) bool {
		return a == b || a != nil && b != nil && a.Code == b.Code && errors.Is(a.Kind, b.Kind) && a.Error() == b.Error() &&
			a.Problem == b.Problem && a.Remedy == b.Remedy && a.RetryAfter == b.RetryAfter
	}),
	emptyIsNil[int](), emptyIsNil[string](), emptyIsNil[store.Run](), emptyIsNil[profile.Target](),
}

func emptyIsNil[T any]() cmp.Option {
	none := func(a, b []T) bool { return len(a) == 0 && len(b) == 0 }
	return cmp.FilterValues(none, cmp.Comparer(func(_, _ []T) bool { return true }))
}

func hostName(n int) string { return fmt.Sprintf("host-%05d", n) }

func equal(a, b *store.Record) bool { return cmp.Equal(a, b, same) }
