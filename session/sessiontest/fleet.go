// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// RunFleet tests what a session.Fleet can beside running sessions. The fixture's
// runner is a fleet of one host, this one.
func RunFleet(t *testing.T, fixture func(t *testing.T) Fixture) {
	for _, test := range []struct {
		name string
		run  func(s *fleetSuite)
	}{
		{"Hosts", (*fleetSuite).hosts},
		{"Processes", (*fleetSuite).processes},
		{"Match", (*fleetSuite).match},
		{"StartByName", (*fleetSuite).startByName},
		{"StartSeveral", (*fleetSuite).startSeveral},
		{"StartHottest", (*fleetSuite).startHottest},
		{"RepeatByName", (*fleetSuite).repeatByName},
		{"Refused", (*fleetSuite).refused},
		{"FetchPart", (*fleetSuite).fetchPart},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := fixture(t)
			fleet, ok := f.Runner.(session.Fleet)
			if !ok {
				t.Fatalf("%T is no fleet", f.Runner)
			}
			test.run(&fleetSuite{suite{f, t}, fleet})
		})
	}
}

type fleetSuite struct {
	suite
	fleet session.Fleet
}

var names atomic.Int64

// unique is a name that no other process has, short enough for the kernel.
func unique() string { return fmt.Sprintf("t%dx%d", os.Getpid(), names.Add(1)) }

func (s *fleetSuite) byName(name string, d time.Duration) session.Spec {
	spec := s.spec(d)
	spec.Select.Name = name
	return spec
}

// host is the only one.
func (s *fleetSuite) host() session.Host {
	s.Helper()
	all, err := s.fleet.Hosts(s.Context(), session.Hosts{})
	if err != nil || len(all) != 1 {
		s.Fatalf("hosts: %+v, %v", all, err)
	}
	return all[0]
}

func (s *fleetSuite) hosts() {
	h := s.host()
	if h.Name == "" || h.State != session.HostReady || h.Instance == "" || h.Since.IsZero() || h.Running != 0 || h.Err != nil {
		s.Errorf("%+v", h)
	}
	for _, of := range []session.Hosts{{All: true}, {Names: []string{h.Name}}, {Names: []string{h.Name[:1] + "*"}}} {
		if all, err := s.fleet.Hosts(s.Context(), of); err != nil || len(all) != 1 || all[0].Name != h.Name || all[0].Instance != h.Instance {
			s.Errorf("hosts of %+v: %+v, %v", of, all, err)
		}
	}
	for _, of := range []session.Hosts{{Names: []string{"no-such-host"}}, {Labels: "no=such"}} {
		if all, err := s.fleet.Hosts(s.Context(), of); err != nil || len(all) != 0 {
			s.Errorf("hosts of %+v: %+v, %v", of, all, err)
		}
	}
	_, err := s.fleet.Hosts(s.Context(), session.Hosts{Names: []string{"["}})
	s.wants("a name that is no pattern", err, session.ErrInvalid, "bad_host")
	id := s.start(s.spec(s.MaxDuration, s.Busy(s))).ID
	s.until(id, sampled)
	if h := s.host(); h.Running != 1 || h.State != session.HostReady {
		s.Errorf("while a session runs: %+v", h)
	}
}

// listed is a process when it is seen to work.
func (s *fleetSuite) listed(pid int) session.Process {
	s.Helper()
	for {
		all, err := s.fleet.Processes(s.Context(), "", session.Selector{}, 0)
		if err != nil {
			s.Fatalf("processes: %v", err)
		}
		if !slices.IsSortedFunc(all, func(a, b session.Process) int { return cmp.Compare(b.CPU, a.CPU) }) {
			s.Error("the hottest are not first")
		}
		i := slices.IndexFunc(all, func(p session.Process) bool { return p.PID == pid })
		if i < 0 {
			s.Fatalf("%d is not among %d processes", pid, len(all))
		}
		if all[i].CPU > 0 { // it may have had no CPU meanwhile
			return all[i]
		}
	}
}

