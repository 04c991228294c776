// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/agents"
)

// The clocks of hosts are a day ahead or behind, or jump from one to the other
// each time they are looked at. What the poller tells is true by its own.
func TestClocksDiffer(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	var looks atomic.Int64
	clocks := map[string]func() time.Duration{
		"ahead":  func() time.Duration { return day },
		"behind": func() time.Duration { return -day },
		"jumps":  func() time.Duration { return day * time.Duration(1-2*(looks.Add(1)%2)) },
	}
	s := newSite(t, 0)
	for name, skew := range clocks {
		s.simulate(s.node(name), agents.Options{Skew: skew})
	}
	began := time.Now()
	f := s.fleet(len(clocks), func(c object) { c["limits"].(object)["result_ttl_seconds"] = 3600 })
	const lasts = time.Second
	var ids []session.ID
	for _, name := range []string{"ahead", "behind", "jumps", "behind", "ahead"} {
		spec := session.Spec{PIDs: []int{1 + len(ids)}, Duration: lasts, Hosts: on(name)}
		ids = append(ids, f.start(spec).ID)
	}
	ids = append(ids, f.start(session.Spec{Select: session.Selector{Name: "simulated"}, Duration: lasts, Hosts: session.Hosts{All: true}}).ID)
	for _, id := range ids {
		one := f.ended(id)
		f.endsAsOneOf(&one, nil)
		f.timely(&one, began)
		if left := time.Until(one.Expires); left < 50*time.Minute || left > time.Hour {
			t.Errorf("a session that is kept for an hour is forgotten in %v", left)
		}
	}
	all, err := f.client.List(t.Context(), session.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var listed []session.ID
	for _, one := range all {
		listed = append(listed, one.ID)
	}
	if !slices.Equal(listed, ids) {
		t.Errorf("started as %v, and listed as %v", ids, listed)
	}
	hosts, err := f.client.Hosts(t.Context(), session.Hosts{})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		if h.State != session.HostReady || h.Since.Before(began) || h.Since.After(time.Now()) {
			t.Errorf("%s is %s since %v", h.Name, h.State, h.Since)
		}
	}
	f.balance(len(ids))
}

// timely makes sure that all times of a session are between began and now, and
// in their order.
func (f *fleet) timely(s *session.Session, began time.Time) {
	f.t.Helper()
	in := func(what string, times ...time.Time) {
		last := began
		for _, at := range times {
			if at.Before(last) || at.After(time.Now()) {
				f.t.Errorf("%s: %v; the test began at %v", what, times, began)
				return
			}
			last = at
		}
	}
	in("the session", s.Created, s.Started, s.Ended)
	if took := s.Ended.Sub(s.Started); took < s.Spec.Duration/2 {
		f.t.Errorf("%v of sampling took %v", s.Spec.Duration, took)
	}
	for _, h := range s.Hosts {
		in(h.Host, s.Created, h.Started, h.Ended)
		if h.Progress.Elapsed != s.Spec.Duration {
			f.t.Errorf("%s sampled for %v", h.Host, h.Progress.Elapsed)
		}
	}
}
