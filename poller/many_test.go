// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Ten thousand idle hosts take no goroutines, each is asked how it is as often as
// it should be, and those that hang do not keep others from being asked.
func TestIdleHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked, atOnce, most := 0, 0, 0
		f := newFleet(t, 10_000, nil)
		f.crash()
		for i, d := range f.hosts {
			d.hang = func(string, bool) bool { return i%10 == 0 } // and so is asked before, and not after
			d.lose = func(_ string, done bool) bool {
				mu.Lock()
				defer mu.Unlock()
				if !done {
					asked++
					atOnce++
					most = max(most, atOnce)
				} else {
					atOnce--
				}
				return false
			}
		}
		before := runtime.NumGoroutine()
		f.open()
		defer f.crash()
		time.Sleep(2 * time.Minute)
		mu.Lock()
		asked = 0
		mu.Unlock()
		idle := runtime.NumGoroutine() - before
		time.Sleep(10 * time.Minute)
		mu.Lock()
		each := float64(asked) / 9_000
		mu.Unlock()
		if idle > calmAtOnce+awayAtOnce+20 {
			t.Errorf("%d goroutines for idle hosts", idle)
		}
		if each < 18 || each > 22 {
			t.Errorf("a host was asked %.1f times in ten minutes, want 20", each)
		}
		hosts, err := f.Hosts(t.Context(), session.Hosts{All: true})
		if err != nil {
			t.Fatal(err)
		}
		ready := 0
		for _, h := range hosts {
			if h.State == session.HostReady {
				ready++
			}
		}
		if ready != 9_000 {
			t.Errorf("%d hosts are ready, want 9,000", ready)
		}
		t.Logf("%d goroutines; each host was asked %.1f times in ten minutes, %d at once at most", idle, each, most)
	})
}

// A thousand sessions at once, each of one host, and a session of a thousand
// hosts: all of them run, and nothing is left over.
func TestThousand(t *testing.T) {
	f := newFleet(t, 1000, func(l *Limits) { l.MaxQueuedSessions, l.MaxHostsPerSelector = 1000, 1000 })
	defer f.crash()
	_, err := f.Hosts(t.Context(), session.Hosts{All: true})
	if err != nil {
		t.Fatal(err)
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		took  []time.Duration
		begin = time.Now()
	)
	for _, d := range f.hosts {
		all.Go(func() {
			s := spec(time.Second)
			s.Hosts.Names = []string{d.name}
			from := time.Now()
			now, err := f.Start(t.Context(), s)
			if err != nil {
				t.Error(err)
				return
			}
			if now.State == session.StatePending {
				f.until(now.ID, func(s session.Session) bool { return s.State != session.StatePending })
			}
			mu.Lock()
			took = append(took, time.Since(from))
			mu.Unlock()
			if last := f.ended(now.ID); last.State != session.StateSucceeded {
				t.Errorf("%+v", last)
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	t.Logf("1,000 sessions of 1 s at once: request to running %v median, %v p99; all collected after %v", took[len(took)/2], took[len(took)*99/100], time.Since(begin))
	begin = time.Now()
	last := f.ended(f.start(everywhere(time.Second)).ID)
	if states(last)[session.StateSucceeded] != 1000 {
		t.Errorf("%v", states(last))
	}
	t.Logf("a session of 1 s of 1,000 hosts: %v", time.Since(begin))
	f.once()
}
