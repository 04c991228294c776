// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// inParallel calls f n times at once, and waits.
func inParallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// Of those who change what they read, none overwrites another one.
func (s *suite) lostUpdates() {
	s.create(record("counter"))
	const who, times = 8, 25
	var changed atomic.Int64
	inParallel(who, func(i int) {
		for done := 0; done < times; {
			rec, err := s.store.Get(s.Context(), "counter")
			if err != nil {
				s.Error(err)
				return
			}
			rec.Session.Progress.Samples++
			before := rec.Revision
			switch err := s.store.Update(s.Context(), rec); {
			case errors.Is(err, store.ErrChanged) && rec.Revision == before:
				changed.Add(1)
			case err != nil || rec.Revision != before+1:
				s.Errorf("from revision %d to %d: %v", before, rec.Revision, err)
				return
			default:
				done++
			}
		}
	})
	rec := s.get("counter")
	if rec.Session.Progress.Samples != who*times || rec.Revision != 1+who*times {
		s.Errorf("%d changes were counted, in revision %d, of %d; %d were refused", rec.Session.Progress.Samples, rec.Revision, who*times, changed.Load())
	}
	rec.Revision--
	s.wants("an old revision", s.store.Update(s.Context(), rec), store.ErrChanged)
	rec.Revision += 2
	s.wants("a future revision", s.store.Update(s.Context(), rec), store.ErrChanged)
}

// The runs of a session change independently of it and of each other.
func (s *suite) runsAtOnce() {
	const hosts, times = 64, 20
	var names []string
	for n := range hosts {
		names = append(names, hostName(n))
	}
	s.create(record("fleet", names...))
	inParallel(hosts+1, func(i int) {
		if i == hosts {
			for range times {
				rec := s.get("fleet")
				rec.Session.Progress.Samples++
				if err := s.store.Update(s.Context(), rec); err != nil {
					s.Error("a change of a run changed its session:", err)
				}
			}
			return
		}
		r := run(hostName(i))
		r.State = session.StateRunning
		for n := range times {
			r.Progress.Samples = uint64(n + 1)
			if err := s.store.UpdateRun(s.Context(), "fleet", &r); err != nil {
				s.Error(err)
			}
		}
	})
	s.again()
	rec := s.get("fleet")
	if rec.Session.Progress.Samples != times || len(rec.Runs) != hosts {
		s.Errorf("%+v, %d runs", rec.Session.Progress, len(rec.Runs))
	}
	for i, r := range rec.Runs {
		if r.Host != hostName(i) || r.Progress.Samples != times || r.State != session.StateRunning {
			s.Errorf("run %d is %+v", i, r)
		}
	}
}

// Changes that are refused do no harm to those that come at the same moment.
func (s *suite) oneFailsAlone() {
	s.create(record("there"))
	final := record("final")
	final.Session.State = session.StateSucceeded
	s.create(final)
	const n = 200
	inParallel(n, func(i int) {
		switch i % 4 {
		case 0:
			s.wants("exists", s.store.Create(s.Context(), record("there", "host")), store.ErrExists)
		case 1:
			rec := *final
			rec.Session.State = session.StateRunning
			s.wants("transition", s.store.Update(s.Context(), &rec), store.ErrTransition)
		case 2:
			s.wants("not found", s.store.Delete(s.Context(), "none"), store.ErrNotFound)
		case 3:
			if err := s.store.Create(s.Context(), record(session.ID(fmt.Sprint("good ", i)), "host")); err != nil {
				s.Errorf("a good one: %v", err)
			}
		}
	})
	s.again()
	if got := s.list(session.Filter{}); len(got) != n/4+2 {
		s.Errorf("there are %d sessions: %v", len(got), ids(got))
	}
}

