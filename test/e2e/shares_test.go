// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// What each program's source states comes out within sampling error.
func TestShares(t *testing.T) {
	tests := []struct {
		label, program string
		options        programs.Options
	}{
		{"C", "split.c", programs.Options{}},
		{"C fixed address", "split.c", programs.Options{Flags: []string{"-no-pie"}}},
		{"C static", "split.c", programs.Options{Flags: []string{"-static"}}},
		{"C static PIE", "split.c", programs.Options{Flags: []string{"-static-pie"}}},
		{"C++", "split.cpp", programs.Options{}},
		{"C++ without optimization", "split.cpp", programs.Options{Flags: []string{"-O0"}}},
		{"Rust", "split.rs", programs.Options{}},
		{"Rust v0", "split.rs", programs.Options{Flags: []string{"-C", "symbol-mangling-version=v0"}}},
		{"Go", "goroutines", programs.Options{}},
		{"Go stripped", "goroutines", programs.Options{Flags: []string{"-ldflags=-s -w"}}},
		{"Go PIE", "goroutines", programs.Options{Flags: []string{"-buildmode=pie"}}},
		{"Go PIE stripped", "goroutines", programs.Options{Flags: []string{"-buildmode=pie", "-ldflags=-s -w"}}},
		{"demo", "demo", programs.Options{}},
		{"library", "shared.c", programs.Options{}},
		{"library, fixed address", "shared.c", programs.Options{Flags: []string{"-no-pie"}}},
		{"kernel", "syscalls.c", programs.Options{}},
		{"vDSO", "clock.c", programs.Options{}},
		{"deep", "depth.c", programs.Options{Args: []string{"100"}}},
	}
	for _, test := range tests {
		t.Run(test.label, func(t *testing.T) {
			p := start(t, test.program, test.options)
			r := sample(t, p.PID).as(t, test.program)
			p.Stop() // or it would share the CPUs with the next
			// A stack without end is what a walk makes of a frame that is being
			// set up at that moment, which is seldom.
			if n := r.meta.Counts.Truncated; n*200 > r.meta.Counts.Samples {
				t.Errorf("%d of %d samples are truncated, though no stack is deeper than the limit", n, r.meta.Counts.Samples)
			}
		})
	}
}

