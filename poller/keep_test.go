// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// What has ended is kept for its time, also over a start of the poller, and then
// nothing of it is left; where there is no room, the oldest makes it.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, func(l *Limits) { l.ResultTTLSeconds, l.MaxKeptSessions = 100, 3 })
		defer func() { f.crash() }()
		first := f.ended(f.start(everywhere(time.Second)).ID)
		time.Sleep(50 * time.Second)
		if n, bytes := f.Kept(); n != 1 || bytes == 0 {
			t.Errorf("%d sessions with %d bytes are kept", n, bytes)
		}
		f.crash()
		f.open()
		if now, err := f.Get(t.Context(), first.ID); err != nil || now.State != session.StateSucceeded || len(now.Hosts) != 2 {
			t.Errorf("%+v, %v", now, err)
		}
		time.Sleep(60 * time.Second)
		_, err := f.Get(t.Context(), first.ID)
		wants(t, err, session.ErrNotFound, "no_such_session")
		if n, bytes := f.Kept(); n != 0 || bytes != 0 {
			t.Errorf("%d sessions with %d bytes are kept", n, bytes)
		}
		var ids []session.ID
		for i := range 4 {
			ids = append(ids, f.ended(f.start(everywhere(time.Duration(i+1)*time.Second)).ID).ID)
			time.Sleep(2 * time.Second)
		}
		_, err = f.Get(t.Context(), ids[0])
		wants(t, err, session.ErrNotFound, "no_such_session")
		if !f.makeRoom(t.Context()) {
			t.Error("nothing makes room")
		}
		_, err = f.Get(t.Context(), ids[1])
		wants(t, err, session.ErrNotFound, "no_such_session")
		if all, err := f.List(t.Context(), session.Filter{}); err != nil || len(all) != 2 {
			t.Errorf("%d sessions, %v", len(all), err)
		}
	})
}

// Who joined a session and asks again finds it, also after a start of the poller
// and after its end; and one that nobody comes back to watch ends.
func TestJoinedAndAttended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, nil)
		defer func() { f.crash() }()
		asked := spec(time.Minute)
		asked.RequestID, asked.Attended = "one", true
		first := f.start(asked)
		asked.RequestID = "two"
		if second := f.start(asked); second.ID != first.ID || second.Shared != 2 {
			t.Errorf("%+v", second)
		}
		f.crash()
		f.open()
		if again := f.start(asked); again.ID != first.ID || again.Shared != 2 {
			t.Errorf("%+v", again)
		}
		last := first
		for !last.State.Final() {
			time.Sleep(time.Second)
			var err error
			if last, err = f.Get(t.Context(), first.ID); err != nil {
				t.Fatal(err)
			}
		}
		wants(t, last.Err, session.ErrCanceled, "unattended")
		if last.Progress.Elapsed > 20*time.Second {
			t.Errorf("it went on for %v", last.Progress.Elapsed)
		}
		time.Sleep(time.Minute) // it is not in memory any more
		if again := f.start(asked); again.ID != first.ID || again.State != session.StateCanceled {
			t.Errorf("%+v", again)
		}
		asked.Frequency++
		_, err := f.Start(t.Context(), asked)
		wants(t, err, session.ErrInvalid, "request_id_reused")
		f.once()
	})
}

// Of a host that is not in the configuration any more nothing is expected.
func TestHostRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, func(l *Limits) { l.MaxHostsPerSelector = 1 })
		defer func() { f.crash() }()
		first := f.start(everywhere(time.Minute))
		time.Sleep(time.Second)
		if err := f.SetHosts([]HostConfig{{Name: "web-07", Fleet: newDouble("web-07")}}); err != nil {
			t.Fatal(err)
		}
		last := f.ended(first.ID)
		for _, h := range last.Hosts {
			wants(t, h.Err, session.ErrUnavailable, "host_removed")
		}
		other := spec(time.Second)
		if last := f.ended(f.start(other).ID); last.Host != "web-07" || last.State != session.StateSucceeded {
			t.Errorf("%+v", last)
		}
		f.hosts = f.hosts[:1] // and a poller that is started with fewer
		id := f.start(spec(time.Minute)).ID
		f.crash()
		f.open()
		wants(t, f.ended(id).Err, session.ErrUnavailable, "host_removed")
	})
}

