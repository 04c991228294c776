// SPDX-License-Identifier: Apache-2.0

package sampler_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// reaches are how far perf events may go.
var reaches = []string{"CPUs", "threads", "threads in user code"}

func eachReach(t *testing.T, test func(t *testing.T, reach int)) {
	if p, err := sampler.OpenPerf(errors.New("a test")); errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		t.Skip("needs root: ", err)
	} else if err == nil {
		p.Close()
	}
	for reach, name := range reaches {
		t.Run(name, func(t *testing.T) { test(t, reach) })
	}
}

func openPerf(t *testing.T, reach, pid int) *sampler.Perf {
	t.Helper()
	s := sampler.OpenPerfAs(reach)
	t.Cleanup(func() { s.Close() })
	if err := s.AddTarget(pid); err != nil {
		t.Fatal(err)
	}
	return s
}

// The same target at the same time, by BPF and by perf events: as many samples,
// with the same shares.
func TestPerfIsLikeBPF(t *testing.T) {
	eachReach(t, func(t *testing.T, reach int) {
		pid := start(t, "shares")
		b, p := open(t), openPerf(t, reach, pid)
		for _, err := range []error{b.AddTarget(pid), b.Start(999), p.Start(999)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		in := [2]map[string]float64{{}, {}}
		var all [2]float64
		each := func(i int) func(sampler.Count) {
			return func(c sampler.Count) {
				if reach == 2 && len(c.Stack.Kernel) > 0 {
					return
				}
				all[i] += float64(c.N)
				for name := range functions(&c.Stack) {
					in[i][name] += float64(c.N)
				}
				if c.Stack.End != profile.EndFallback && len(c.Stack.User) > 0 {
					t.Errorf("a stack ended %q", c.Stack.End)
				}
			}
		}
		both := []sampler.Sampler{b, p}
		for end := time.Now().Add(patience); min(all[0], all[1]) < 2000 && time.Now().Before(end); time.Sleep(b.LookInterval()) {
			for i, s := range both {
				if err := s.Drain(each(i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i, s := range both {
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			totals, err := s.Finish(each(i))
			if err != nil || totals.Lost > 0 || totals.FirstSample == 0 {
				t.Errorf("%T: %+v, %v", s, totals, err)
			}
		}
		if all[0] < 300 || math.Abs(all[0]-all[1]) > 0.15*all[0] {
			t.Errorf("BPF took %.0f samples, perf events %.0f", all[0], all[1])
		}
		for _, name := range []string{"hot", "warm", "shares"} {
			got, want := in[1][name]/all[1], in[0][name]/all[0]
			if sigma := math.Sqrt(0.25/all[0] + 0.25/all[1]); math.Abs(got-want) > 5*sigma || want == 0 {
				t.Errorf("%s: %.3f of the samples by BPF, %.3f by perf events", name, want, got)
			}
		}
	})
}

// functions are those of this program on a stack, by their short names. A child
// is the same program at the same addresses.
func functions(s *profile.Stack) map[string]bool {
	names := map[string]bool{}
	for _, a := range s.User {
		if f := runtime.FuncForPC(uintptr(a)); f != nil {
			names[f.Name()[strings.LastIndexByte(f.Name(), '.')+1:]] = true
		}
	}
	return names
}

// Threads come and go, also while events are attached: each is sampled, and
// once.
func TestPerfThreadsOnce(t *testing.T) {
	eachReach(t, func(t *testing.T, reach int) {
		pid := start(t, "births")
		s := openPerf(t, reach, pid)
		ticks := programs.StartTicks(t, 999)
		threads := map[int]bool{}
		born := func() bool { return len(threads) >= 20 }
		began := time.Now()
		totals := run(t, s, 999, 1000, func(c sampler.Count) { threads[c.Thread.TID] = true }, born)
		// A thread's own clock sees nothing of one that runs for less than a
		// period, so only too many are wrong. Twice as many are what a second
		// clock makes.
		got, want := totals.Samples, uint64(ticks.Of(t, pid, began, time.Now()))
		if t.Logf("%d samples, %d ticks of a plain clock", got, want); got > want*5/4+100 {
			t.Errorf("%d samples, and a plain clock ticked %d times", got, want)
		}
		if !born() {
			t.Errorf("%d threads have samples, want those born meanwhile too", len(threads))
		}
	})
}

func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := process.ReadStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return stat.CPUTime
}

// Samples have the name that their thread had then.
func TestPerfNames(t *testing.T) {
	eachReach(t, func(t *testing.T, reach int) {
		s := openPerf(t, reach, start(t, "renames"))
		names := map[string]uint64{}
		fair := func() bool {
			morning, evening := names["morning"], names["evening"]
			return min(morning, evening) > 100 && max(morning, evening) < 4*min(morning, evening)
		}
		run(t, s, 999, 500, func(c sampler.Count) { names[c.Thread.Comm] += c.N }, fair)
		if !fair() {
			t.Errorf("names in samples: %v", names)
		}
	})
}

// Stacks deeper than the kernel goes keep their leaves, and say so.
func TestPerfTruncates(t *testing.T) {
	eachReach(t, func(t *testing.T, reach int) {
		s := openPerf(t, reach, start(t, "deep"))
		all, leaves := 0, 0
		enough := func() bool { return all >= 50 }
		run(t, s, 499, 300, func(c sampler.Count) {
			if len(c.Stack.User) == 0 || !functions(&c.Stack)["deep"] {
				return // the runtime's own threads
			}
			if !c.Stack.Truncated || len(c.Stack.User)+len(c.Stack.Kernel) > 127 {
				t.Errorf("%d user and %d kernel frames of 300, truncated: %v", len(c.Stack.User), len(c.Stack.Kernel), c.Stack.Truncated)
			}
			all++
			if f := runtime.FuncForPC(uintptr(c.Stack.User[0])); f != nil && strings.HasSuffix(f.Name(), ".deep") {
				leaves++
			}
		}, enough)
		if leaves < all*8/10 || !enough() { // elsewhere it is the runtime that interrupts
			t.Errorf("deep is the leaf of %d of its %d stacks", leaves, all)
		}
	})
}

// The kernel part is there where it is permitted, and on the leaf side.
func TestPerfKernelPart(t *testing.T) {
	eachReach(t, func(t *testing.T, reach int) {
		s := openPerf(t, reach, start(t, "calls"))
		inKernel, both := 0, 0
		enough := func() bool { return reach == 2 || both >= 20 }
		run(t, s, 999, 500, func(c sampler.Count) {
			if len(c.Stack.Kernel) > 0 {
				inKernel++
			}
			if len(c.Stack.Kernel) > 0 && functions(&c.Stack)["calls"] {
				both++
			}
			high := func(a profile.Addr) bool { return a >= 1<<63 }
			if slices.ContainsFunc(c.Stack.User, high) || slices.ContainsFunc(c.Stack.Kernel, func(a profile.Addr) bool { return !high(a) }) {
				t.Errorf("parts are mixed up: %v %v", c.Stack.Kernel, c.Stack.User)
			}
		}, enough)
		if reach == 2 && inKernel > 0 || !enough() {
			t.Errorf("%d samples in the kernel, %d of them with user frames", inKernel, both)
		}
	})
}

// Without a drain the rings run full, and what did not fit is counted.
func TestPerfCountsLost(t *testing.T) {
	eachReach(t, func(t *testing.T, reach int) {
		s := openPerf(t, reach, start(t, busy))
		if err := s.Start(9999); err != nil {
			t.Fatal(err)
		}
		handed := uint64(0)
		count := func(c sampler.Count) { handed += c.N }
		drain := func() {
			t.Helper()
			if err := s.Drain(count); err != nil {
				t.Fatal(err)
			}
		}
		// Until the rings were full for once: how long that takes depends on how
		// much the target gets to run.
		full := false
		for wait := time.Second; !full && wait < patience; wait *= 2 {
			time.Sleep(wait)
			due, err := s.Due()
			if err != nil {
				t.Fatal(err)
			}
			drain()
			// The kernel tells of losses with the next record that has room.
			had := handed
			await(t, "a sample more", func() bool { drain(); return handed > had })
			totals, err := s.Totals()
			if full = totals.Lost > 0; full && !due || err != nil {
				t.Errorf("a full ring is not due (%v)", err)
			}
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		totals, err := s.Finish(count)
		if err != nil || totals.Lost == 0 || handed == 0 || handed+totals.Lost != totals.Samples {
			t.Errorf("handed over %d, %+v, %v", handed, totals, err)
		}
	})
}

// A child is sampled when it is made a target, and a target no longer than it
// is one.
func TestPerfTargets(t *testing.T) {
	eachReach(t, func(t *testing.T, reach int) {
		c := child(forking)
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Kill(); c.Wait() })
		parent := c.Process.Pid
		s := openPerf(t, reach, parent)
		if err := s.Start(999); err != nil {
			t.Fatal(err)
		}
		n, err := s.Notices()
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		fmt.Fprintln(in)
		born := awaitFork(t, n, parent)
		t.Cleanup(func() { unix.Kill(born, unix.SIGKILL) })
		if err := s.AddChild(born, parent); err != nil {
			t.Fatal(err)
		}
		of := map[int]uint64{}
		drain := func() {
			t.Helper()
			if err := s.Drain(func(c sampler.Count) { of[c.Thread.PID] += c.N }); err != nil {
				t.Fatal(err)
			}
		}
		await(t, "samples of the child", func() bool { drain(); return of[born] >= 5 })
		if err := s.RemoveTarget(born); err != nil {
			t.Fatal(err)
		}
		drain() // what was taken before
		drain()
		had := of[born]
		works(t, born, 200*time.Millisecond)
		if drain(); of[born] != had {
			t.Errorf("%d samples more of what is no target any more", of[born]-had)
		}
	})
}

// What was opened is closed.
func TestPerfGivesBack(t *testing.T) {
	pid := start(t, busy)
	eachReach(t, func(t *testing.T, reach int) {
		before := descriptors(t)
		for _, listen := range []bool{true, false} {
			s := openPerf(t, reach, pid)
			if err := s.Start(99); err != nil {
				t.Fatal(err)
			}
			if listen {
				n, err := s.Notices()
				if err != nil {
					t.Fatal(err)
				}
				n.Close()
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if after := descriptors(t); after != before {
			t.Errorf("%d open files before, %d after", before, after)
		}
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// awaitFork waits for a process that a process bears and for its exec.
func awaitFork(t *testing.T, n *sampler.Notices, parent int) int {
	t.Helper()
	born, executed := 0, false
	for born == 0 || !executed {
		if !n.Wait() {
			t.Fatal("notices ended")
		}
		n.Read(func(notice sampler.Notice) {
			switch {
			case notice.Kind == sampler.NoticeForked && notice.Parent == parent:
				born = notice.PID
			case notice.Kind == sampler.NoticeExecuted && notice.PID == born:
				executed = true
			}
		})
	}
	return born
}