// A running process keeps its code when the files go away or others take their
// places, as package managers do it.
func TestFilesGone(t *testing.T) {
	tests := []struct {
		label string
		do    func(t *testing.T, dir string)
	}{
		{"deleted", func(t *testing.T, dir string) {
			for _, name := range []string{"shared", "libhot.so"} {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"replaced", func(t *testing.T, dir string) {
			// By programs whose symbols would be wrong.
			for name, with := range map[string]string{"shared": "split.c", "libhot.so": "sleeper.c"} {
				other, err := programs.Read(with)
				if err != nil {
					t.Fatal(err)
				}
				built, err := other.Build(t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(built, filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"folder deleted", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.label, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "program")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			p := start(t, "shared.c", programs.Options{Dir: dir})
			test.do(t, dir)
			sample(t, p.PID).as(t, "shared.c")
		})
	}
}

// A process in namespaces of its own, whose files this one cannot reach by
// their paths.
func TestNamespaces(t *testing.T) {
	need(t, "unshare", "util-linux")
	need(t, "gcc", "gcc")
	tests := []struct {
		label, program string
		flags          []string
		command        string // for sh; $1 is the folder with the program
	}{
		{"mount and PID", "shared.c", nil, "mount -t tmpfs none /mnt && cp $1/shared $1/libhot.so /mnt && exec /mnt/shared"},
		{"root", "split.c", []string{"-static"}, "mount -t tmpfs none /mnt && cp $1/split /mnt && exec chroot /mnt /split"},
	}
	for _, test := range tests {
		t.Run(test.label, func(t *testing.T) {
			dir := t.TempDir()
			p, err := programs.Read(test.program)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Build(dir, test.flags...); err != nil {
				t.Fatal(err)
			}
			wrapper := launch(t, "ready", "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", test.command, "sh", dir)
			r := sample(t, onlyChild(t, wrapper.PID)).as(t, test.program)
			if got := r.meta.Counts.Samples; got == 0 {
				t.Error("no samples")
			}
		})
	}
}

// onlyChild is the process that a wrapper runs.
func onlyChild(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Sscan(string(b), &child); err != nil {
		t.Fatalf("children of %d: %q", pid, b)
	}
	return child
}

// Every thread is sampled, those born while sampling goes on included, and
// whatever was taken is kept or counted as lost.
func TestThousandThreads(t *testing.T) {
	p := start(t, "threads.c", programs.Options{Args: []string{"1000"}})
	births := after(t, time.Second, p.Tell)
	// With two CPUs to itself each thread gets its turn every 1.5 s or so, for
	// three periods at least, so 10 s leave none out by chance. Where something
	// else runs on the machine it takes longer, but not for ever.
	for _, duration := range []string{"10s", "20s", "40s", "80s", "160s"} {
		r := complete(t, p.PID, duration, births).as(t, "threads.c")
		births = nil
		if r.meta.Threads >= 1000 { // the main thread, which waits, may be one more
			return
		}
		t.Logf("%d of 1000 threads in samples of %s, which are %v of CPU time", r.meta.Threads, duration, time.Duration(r.meta.CPUTimeNs))
	}
	t.Error("not all 1000 threads were sampled")
}

// complete records and checks that the samples, lost ones included, are as many
// as the kernel's clock gave meanwhile: nothing is lost uncounted, and nothing
// is counted twice. That every sample taken is kept or counted is checked to the
// last one in package sampler; this is about samples never taken.
func complete(t *testing.T, pid int, duration string, happens func()) *recording {
	t.Helper()
	ticks := programs.StartTicks(t, 999)
	defer ticks.Stop()
	// Beside a thousand busy threads nobody else gets his turn soon.
	r := recordBy(t, []string{"/usr/bin/nice", "-n", "-20"}, happens, "--pid", fmt.Sprint(pid), "--frequency", "999", "--duration", duration).succeeded(t)
	m := &r.meta
	want := float64(ticks.Of(t, pid, m.Start, m.Start.Add(m.Duration())))
	got := float64(m.Counts.Samples + m.Counts.Lost)
	// Both clocks see the same delays, but each has its own moments: where one
	// just misses the end of a turn, the other has one more.
	if allowed := 0.03*want + 40; math.Abs(got-want) > allowed {
		t.Errorf("%v samples and %d lost, but a plain clock ticked %.0f ± %.0f times", m.Counts.Samples, m.Counts.Lost, want, allowed)
	}
	t.Logf("%d samples and %d lost; a plain clock ticked %.0f times; %v of CPU time", m.Counts.Samples, m.Counts.Lost, want, time.Duration(m.CPUTimeNs))
	return r
}

// A long session at 999 Hz on every CPU, in stacks that keep changing.
func TestLong(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	p := start(t, "goroutines", programs.Options{})
	complete(t, p.PID, "30s", nil).as(t, "goroutines")
}

// Code built without frame pointers shows whole stacks too: nearly all reach
// the thread's entry, and the frames between are the right ones.
func TestWholeStacks(t *testing.T) {
	for _, test := range []struct {
		program string
		flags   []string
		args    []string
		stack   string
	}{
		{"split.c", []string{"-fomit-frame-pointer"}, nil, "main;run;hot_a"},
		{"split.c", []string{"-fomit-frame-pointer", "-static"}, nil, "main;run;hot_a"},
		{"split.c", []string{"-fomit-frame-pointer", "-static-pie"}, nil, "main;run;hot_a"},
		{"split.cpp", []string{"-fomit-frame-pointer"}, nil, ""},
		{"depth.c", []string{"-fomit-frame-pointer"}, []string{"300"}, "main" + strings.Repeat(";descend", 301) + ";hot_a"},
	} {
		t.Run(test.program+strings.Join(test.flags, ""), func(t *testing.T) {
			p := start(t, test.program, programs.Options{Flags: test.flags, Args: test.args})
			r := record(t, "--pid", fmt.Sprint(p.PID), "--frequency", "499", "--duration", "3s").succeeded(t)
			if test.args == nil {
				r.as(t, test.program)
			}
			var walked uint64
			for _, n := range r.meta.Ends {
				walked += n
			}
			// Samples before the tables are there (some 20 ms) do not count.
			walked -= r.meta.Ends[profile.EndFallback.String()]
			if complete := r.meta.Ends[profile.EndRoot.String()]; float64(complete) < 0.99*float64(walked) || walked == 0 {
				t.Errorf("stacks ended like this: %v", r.meta.Ends)
			}
			if share := float64(programs.Count(r.lines, func(stack []string) bool {
				return strings.Contains(strings.Join(stack, ";"), test.stack)
			})) / float64(programs.Samples(r.lines)); test.stack != "" && share < 0.5 {
				t.Errorf("%.1f %% of the stacks contain %.40s…", 100*share, test.stack)
			}
		})
	}
}