func (s *fleetSuite) processes() {
	name := unique()
	before := time.Now()
	target := s.Named(s, name)
	p := s.listed(target.PID)
	if p.Name != name || path.Base(p.Command) != name || p.User == "" || p.Memory <= 0 || p.Threads < 1 || p.Cgroup == "" {
		s.Errorf("%+v", p)
	}
	if p.Started.Before(before.Add(-time.Second)) || p.Started.After(time.Now().Add(time.Second)) {
		s.Errorf("it started at %v, not after %v", p.Started, before)
	}
	some, err := s.fleet.Processes(s.Context(), s.host().Name, session.Selector{}, 2)
	if err != nil || len(some) != 2 {
		s.Errorf("two processes: %+v, %v", some, err)
	}
	for _, pattern := range []string{name, name + "*", "?" + name[1:]} {
		all, err := s.fleet.Processes(s.Context(), "", session.Selector{Name: pattern}, 0)
		if err != nil || len(all) != 1 || all[0].PID != target.PID {
			s.Errorf("processes %s: %+v, %v", pattern, all, err)
		}
	}
	if all, err := s.fleet.Processes(s.Context(), "", session.Selector{Name: unique()}, 0); err != nil || len(all) != 0 {
		s.Errorf("a name that none has: %+v, %v", all, err)
	}
	_, err = s.fleet.Processes(s.Context(), "no-such-host", session.Selector{}, 0)
	s.wants("another host's processes", err, session.ErrInvalid, "")
	_, err = s.fleet.Processes(s.Context(), "", session.Selector{Name: "a", Unit: "b"}, 0)
	s.wants("two selectors", err, session.ErrInvalid, "bad_selector")
	if _, err = s.fleet.Processes(s.canceled(), "", session.Selector{}, 0); !errors.Is(err, context.Canceled) {
		s.Errorf("processes for nobody: %v", err)
	}
}

// matched is what a spec means on the only host.
func (s *fleetSuite) matched(spec session.Spec) session.Match {
	s.Helper()
	all, err := s.fleet.Match(s.Context(), spec)
	if err != nil || len(all) != 1 || all[0].Host == "" {
		s.Fatalf("match %+v: %+v, %v", spec, all, err)
	}
	return all[0]
}

func (s *fleetSuite) match() {
	name := unique()
	a := s.Named(s, name)
	if m := s.matched(s.byName(name, short)); m.Err != nil || !slices.Equal(m.PIDs, []int{a.PID}) {
		s.Errorf("%+v, want %d", m, a.PID)
	}
	b := s.Named(s, name)
	both := []int{a.PID, b.PID}
	slices.Sort(both)
	m := s.matched(s.byName(name, short))
	if slices.Sort(m.PIDs); m.Err != nil || !slices.Equal(m.PIDs, both) {
		s.Errorf("%+v, want %v", m, both)
	}
	if m := s.matched(s.spec(short, a)); m.Err != nil || !slices.Equal(m.PIDs, []int{a.PID}) {
		s.Errorf("by PID: %+v", m)
	}
	for _, spec := range []session.Spec{s.byName(unique(), short), s.spec(short, Target{PID: noProcess})} {
		m := s.matched(spec)
		s.wants("what nobody is", m.Err, fs.ErrNotExist, "no_such_process")
	}
	const kthreadd = 2
	if stat, err := os.ReadFile("/proc/2/comm"); err == nil && string(stat) == "kthreadd\n" {
		m := s.matched(s.spec(short, Target{PID: kthreadd}))
		s.wants("a kernel thread", m.Err, session.ErrInvalid, "kernel_thread")
		m = s.matched(s.byName("kthreadd", short))
		s.wants("a kernel thread by its name", m.Err, session.ErrInvalid, "kernel_thread")
	}
	_, err := s.fleet.Match(s.Context(), s.byName(name, -1))
	s.wants("a spec that is wrong", err, session.ErrInvalid, "bad_duration")
	if all := s.suite.listed(session.Filter{}); len(all) != 0 {
		s.Errorf("it started %v", all)
	}
}

// By its name a target is found, sampled, and shared with who asks for the same.
func (s *fleetSuite) startByName() {
	name := unique()
	target := s.Named(s, name)
	spec := s.byName(name, s.MaxDuration)
	first, err := s.fleet.Start(s.Context(), spec)
	if err != nil {
		s.Fatal(err)
	}
	if !slices.Equal(first.Spec.PIDs, []int{target.PID}) || first.Spec.Select.Name != name || !first.Spec.SameRequest(&spec) {
		s.Errorf("%+v", first)
	}
	for _, same := range []session.Spec{spec, s.spec(s.MaxDuration, target)} {
		if also, err := s.fleet.Start(s.Context(), same); err != nil || also.ID != first.ID {
			s.Errorf("the same: %+v, %v", also, err)
		}
	}
	here := s.byName(name, s.MaxDuration)
	here.Hosts.Names = []string{s.host().Name}
	if also, err := s.fleet.Start(s.Context(), here); err != nil || also.ID != first.ID || also.Shared != 4 {
		s.Errorf("the same on this host: %+v, %v", also, err)
	}
	s.until(first.ID, sampledWell)
	target.Stop()
	last := s.ended(first.ID)
	if last.State != session.StateSucceeded || len(last.Targets) != 1 || last.Targets[0].PID != target.PID || last.Targets[0].Name != name {
		s.Fatalf("%+v", last)
	}
	_, b := s.fetched(first.ID, session.Want{})
	if fs := s.decoded(b).Functions(); len(fs) == 0 || fs[0].Name != s.Hottest {
		s.Errorf("the hottest function is not %s: %+v", s.Hottest, fs[:min(3, len(fs))])
	}
}

