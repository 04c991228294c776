// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/session"
)

// A session of a fleet has one ID, a state for each host with the reason, and a
// profile of each host as well as one of all.
func TestPartialFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 4, nil)
		defer f.crash()
		f.hosts[1].set(func() { f.hosts[1].refuse = errNoProcess })
		f.hosts[2].set(func() { f.hosts[2].without = true })
		first := f.start(everywhere(5 * time.Second))
		if first.State != session.StateRunning || len(first.Hosts) != 4 {
			t.Errorf("%+v", first)
		}
		last := f.ended(first.ID)
		if last.State != session.StateSucceeded || len(last.Failed()) != 2 || last.Err != nil {
			t.Fatalf("%+v", last)
		}
		for host, code := range map[int]string{1: "no_such_process", 2: "no_profiling"} {
			if e := last.Hosts[host].Err; codeOf(e) != code {
				t.Errorf("%v", e)
			}
		}
		c, err := f.Fetch(t.Context(), first.ID, session.Want{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := pprof.Read(c.Body)
		if err != nil {
			t.Fatal(err)
		}
		hosts := map[string]uint64{}
		for _, s := range p.Samples {
			hosts[s.Thread.Host] += s.Count
		}
		if len(hosts) != 2 || hosts["web-00"] != 1 || hosts["web-03"] != 1 {
			t.Errorf("samples by host: %v", hosts)
		}
		if c, err = f.Fetch(t.Context(), first.ID, session.Want{Host: "web-03", Format: "folded"}); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c.Body); err != nil || !bytes.Contains(b, []byte("work_of_web-03")) {
			t.Errorf("%s, %v", b, err)
		}
		_, err = f.Fetch(t.Context(), first.ID, session.Want{Host: "web-01"})
		wants(t, err, fs.ErrNotExist, "no_such_process")
		for _, d := range f.hosts {
			d.set(func() { d.refuse = errNoProcess })
		}
		again := f.ended(f.start(everywhere(6 * time.Second)).ID)
		if again.State != session.StateFailed || codeOf(again.Err) != "all_hosts_failed" {
			t.Errorf("%+v", again)
		}
		wants(t, again.Err, fs.ErrNotExist, "all_hosts_failed")
	})
}

// Limits at four levels: never more than they allow sample at once, and all have
// their turn. What waits says for what.
func TestLimitsAtFourLevels(t *testing.T) {
	for _, test := range []struct {
		name     string
		limit    func(*Limits)
		sessions int
		most     int // at once, of all hosts
		each     int // on one host
		waiting  string
	}{
		{"target", func(l *Limits) { l.MaxSessionsPerTarget, l.MaxSessionsPerHost = 1, 9 }, 3, 6, 1, "another session samples the same"},
		{"host", func(l *Limits) { l.MaxSessionsPerTarget, l.MaxSessionsPerHost = 9, 2 }, 3, 12, 2, "max_sessions_per_host"},
		{"session", func(l *Limits) { l.MaxSessionsPerTarget, l.MaxHostsPerSelector = 9, 2 }, 2, 4, 2, "as many hosts of this session"},
		{"fleet", func(l *Limits) { l.MaxSessionsPerTarget, l.MaxHostsAtOnce = 9, 5 }, 2, 5, 2, "max_hosts_at_once"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 6, test.limit)
				defer f.crash()
				time.Sleep(time.Second)
				var ids []session.ID
				for i := range test.sessions {
					ids = append(ids, f.start(everywhere(time.Duration(10+i)*time.Second)).ID)
				}
				time.Sleep(time.Second)
				running, waits := 0, false
				for _, id := range ids {
					now, err := f.Get(t.Context(), id)
					if err != nil {
						t.Fatal(err)
					}
					running += states(now)[session.StateRunning]
					for _, h := range now.Hosts {
						waits = waits || h.State == session.StatePending && h.Position > 0 && bytes.Contains([]byte(h.Waiting), []byte(test.waiting))
					}
				}
				if running != test.most || !waits {
					t.Errorf("%d run at once, want %d; one says that it waits: %v", running, test.most, waits)
				}
				for _, id := range ids {
					if last := f.ended(id); last.State != session.StateSucceeded || len(last.Failed()) > 0 {
						t.Errorf("%+v", last)
					}
				}
				for _, d := range f.hosts {
					d.set(func() {
						if d.top > test.each {
							t.Errorf("%d at once on %s", d.top, d.name)
						}
					})
				}
				f.once()
			})
		})
	}
}

