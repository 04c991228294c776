// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/session"
)

// What is hottest is told from what is only first, and from ourselves.
func TestHottest(t *testing.T) {
	p := func(pid int, spent time.Duration, kernel bool) used {
		return used{Stat: process.Stat{ID: process.ID{PID: pid}, Kernel: kernel}, spent: spent}
	}
	all := []used{p(3, 200, true), p(os.Getpid(), 150, false), p(4, 100, false), p(5, 100, false)}
	if got := hottest(all); len(got) != 1 || got[0].PID != 4 {
		t.Errorf("%+v", got)
	}
	if got := hottest([]used{p(4, 0, false), p(5, 0, false)}); len(got) != 0 {
		t.Errorf("where all are idle: %+v", got)
	}
	var e *session.Error
	if err := none(&session.Selector{Hottest: true}); !errors.As(err, &e) || e.Code != "host_idle" || !errors.Is(err, fs.ErrNotExist) || e.Remedy == "" {
		t.Errorf("%v", err)
	}
}

// Those that used as much are in the order of their PIDs.
func TestMeasure(t *testing.T) {
	var u usage
	var all sync.WaitGroup
	lists := make([][]used, 8)
	began := time.Now()
	for i := range lists {
		all.Go(func() {
			var err error
			if lists[i], err = u.measure(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if time.Since(began) < window {
		t.Errorf("it took %v", time.Since(began))
	}
	for _, list := range lists {
		if len(list) < 2 {
			t.Fatalf("%d processes", len(list))
		}
		for i, p := range list[1:] {
			if before := list[i]; before.spent < p.spent || before.spent == p.spent && before.PID >= p.PID {
				t.Errorf("%+v before %+v", before, p)
			}
		}
	}
	u.turn <- struct{}{}
	u.at = time.Now().Add(-2 * justNow) // nobody asked for a while
	<-u.turn
	list, err := u.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if p.cpu > 2*float64(p.Threads)+1 { // what it used long ago does not count
			t.Errorf("%+v", p)
		}
	}
}

// Processes that come and go while they are read are no trouble.
func TestProcessesThatEnd(t *testing.T) {
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := exec.Command("true").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 5 {
		if list, err := Processes(t.Context(), session.Selector{}, 0); err != nil || len(list) == 0 {
			t.Errorf("%d processes, %v", len(list), err)
		}
		if _, err := Resolve(t.Context(), session.Selector{Name: "*"}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	all.Wait()
}

// 2,000 sleeping processes beside those that are there.
func BenchmarkProcesses(b *testing.B) {
	const many = 2000
	for range many {
		c := exec.Command("sleep", "1000")
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Process.Kill(); c.Wait() })
	}
	run := func(name string, do func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			before := spentByUs(b)
			for b.Loop() {
				if err := do(); err != nil && session.KindName(err) == "" {
					b.Fatal(err)
				}
			}
			b.ReportMetric((spentByUs(b)-before).Seconds()*1e3/float64(b.N), "CPU-ms/op") // whatever else the machine does
		})
	}
	run("read", func() error { _, err := stats(b.Context()); return err })
	for name, most := range map[string]int{"list/20": 20, "list/all": 0} {
		run(name, func() error { _, err := Processes(b.Context(), session.Selector{}, most); return err })
	}
	for name, s := range map[string]session.Selector{"name": {Name: "no-such"}, "pattern": {Name: "sle?p"}, "unit": {Unit: "a"}} {
		run("resolve/"+name, func() error { _, err := Resolve(b.Context(), s); return err })
	}
}

// spentByUs is the CPU time of this program.
func spentByUs(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
