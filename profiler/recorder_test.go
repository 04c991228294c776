// SPDX-License-Identifier: Apache-2.0

package profiler_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// noFrames builds a program as releases are built.
var noFrames = []string{"-fomit-frame-pointer"}

// needs leaves a test out without root or a compiler, unless all is required.
func needs(t testing.TB, commands ...string) {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
		skip = t.Fatalf
	}
	if os.Geteuid() != 0 {
		skip("needs root")
	}
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			skip("%v", err)
		}
	}
}

func spec(d time.Duration, pids ...int) session.Spec {
	return session.Spec{PIDs: pids, Duration: d, Frequency: 499}
}

func record(t *testing.T, r *profiler.Recorder, s session.Spec) *profile.Profile {
	t.Helper()
	p, err := r.Record(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Meta.UserStacks != "unwind tables" || p.Meta.Counts.Lost > 0 {
		t.Errorf("stacks by %s, %d lost, %q", p.Meta.UserStacks, p.Meta.Counts.Lost, p.Meta.Warnings)
	}
	return p
}

// whole is the share of user stacks that reach their root, of those since the
// walk by tables was loaded.
func whole(p *profile.Profile) float64 {
	var all uint64
	for end, n := range p.Meta.Ends {
		if end != profile.EndFallback.String() && end != profile.EndNone.String() {
			all += n
		}
	}
	return float64(p.Meta.Ends[profile.EndRoot.String()]) / float64(max(1, all))
}

// stack is the names of a sample, root first.
func stack(p *profile.Profile, s *profile.Sample) string {
	var names []string
	for i := len(s.Addresses) - 1; i >= 0; i-- {
		fs := p.Addresses[s.Addresses[i]].Frames
		for j := len(fs) - 1; j >= 0; j-- {
			names = append(names, fs[j].Name)
		}
	}
	return strings.Join(names, ";")
}

// share of the samples whose stack has these functions in a row, once the walk
// by tables was loaded.
func share(p *profile.Profile, functions string) float64 {
	var all, found uint64
	for i := range p.Samples {
		s := &p.Samples[i]
		all += s.Count
		if strings.Contains(stack(p, s), functions) {
			found += s.Count
		}
	}
	return min(1, float64(found)/float64(max(1, all-p.Meta.Ends[profile.EndFallback.String()])))
}

// The second session on a target builds nothing.
func TestSecondSession(t *testing.T) {
	needs(t, "gcc")
	target := programs.Start(t, "depth.c", programs.Options{Flags: noFrames, Args: []string{"30"}})
	r := recorder(t)
	for i := range 3 {
		before := r.Tables().Builds
		p := record(t, r, spec(700*time.Millisecond, target.PID))
		built := r.Tables().Builds - before
		t.Logf("session %d: %d tables built, %v", i+1, built, p.Meta.Ends)
		if (i == 0) != (built > 0) {
			t.Errorf("session %d built %d tables", i+1, built)
		}
		if got := whole(p); got < 0.95 {
			t.Errorf("session %d: %.1f %% whole stacks: %v", i+1, 100*got, p.Meta.Ends)
		}
	}
}

// Sessions at once, two on one target and one on another, do not know of each
// other.
func TestSessionsAtOnce(t *testing.T) {
	needs(t, "gcc")
	one := programs.Start(t, "depth.c", programs.Options{Flags: noFrames, Args: []string{"20"}})
	two := programs.Start(t, "split.c", programs.Options{Flags: noFrames})
	r := recorder(t)
	var all sync.WaitGroup
	for _, test := range []struct {
		pid  int
		want string
	}{{one.PID, "descend;descend;hot_a"}, {one.PID, "descend;descend;hot_a"}, {two.PID, "main;run;hot_"}, {one.PID, "descend;descend;hot_a"}} {
		all.Go(func() {
			p := recordEnough(t, r, test.pid)
			if got := whole(p); got < 0.95 {
				t.Errorf("%.1f %% whole stacks: %v", 100*got, p.Meta.Ends)
			}
			if got := share(p, test.want); got < 0.9 {
				t.Errorf("%.1f %% of the samples have %s", 100*got, test.want)
			}
			for _, s := range p.Samples {
				if s.Thread.PID != test.pid {
					t.Errorf("a sample of process %d in the session of %d", s.Thread.PID, test.pid)
				}
			}
		})
	}
	all.Wait()
}

// recordEnough records until there are enough samples to speak of shares, however
// busy the machine is.
func recordEnough(t *testing.T, r *profiler.Recorder, pid int) *profile.Profile {
	t.Helper()
	for d := 1500 * time.Millisecond; ; d *= 2 {
		p, err := r.Record(t.Context(), spec(d, pid), nil)
		if err != nil && !errors.Is(err, session.ErrNoSamples) {
			t.Fatal(err)
		}
		if err == nil && p.Meta.Counts.Samples >= 300 && p.Meta.UserStacks == "unwind tables" || d > time.Minute {
			return p
		}
	}
}

// build compiles one of testdata.
func build(t *testing.T, source, to string, flags ...string) string {
	t.Helper()
	to = filepath.Join(t.TempDir(), to)
	args := append([]string{"-O2", "-fomit-frame-pointer", "-o", to, filepath.Join("testdata", source)}, flags...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return to
}

func launch(t *testing.T, ready string, command ...string) *programs.Process {
	t.Helper()
	p, err := programs.Launch(exec.Command(command[0], command[1:]...), ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// Two libraries take turns at one address. Neither is walked or named by what
// belongs to the other: the thread's name tells which one really ran. (What is
// sampled in the moment until a mapping is heard of may be: see docs/limits.md.)
func TestLibrariesTakeTurns(t *testing.T) {
	needs(t, "gcc")
	a := build(t, "plugin.c", "liba.so", "-shared", "-fPIC", "-DNAME=a", "-DFRAME=8", "-Wl,-z,now")
	b := build(t, "plugin.c", "libb.so", "-shared", "-fPIC", "-DNAME=b", "-DFRAME=12", "-Wl,-z,now")
	target := launch(t, "ready: same address", build(t, "reload.c", "reload", "-ldl"), a, b)
	p := record(t, new(profiler.Recorder), spec(6*time.Second, target.PID))
	var right, misnamed, miswalked uint64
	for i := range p.Samples {
		s := &p.Samples[i]
		names := stack(p, s)
		ran, ok := strings.CutPrefix(s.Thread.Comm, "in_")
		if !ok || !strings.Contains(names, "leaf_") {
			continue
		}
		other := "_" + map[string]string{"a": "b", "b": "a"}[ran]
		switch {
		case strings.Contains(names, "leaf"+other) || strings.Contains(names, "middle"+other):
			misnamed += s.Count
			t.Logf("%d × in %s: %s", s.Count, s.Thread.Comm, names)
		case strings.HasPrefix(names, "_start;") && !strings.Contains(names, ";main;work;middle_"+ran+";leaf_"+ran):
			miswalked += s.Count
			t.Logf("%d × in %s: %s", s.Count, s.Thread.Comm, names)
		default:
			right += s.Count
		}
	}
	if right < 200 || misnamed*100 > right || miswalked*100 > right || whole(p) < 0.85 {
		t.Errorf("%d samples are right, %d misnamed, %d walked to nowhere: %v", right, misnamed, miswalked, p.Meta.Ends)
	}
	t.Logf("%d samples are right, %d misnamed, %d walked to nowhere: %v", right, misnamed, miswalked, p.Meta.Ends)
}

// A process with more mappings than the kernel side has room for is walked all
// the same: those without a table become one.
func TestManyMappings(t *testing.T) {
	needs(t, "gcc")
	target := launch(t, "ready", build(t, "mappings.c", "mappings", "-fno-omit-frame-pointer"), "700")
	p := record(t, new(profiler.Recorder), spec(2*time.Second, target.PID))
	if got := whole(p); got < 0.9 {
		t.Errorf("%.1f %% whole stacks: %v", 100*got, p.Meta.Ends)
	}
	if got := share(p, "main;[anonymous];leaf"); got < 0.9 {
		t.Errorf("%.1f %% of the samples are main;[anonymous];leaf", 100*got)
	}
}