// One host goes first, and the others only if it succeeds.
func TestCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 5, nil)
		defer f.crash()
		time.Sleep(time.Second)
		asked := everywhere(10 * time.Second)
		asked.Canary = true
		id := f.start(asked).ID
		time.Sleep(5 * time.Second)
		if now, _ := f.Get(t.Context(), id); states(now)[session.StateRunning] != 1 {
			t.Errorf("%v", states(now))
		}
		time.Sleep(10 * time.Second)
		if now, _ := f.Get(t.Context(), id); states(now)[session.StateRunning] != 4 {
			t.Errorf("%v", states(now))
		}
		if last := f.ended(id); states(last)[session.StateSucceeded] != 5 {
			t.Errorf("%v", states(last))
		}
		for _, d := range f.hosts {
			d.set(func() { d.refuse = errNoProcess })
		}
		asked.Duration++
		last := f.ended(f.start(asked).ID)
		codes := map[string]int{}
		for _, h := range last.Hosts {
			codes[codeOf(h.Err)]++
		}
		if last.State != session.StateFailed || codes["no_such_process"] != 1 || codes["canary_failed"] != 4 {
			t.Errorf("%v", codes)
		}
		f.once()
	})
}

// So many hosts at once, so many in all: the same ones for the same request.
func TestSomeHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 20, nil)
		defer f.crash()
		time.Sleep(time.Second)
		asked := everywhere(10 * time.Second)
		asked.AtOnce, asked.Hosts.Most = 3, 7
		asked.RequestID = "some"
		first := f.start(asked)
		time.Sleep(time.Second)
		now, err := f.Get(t.Context(), first.ID)
		if err != nil || len(now.Hosts) != 7 || states(now)[session.StateRunning] != 3 {
			t.Errorf("%d hosts, %v, %v", len(now.Hosts), states(now), err)
		}
		f.mu.Lock()
		same, err := f.choose(&asked)
		other := asked
		other.RequestID = "others"
		others, err2 := f.choose(&other)
		f.mu.Unlock()
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		differ := false
		for i, h := range now.Hosts {
			if same[i].name != h.Host {
				t.Errorf("the same request means %s and not %s", same[i].name, h.Host)
			}
			differ = differ || others[i].name != h.Host
		}
		if !differ {
			t.Error("another request means the same hosts")
		}
		if last := f.ended(first.ID); states(last)[session.StateSucceeded] != 7 {
			t.Errorf("%v", states(last))
		}
		f.once()
	})
}

func TestWhichHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, func(l *Limits) { l.MaxHostsPerSession = 2 })
		defer f.crash()
		for code, hosts := range map[string]session.Hosts{
			"no_host":        {},
			"no_such_host":   {Names: []string{"web-00", "web-77"}},
			"too_many_hosts": {All: true},
			"bad_host":       {Names: []string{"["}},
			"bad_labels":     {Labels: "a=b=c"},
		} {
			asked := spec(time.Second)
			asked.Hosts = hosts
			_, err := f.Start(t.Context(), asked)
			wants(t, err, session.ErrInvalid, code)
		}
		asked := spec(time.Second)
		asked.Select, asked.PIDs, asked.Hosts.Labels = session.Selector{}, []int{1}, "half=0"
		_, err := f.Start(t.Context(), asked)
		wants(t, err, session.ErrInvalid, "pids_of_many_hosts")
		asked.Hosts = session.Hosts{Names: []string{"*-02"}}
		if last := f.ended(f.start(asked).ID); last.State != session.StateSucceeded || last.Host != "web-02" {
			t.Errorf("%+v", last)
		}
		f.hosts[0].set(func() { f.hosts[0].refuse = errNoProcess })
		asked.Hosts = session.Hosts{Names: []string{"web-00"}}
		_, err = f.Start(t.Context(), asked)
		wants(t, err, fs.ErrNotExist, "no_such_process")
		if all, err := f.List(t.Context(), session.Filter{}); err != nil || len(all) != 1 {
			t.Errorf("%d sessions, %v", len(all), err)
		}
	})
}

