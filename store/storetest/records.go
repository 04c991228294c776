// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// Each field is kept: when it is created, when it is changed, and in a store
// that was opened again.
func (s *suite) nothingForgotten() {
	first := Filled(1)
	first.Revision = 77 // it is the store's to say
	s.create(first)
	if first.Revision != 1 {
		s.Errorf("a new record is of revision %d", first.Revision)
	}
	s.is("created", first)
	s.again()
	s.is("created, and opened again", first)

	changed := Filled(2)
	changed.Session.ID, changed.Session.Spec, changed.Session.Created = first.Session.ID, first.Session.Spec, first.Session.Created
	changed.Session.State, changed.Runs = session.StateRunning, first.Runs
	if err := s.store.Update(s.Context(), changed); err != nil {
		s.Fatal(err)
	}
	if changed.Revision != 2 {
		s.Errorf("after a change it is of revision %d", changed.Revision)
	}
	s.is("changed", changed)

	r := Filled(3).Runs[0]
	r.Host, r.State = changed.Runs[1].Host, session.StateRunning
	if err := s.store.UpdateRun(s.Context(), first.Session.ID, &r); err != nil {
		s.Fatal(err)
	}
	changed.Runs[1] = r
	s.is("with a changed run", changed)
	s.again()
	s.is("with a changed run, and opened again", changed)
}

// What is not set stays so.
func (s *suite) leastRecord() {
	rec := s.create(&store.Record{Session: session.Session{ID: "least", State: session.StatePending}})
	s.is("created", rec)
	rec.Session.State, rec.Session.Err = session.StateFailed, &session.Error{Kind: session.ErrUnavailable, RetryAfter: 15} // a number of nanoseconds that no float64 of seconds is
	if err := s.store.Update(s.Context(), rec); err != nil {
		s.Fatal(err)
	}
	s.is("changed", rec)
	rec.Session.Hosts = []session.HostRun{{Host: "not kept here"}}
	if err := s.store.Update(s.Context(), rec); err != nil {
		s.Fatal(err)
	}
	rec.Session.Hosts = nil
	s.is("given with hosts", rec)
}