// How long a session waits is bounded, also over a start of the poller.
func TestMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1, nil)
		defer func() { f.crash() }()
		f.start(spec(time.Minute))
		asked := spec(30 * time.Second)
		asked.MaxWait = 20 * time.Second
		waits := f.start(asked)
		if waits.State != session.StatePending || waits.Position != 1 || waits.Hosts[0].Waiting == "" {
			t.Errorf("%+v", waits)
		}
		time.Sleep(10 * time.Second)
		f.crash()
		f.open()
		last := f.ended(waits.ID)
		wants(t, last.Err, session.ErrBusy, "waited_too_long")
		if waited := last.Ended.Sub(last.Created); waited < 20*time.Second || waited > 25*time.Second {
			t.Errorf("it waited for %v", waited)
		}
		f.once()
	})
}

// A host that takes calls and never answers holds up nothing but itself.
func TestStuckHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, nil)
		defer func() { f.crash() }()
		asked := everywhere(30 * time.Second)
		id := f.start(asked).ID
		time.Sleep(5 * time.Second)
		stuck := f.hosts[1]
		stuck.set(func() { stuck.hang = func(string, bool) bool { return true } })
		time.Sleep(time.Minute)
		now, err := f.Get(t.Context(), id)
		if err != nil || now.Hosts[0].State != session.StateSucceeded || now.Hosts[1].State != session.StateRunning || now.Hosts[1].Waiting == "" {
			t.Errorf("%+v, %v", now, err)
		}
		only := spec(time.Second)
		only.Hosts.Names = []string{"web-01"}
		if waits := f.start(only); waits.State != session.StatePending {
			t.Errorf("%+v", waits)
		}
		stuck.set(func() { stuck.hang = nil })
		if last := f.ended(id); states(last)[session.StateSucceeded] != 2 {
			t.Errorf("%+v", last)
		}
		f.once()
	})
}

// full is the real store, which takes nothing for a while.
type full struct {
	store.Store
	on atomic.Bool
}

var errFull = &session.Error{Code: "disk_full", Kind: session.ErrUnavailable, Problem: "there is no room", Remedy: "make some"}

func (s *full) UpdateRun(ctx context.Context, id session.ID, r *store.Run) error {
	if s.on.Load() {
		return errFull
	}
	return s.Store.UpdateRun(ctx, id, r)
}

func (s *full) Create(ctx context.Context, r *store.Record) error {
	if s.on.Load() {
		return errFull
	}
	return s.Store.Create(ctx, r)
}

// Where nothing can be written down, nothing begins; and what goes on waits, and
// is lost no more than what could be written.
func TestStoreIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, nil)
		f.crash()
		s := &full{}
		f.wrap = func(real store.Store) store.Store { s.Store = real; return s }
		f.open()
		defer func() { f.crash() }()
		id := f.start(everywhere(10 * time.Second)).ID
		time.Sleep(5 * time.Second)
		s.on.Store(true)
		_, err := f.Start(t.Context(), everywhere(time.Second))
		wants(t, err, session.ErrUnavailable, "disk_full")
		time.Sleep(time.Minute)
		if h := f.Health(); h.Healthy || h.Reason == "" {
			t.Errorf("%+v", h)
		}
		if now, err := f.Get(t.Context(), id); err != nil || now.State != session.StateRunning {
			t.Errorf("%+v, %v", now, err)
		}
		s.on.Store(false)
		if last := f.ended(id); states(last)[session.StateSucceeded] != 2 {
			t.Errorf("%+v", last)
		}
		if h := f.Health(); !h.Healthy {
			t.Errorf("%+v", h)
		}
		if all, err := f.List(t.Context(), session.Filter{}); err != nil || len(all) != 1 {
			t.Errorf("%d sessions, %v", len(all), err)
		}
		f.once()
	})
}