// A host that is away is waited for, in sight, and given up in the end.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, nil)
		defer f.crash()
		for _, d := range f.hosts {
			d.set(func() { d.down = true })
		}
		time.Sleep(time.Second)
		here := spec(5 * time.Second)
		here.Hosts.Names = []string{"web-00"}
		back := f.start(here)
		if back.State != session.StatePending || back.Hosts[0].Waiting == "" {
			t.Errorf("%+v", back)
		}
		here.Hosts.Names = []string{"web-01"}
		away := f.start(here)
		f.hosts[0].set(func() { f.hosts[0].down = false })
		if last := f.ended(back.ID); last.State != session.StateSucceeded {
			t.Errorf("%+v", last)
		}
		last := f.ended(away.ID)
		wants(t, last.Err, session.ErrUnavailable, "host_unreachable")
		if waited := last.Ended.Sub(last.Created); waited < 55*time.Second || waited > 2*time.Minute {
			t.Errorf("it was waited for %v", waited)
		}
		hosts, err := f.Hosts(t.Context(), session.Hosts{All: true})
		if err != nil || hosts[0].State != session.HostReady || hosts[1].State != session.HostAway || hosts[1].Err == nil {
			t.Errorf("%+v, %v", hosts, err)
		}
		f.once()
	})
}

// A session goes on that was cut off, and ends when its host is back, or is
// given up, or its profiler was started again.
func TestCutOff(t *testing.T) {
	for _, test := range []struct {
		away    time.Duration
		restart bool
		state   session.State
		code    string
	}{
		{2 * time.Second, false, session.StateSucceeded, "<nil>"},
		{10 * time.Minute, false, session.StateSucceeded, "<nil>"},
		{2 * time.Second, true, session.StateFailed, "profiler_restarted"},
		{time.Hour, false, session.StateFailed, "host_unreachable"},
	} {
		t.Run(fmt.Sprintf("%v %v", test.away, test.restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 1, nil)
				defer f.crash()
				d := f.hosts[0]
				id := f.start(spec(30 * time.Second)).ID
				time.Sleep(5 * time.Second)
				d.set(func() { d.down = true })
				time.Sleep(test.away)
				if test.restart {
					d.restart()
				}
				d.set(func() { d.down = false })
				last := f.ended(id)
				code := "<nil>"
				if last.Err != nil {
					code = last.Err.Code
				}
				if last.State != test.state || code != test.code {
					t.Errorf("%+v", last)
				}
				f.once()
			})
		})
	}
}

// Cancel reaches hosts that are back only later, and who waits for nothing.
func TestCancelAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, func(l *Limits) { l.MaxHostsPerSelector = 1 })
		defer f.crash()
		id := f.start(everywhere(time.Minute)).ID
		time.Sleep(5 * time.Second)
		for _, d := range f.hosts {
			d.set(func() { d.down = true })
		}
		time.Sleep(5 * time.Second)
		now, err := f.Cancel(t.Context(), id)
		if err != nil || now.State.Final() {
			t.Errorf("%+v, %v", now, err)
		}
		f.Close(context.Background()) // durable: the next one goes on with it
		if err := f.store.Close(); err != nil {
			t.Fatal(err)
		}
		f.open()
		time.Sleep(5 * time.Second)
		for _, d := range f.hosts {
			d.set(func() { d.down = false })
		}
		last := f.ended(id)
		if last.State != session.StateCanceled || states(last)[session.StateCanceled] != 2 || last.Progress.Elapsed > 20*time.Second+5*time.Second {
			t.Errorf("%+v", last)
		}
		wants(t, last.Err, session.ErrCanceled, "canceled")
		f.once()
	})
}