// Who reads sees a session with all of its runs, or not at all.
func (s *suite) wholeOrNot() {
	const sessions, hosts = 30, 40
	var names []string
	for n := range hosts {
		names = append(names, hostName(n))
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				records, err := s.store.List(s.Context(), session.Filter{})
				if err != nil {
					s.Error(err)
					return
				}
				for _, rec := range records {
					if len(rec.Runs) != hosts {
						s.Errorf("session %s has %d runs", rec.Session.ID, len(rec.Runs))
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	inParallel(sessions, func(i int) {
		id := session.ID(fmt.Sprint("session ", i))
		if err := s.store.Create(s.Context(), record(id, names...)); err != nil {
			s.Error(err)
		}
		if i%2 == 0 {
			if err := s.store.Delete(s.Context(), id); err != nil {
				s.Error(err)
			}
		}
	})
	close(done)
	readers.Wait()
}

// fleet is a record with so many runs.
func fleet(id session.ID, hosts int) *store.Record {
	rec := record(id)
	for n := range hosts {
		rec.Runs = append(rec.Runs, run(hostName(n)))
	}
	return rec
}

func (s *suite) largeFleet() {
	const hosts = 10_000
	want := s.create(fleet("large", hosts))
	s.is("created", want)
	inParallel(100, func(i int) {
		for n := i; n < hosts; n += 1000 {
			r := run(hostName(n))
			r.State, r.ID, r.Sent = session.StateRunning, session.ID(fmt.Sprint(n)), began.Add(time.Duration(n))
			if err := s.store.UpdateRun(s.Context(), "large", &r); err != nil {
				s.Error(err)
			}
			want.Runs[n] = r // each its own
		}
	})
	s.is("changed", want)
	s.again()
	s.is("opened again", want)
	if err := s.store.Delete(s.Context(), "large"); err != nil {
		s.Error(err)
	}
}

// Who does not wait any more has changed nothing.
func (s *suite) canceled() {
	rec := s.create(record("there", "host"))
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	next := *rec
	next.Session.State = session.StateRunning
	r := rec.Runs[0]
	r.State = session.StateRunning
	for what, err := range map[string]error{
		"Create":    s.store.Create(ctx, record("new")),
		"Update":    s.store.Update(ctx, &next),
		"UpdateRun": s.store.UpdateRun(ctx, "there", &r),
		"Delete":    s.store.Delete(ctx, "there"),
	} {
		s.wants(what, err, context.Canceled)
	}
	_, err := s.store.Get(ctx, "there")
	s.wants("Get", err, context.Canceled)
	_, err = s.store.List(ctx, session.Filter{})
	s.wants("List", err, context.Canceled)
	s.is("afterwards", rec)
	if n := len(s.list(session.Filter{})); n != 1 {
		s.Errorf("there are %d sessions", n)
	}
	// In the middle of it, the error tells whether it happened.
	inParallel(100, func(i int) {
		ctx, cancel := context.WithTimeout(s.Context(), time.Duration(i)*50*time.Microsecond)
		defer cancel()
		id := session.ID(fmt.Sprint("session ", i))
		err := s.store.Create(ctx, record(id, "host"))
		_, there := s.store.Get(s.Context(), id)
		if (err == nil) != (there == nil) || err != nil && !errors.Is(err, context.DeadlineExceeded) {
			s.Errorf("the error is %v, and then %v", err, there)
		}
	})
}

func (s *suite) closed() {
	rec := s.create(record("there", "host"))
	for range 2 {
		if err := s.store.Close(); err != nil {
			s.Fatal(err)
		}
	}
	_, err := s.store.Get(s.Context(), "there")
	s.wants("Get", err, session.ErrUnavailable)
	_, err = s.store.ByRequest(s.Context(), "there")
	s.wants("ByRequest", err, session.ErrUnavailable)
	_, err = s.store.List(s.Context(), session.Filter{})
	s.wants("List", err, session.ErrUnavailable)
	s.wants("Create", s.store.Create(s.Context(), record("new")), session.ErrUnavailable)
	s.wants("Update", s.store.Update(s.Context(), rec), session.ErrUnavailable)
	s.wants("UpdateRun", s.store.UpdateRun(s.Context(), "there", &rec.Runs[0]), session.ErrUnavailable)
	s.wants("Delete", s.store.Delete(s.Context(), "there"), session.ErrUnavailable)
	s.again()
	s.is("opened again", record1("there", "host"))
}

// To close in the middle of things loses nothing of what was done.
func (s *suite) closeWaits() {
	var kept sync.Map
	started := make(chan struct{}, 100)
	var writers sync.WaitGroup
	for i := range 100 {
		writers.Go(func() {
			started <- struct{}{}
			for n := 0; ; n++ {
				id := session.ID(fmt.Sprint(i, " ", n))
				switch err := s.store.Create(s.Context(), record(id, "host")); {
				case errors.Is(err, session.ErrUnavailable):
					return
				case err != nil:
					s.Error(err)
					return
				}
				kept.Store(id, true)
			}
		})
	}
	for range 100 {
		<-started
	}
	if err := s.store.Close(); err != nil {
		s.Error(err)
	}
	writers.Wait()
	s.again()
	there := map[session.ID]bool{}
	for _, rec := range s.list(session.Filter{}) {
		there[rec.Session.ID] = true
	}
	n := 0
	kept.Range(func(id, _ any) bool {
		if n++; !there[id.(session.ID)] {
			s.Errorf("session %v is lost", id)
		}
		return true
	})
	if n != len(there) {
		s.Errorf("%d sessions were created, and there are %d", n, len(there))
	}
}

// Benchmark measures what a poller asks of a store at its busiest: 1,000 sessions
// that begin at once, each of one host, with four changes each; and a session of
// 10,000 hosts, of which each changes once.
func Benchmark(b *testing.B, open Open) {
	b.Run("Sessions", func(b *testing.B) { benchmarkSessions(b, open) })
	b.Run("Fleet", func(b *testing.B) { benchmarkFleet(b, open) })
}

func benchmarkSessions(b *testing.B, open Open) {
	s, _ := open(b)
	const sessions = 1000
	round := 0
	for b.Loop() {
		round++
		inParallel(sessions, func(i int) {
			if err := live(b.Context(), s, session.ID(fmt.Sprintf("%d of round %d", i, round))); err != nil {
				b.Error(err)
			}
		})
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/1000-sessions")
}

func benchmarkFleet(b *testing.B, open Open) {
	s, _ := open(b)
	const hosts = 10_000
	var create, change, get time.Duration
	for b.Loop() {
		rec := fleet(session.ID(fmt.Sprint("fleet ", b.Elapsed())), hosts)
		begin := time.Now()
		if err := s.Create(b.Context(), rec); err != nil {
			b.Fatal(err)
		}
		created := time.Now()
		inParallel(200, func(i int) {
			for n := i; n < hosts; n += 200 {
				r := rec.Runs[n]
				r.State = session.StateRunning
				if err := s.UpdateRun(b.Context(), rec.Session.ID, &r); err != nil {
					b.Error(err)
				}
			}
		})
		changed := time.Now()
		if _, err := s.Get(b.Context(), rec.Session.ID); err != nil {
			b.Fatal(err)
		}
		create, change, get = create+created.Sub(begin), change+changed.Sub(created), get+time.Since(changed)
	}
	for what, d := range map[string]time.Duration{"create": create, "change": change, "get": get} {
		b.ReportMetric(float64(d.Milliseconds())/float64(b.N), "ms/"+what)
	}
}

// live is the life of a session: created, its run begins, and it, and both end.
func live(ctx context.Context, s store.Store, id session.ID) error {
	rec := record(id, "host")
	if err := s.Create(ctx, rec); err != nil {
		return err
	}
	for _, state := range []session.State{session.StateRunning, session.StateSucceeded} {
		rec.Runs[0].State, rec.Session.State = state, state
		if err := s.UpdateRun(ctx, id, &rec.Runs[0]); err != nil {
			return err
		}
		if err := s.Update(ctx, rec); err != nil {
			return err
		}
	}
	return nil
}