func (s *fleetSuite) startSeveral() {
	name := unique()
	targets := []int{s.Named(s, name).PID, s.Named(s, name).PID, s.Named(s, name).PID}
	first, err := s.fleet.Start(s.Context(), s.byName(name+"*", short))
	if err != nil {
		s.Fatal(err)
	}
	slices.Sort(targets)
	if slices.Sort(first.Spec.PIDs); !slices.Equal(first.Spec.PIDs, targets) {
		s.Errorf("%v are sampled, not %v", first.Spec.PIDs, targets)
	}
	if last := s.ended(first.ID); len(last.Targets) != len(targets) {
		s.Errorf("%+v", last)
	}
}

// Something is the hottest, if it is not this machine's other work.
func (s *fleetSuite) startHottest() {
	s.Named(s, unique())
	spec := s.spec(short)
	spec.Select.Hottest = true
	first, err := s.fleet.Start(s.Context(), spec)
	if errors.Is(err, fs.ErrNotExist) {
		s.Skip("what was hottest has just ended")
	}
	if err != nil || len(first.Spec.PIDs) != 1 {
		s.Fatalf("%+v, %v", first, err)
	}
}

// A request that is repeated leads to the same session, whatever has the name
// by then.
func (s *fleetSuite) repeatByName() {
	name := unique()
	a := s.Named(s, name)
	spec := s.byName(name, s.MaxDuration)
	spec.RequestID = unique()
	first, err := s.fleet.Start(s.Context(), spec)
	if err != nil {
		s.Fatal(err)
	}
	again := func(what string) {
		s.Helper()
		if same, err := s.fleet.Start(s.Context(), spec); err != nil || same.ID != first.ID || !slices.Equal(same.Spec.PIDs, []int{a.PID}) {
			s.Errorf("%s: %+v, %v", what, same, err)
		}
		if m := s.matched(spec); m.Err != nil || !slices.Equal(m.PIDs, []int{a.PID}) {
			s.Errorf("%s: it means %+v", what, m)
		}
	}
	again("at once")
	b := s.Named(s, name)
	again("when there are two")
	s.until(first.ID, sampled)
	a.Stop()
	again("when it is another one")
	b.Stop()
	s.ended(first.ID)
	same, err := s.fleet.Start(s.Context(), spec)
	if err != nil || same.ID != first.ID {
		s.Errorf("when it has ended: %+v, %v", same, err)
	}
	s.Named(s, name)
	other := s.byName(name+"*", s.MaxDuration)
	other.RequestID = spec.RequestID
	_, err = s.fleet.Start(s.Context(), other)
	s.wants("another request of that ID", err, session.ErrInvalid, "request_id_reused")
}

func (s *fleetSuite) refused() {
	_, err := s.fleet.Start(s.Context(), s.byName(unique(), short))
	s.wants("a name that none has", err, fs.ErrNotExist, "no_such_process")
	spec := s.byName(s.host().Name, short)
	spec.Select = session.Selector{Unit: "no-such-unit"}
	_, err = s.fleet.Start(s.Context(), spec)
	s.wants("a unit that is not there", err, fs.ErrNotExist, "no_such_process")
	spec.Select = session.Selector{}
	_, err = s.fleet.Start(s.Context(), spec)
	s.wants("nothing", err, session.ErrInvalid, "no_target")
	elsewhere := s.spec(short, s.Busy(s))
	elsewhere.Hosts.Names = []string{"no-such-host"}
	_, err = s.fleet.Start(s.Context(), elsewhere)
	s.wants("another host", err, session.ErrInvalid, "")
	_, err = s.fleet.Match(s.Context(), elsewhere)
	s.wants("match on another host", err, session.ErrInvalid, "")
	if all := s.suite.listed(session.Filter{}); len(all) != 0 {
		s.Errorf("there are sessions: %v", all)
	}
}

// The part that the only host has in a session is all of it.
func (s *fleetSuite) fetchPart() {
	last := s.succeeded()
	all, _ := s.fetched(last.ID, session.Want{})
	part, _ := s.fetched(last.ID, session.Want{Host: s.host().Name})
	if part.Digest != all.Digest || part.Size != all.Size {
		s.Errorf("%d bytes with the host named, %d without", part.Size, all.Size)
	}
	_, err := s.fleet.Fetch(s.Context(), last.ID, session.Want{Host: "no-such-host"})
	s.wants("another host's part", err, session.ErrInvalid, "")
}