// Names and texts are not taken for anything else.
func (s *suite) anyText() {
	for n, text := range []string{"'", `"; DROP TABLE sessions; --`, "%", "_", "?1", "é\u2028\U0001F600", " ", `\`, "{\"a\":1}"} {
		rec := record(session.ID(fmt.Sprintf("text %d %s", n, text)), text, text+"2")
		rec.Session.Spec.RequestID, rec.Session.Spec.Requester, rec.CancelBy = text, text, text
		s.create(rec)
		s.is(text, rec)
		rec.Runs[0].Waiting = text
		if err := s.store.UpdateRun(s.Context(), rec.Session.ID, &rec.Runs[0]); err != nil {
			s.Errorf("%q: %v", text, err)
		}
		s.is(text, rec)
	}
}

// What was asked for, and when, is of the past and does not change.
func (s *suite) askedForStays() {
	first := record("stays")
	first.Session.Spec.RequestID, first.Session.Spec.PIDs = "first", []int{1}
	s.create(first)
	other := *first
	other.Session.Spec = session.Spec{RequestID: "other", PIDs: []int{2}, Duration: time.Hour}
	other.Session.Created = began.Add(time.Hour)
	other.Session.State = session.StateRunning
	if err := s.store.Update(s.Context(), &other); err != nil {
		s.Fatal(err)
	}
	first.Session.State, first.Revision = session.StateRunning, 2
	s.is("changed", first)
	if _, err := s.store.ByRequest(s.Context(), "other"); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("by a request ID that came later: %v", err)
	}
	if n := len(s.list(session.Filter{PID: 2})); n != 0 {
		s.Errorf("%d sessions of a PID that came later", n)
	}
}

func (s *suite) exists() {
	one := record("one", "a")
	one.Session.Spec.RequestID = "request"
	s.create(one)
	s.wants("the same ID", s.store.Create(s.Context(), record("one", "b")), store.ErrExists)
	two := record("two", "b")
	two.Session.Spec.RequestID = "request"
	s.wants("the same request", s.store.Create(s.Context(), two), store.ErrExists)
	if two.Revision != 0 {
		s.Errorf("what was refused got revision %d", two.Revision)
	}
	s.create(record("three"))
	s.create(record("four")) // without a request ID either
	s.is("the first one", one)
	if got := ids(s.list(session.Filter{})); !slices.Equal(got, []session.ID{"one", "three", "four"}) {
		s.Errorf("there are %v", got)
	}
}

// Who joined a session finds it as who started it does.
func (s *suite) joined() {
	rec := record("joined")
	rec.Session.Spec.RequestID, rec.Requests = "own", []string{"first"}
	s.create(rec)
	other := s.create(record("other"))
	leads := func(what string, want map[string]session.ID) {
		s.Helper()
		for _, request := range []string{"own", "first", "second", "third", "others"} {
			got, err := s.store.ByRequest(s.Context(), request)
			if want[request] == "" {
				s.wants(what+": by "+request, err, store.ErrNotFound)
			} else if err != nil || got.Session.ID != want[request] {
				s.Errorf("%s: by %s: %+v, %v", what, request, got, err)
			}
		}
	}
	leads("created", map[string]session.ID{"own": "joined", "first": "joined"})
	update := func(rec *store.Record, requests ...string) error {
		rec.Requests = requests
		return s.store.Update(s.Context(), rec)
	}
	if err := errors.Join(update(rec, "first", "second", "third", "second", "own"), update(other, "others")); err != nil {
		s.Fatal(err)
	}
	all := map[string]session.ID{"own": "joined", "first": "joined", "second": "joined", "third": "joined", "others": "other"}
	leads("joined by more", all)
	for _, taken := range []string{"own", "first", "third"} {
		s.wants("joined by one of another", update(other, "others", taken), store.ErrExists)
		s.wants("joined by one of another", s.store.Create(s.Context(), &store.Record{Session: session.Session{ID: "new", State: session.StatePending}, Requests: []string{taken}}), store.ErrExists)
		started := record("new")
		started.Session.Spec.RequestID = taken
		s.wants("started by one of another", s.store.Create(s.Context(), started), store.ErrExists)
	}
	s.again()
	leads("after what was refused", all)
	other.Requests = []string{"others"}
	s.is("the other", other)
	if err := update(rec, "third"); err != nil {
		s.Fatal(err)
	}
	leads("left by some", map[string]session.ID{"own": "joined", "third": "joined", "others": "other"})
	s.is("left by some", rec)
	if err := s.store.Delete(s.Context(), "joined"); err != nil {
		s.Fatal(err)
	}
	leads("forgotten", map[string]session.ID{"others": "other"})
}

func (s *suite) notFound() {
	s.create(record("other", "host"))
	_, err := s.store.Get(s.Context(), "none")
	s.wants("Get", err, store.ErrNotFound)
	for _, request := range []string{"none", ""} { // the other has no request ID: that is not the empty one
		_, err = s.store.ByRequest(s.Context(), request)
		s.wants("ByRequest", err, store.ErrNotFound)
	}
	s.wants("Update", s.store.Update(s.Context(), record("none")), store.ErrNotFound)
	s.wants("Delete", s.store.Delete(s.Context(), "none"), store.ErrNotFound)
	r := run("host")
	s.wants("UpdateRun of no session", s.store.UpdateRun(s.Context(), "none", &r), store.ErrNotFound)
	r = run("no host")
	s.wants("UpdateRun of no host", s.store.UpdateRun(s.Context(), "other", &r), store.ErrNotFound)
	if got := s.list(session.Filter{States: []session.State{session.StateFailed}}); len(got) != 0 {
		s.Errorf("there are %v", ids(got))
	}
	s.is("the other", record1("other", "host"))
}

// record1 is a record as it is after Create.
func record1(id session.ID, hosts ...string) *store.Record {
	rec := record(id, hosts...)
	rec.Revision = 1
	return rec
}

// What is no record is refused, and nothing of it stays.
func (s *suite) noRecord() {
	for what, rec := range map[string]*store.Record{
		"no ID":                  record(""),
		"two runs of one host":   record("twice", "a", "a"),
		"no state":               {Session: session.Session{ID: "stateless"}},
		"a state of the future":  {Session: session.Session{ID: "future", State: "paused"}},
		"a run without a state":  {Session: session.Session{ID: "run", State: session.StatePending}, Runs: []store.Run{{}}},
		"a time beyond all JSON": {Session: session.Session{ID: "time", State: session.StatePending, Started: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)}},
	} {
		if err := s.store.Create(s.Context(), rec); err == nil {
			s.Errorf("%s: it was kept", what)
		}
	}
	if got := s.list(session.Filter{}); len(got) != 0 {
		s.Errorf("there are %v", ids(got))
	}
}

// allStates are those of sessions, and two that are none.
var allStates = append(slices.Clone(session.States), "", "odd")

func (s *suite) sessionTransitions() {
	for _, from := range session.States {
		for _, to := range allStates {
			rec := record(session.ID(fmt.Sprintf("%s to %s", from, to)))
			rec.Session.State = from
			s.create(rec)
			next := *rec
			next.Session.State, next.CancelBy = to, "somebody"
			err := s.store.Update(s.Context(), &next)
			if from == to || from.May(to) {
				if err != nil {
					s.Errorf("%s to %s: %v", from, to, err)
				}
				s.is("after a change", &next)
				continue
			}
			s.wants(string(rec.Session.ID), err, store.ErrTransition)
			if next.Revision != 1 {
				s.Errorf("%s: a refused change has revision %d", rec.Session.ID, next.Revision)
			}
			s.is("after a change that was refused", rec)
		}
	}
}

func (s *suite) runTransitions() {
	for _, from := range session.States {
		for _, to := range allStates {
			rec := record(session.ID(fmt.Sprintf("%s to %s", from, to)), "a", "b")
			rec.Runs[1].State = from
			s.create(rec)
			next := rec.Runs[1]
			next.State, next.Collected = to, true
			err := s.store.UpdateRun(s.Context(), rec.Session.ID, &next)
			if from == to || from.May(to) {
				if err != nil {
					s.Errorf("%s to %s: %v", from, to, err)
				}
				rec.Runs[1] = next
			} else {
				s.wants(string(rec.Session.ID), err, store.ErrTransition)
			}
			s.is("after a change", rec)
		}
	}
}

// The oldest is the first, and of those of one moment the one that came first.
func (s *suite) order() {
	var want []session.ID
	for _, n := range []int{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 0} {
		rec := record(session.ID(fmt.Sprintf("after %d s, number %d", n, len(want))), "b", "c", "a")
		rec.Session.Created = began.Add(time.Duration(n) * time.Second)
		s.create(rec)
		want = append(want, rec.Session.ID)
	}
	slices.SortStableFunc(want, func(a, b session.ID) int { return int(a[len("after ")]) - int(b[len("after ")]) })
	for range 2 {
		records := s.list(session.Filter{})
		if diff := cmp.Diff(want, ids(records)); diff != "" {
			s.Error(diff)
		}
		for _, rec := range records {
			if len(rec.Runs) != 3 || rec.Runs[0].Host != "a" || rec.Runs[1].Host != "b" || rec.Runs[2].Host != "c" {
				s.Errorf("the runs are %+v", rec.Runs)
			}
		}
		s.again()
	}
}

// The store chooses as session.Filter says.
func (s *suite) filters() {
	var all []*store.Record
	for n := range 40 {
		rec := record(session.ID(fmt.Sprint("session ", n)), hostName(n), hostName(n+1))
		rec.Session.State = session.States[n%len(session.States)]
		rec.Session.Created = began.Add(time.Duration(n) * time.Millisecond)
		rec.Session.Spec.PIDs = []int{n % 3, 100 + n%7, 100 + n%7}[:n%4] // none, too, and one twice
		all = append(all, s.create(rec))
	}
	for _, states := range [][]session.State{nil, {session.StatePending}, {session.StateRunning, session.StateFailed}, session.States, {"odd"}} {
		for _, pid := range []int{0, 1, 2, 101, 103, 4711, -1} {
			f := session.Filter{States: states, PID: pid}
			var want []*store.Record
			for _, rec := range all {
				if f.Chooses(&rec.Session) {
					want = append(want, rec)
				}
			}
			if diff := cmp.Diff(want, s.list(f), same); diff != "" {
				s.Errorf("%+v: %s", f, diff)
			}
		}
	}
}

// What was forgotten is so with all of its parts.
func (s *suite) delete() {
	gone := record("gone", "a", "b")
	gone.Session.Spec.RequestID, gone.Session.Spec.PIDs = "request", []int{7}
	s.create(gone)
	s.create(record("stays", "a", "b"))
	if err := s.store.Delete(s.Context(), "gone"); err != nil {
		s.Fatal(err)
	}
	for range 2 {
		_, err := s.store.Get(s.Context(), "gone")
		s.wants("Get", err, store.ErrNotFound)
		_, err = s.store.ByRequest(s.Context(), "request")
		s.wants("ByRequest", err, store.ErrNotFound)
		s.wants("Update", s.store.Update(s.Context(), gone), store.ErrNotFound)
		s.wants("UpdateRun", s.store.UpdateRun(s.Context(), "gone", &gone.Runs[0]), store.ErrNotFound)
		s.wants("Delete", s.store.Delete(s.Context(), "gone"), store.ErrNotFound)
		s.is("the other", record1("stays", "a", "b"))
		s.again()
	}
	anew := record("gone", "c")
	anew.Session.Spec.RequestID = "request"
	s.create(anew)
	s.is("another one of that ID", anew)
	if n := len(s.list(session.Filter{PID: 7})); n != 0 {
		s.Errorf("%d sessions of the PID of the one that is gone", n)
	}
}

// What was handed over belongs to who got it.
func (s *suite) ownCopies() {
	rec := record("mine", "a", "b")
	rec.Session.Spec.PIDs = []int{1, 2}
	s.create(rec)
	want := s.get("mine")
	rec.Runs[0].Host, rec.Session.Spec.PIDs[0] = "changed", 99
	s.is("after what was given was changed", want)
	for _, got := range append(s.list(session.Filter{}), s.get("mine")) {
		got.Runs[0].Host, got.Session.Spec.PIDs[0] = "changed", 99
	}
	s.is("after what was read was changed", want)
}
