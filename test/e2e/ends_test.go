// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

func containsAll(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// A target that exits ends the session early; what there is, is written.
func TestTargetExits(t *testing.T) {
	p := start(t, "exits.c", programs.Options{Args: []string{"700"}})
	r := recordWhile(t, after(t, 100*time.Millisecond, p.Tell), "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "1m").succeeded(t).as(t, "exits.c")
	if r.meta.Ended != profile.EndedExited {
		t.Errorf("ended: %q, want %q", r.meta.Ended, profile.EndedExited)
	}
	if !strings.Contains(r.stderr, "exits exited after") {
		t.Errorf("srprof does not say that the target exited: %s", r.stderr)
	}
}

// A target that sleeps has no samples, and no file is written.
func TestTargetSleeps(t *testing.T) {
	p := start(t, "sleeper.c", programs.Options{})
	r := record(t, "--pid", strconv.Itoa(p.PID), "--duration", "500ms")
	if r.exit != 5 || !containsAll(r.stderr, "slept", "sleeper", "[no_samples]") {
		t.Errorf("srprof exits with %d, want 5 and why: %s", r.exit, r.stderr)
	}
	if r.exists {
		t.Error("a file without samples was written")
	}
}

// Before its exec a process is one program, after it another. Samples of both
// are named by what ran.
func TestTargetExecutes(t *testing.T) {
	split, err := programs.Read("split.c")
	if err != nil {
		t.Fatal(err)
	}
	next, err := split.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "execs.c", programs.Options{Args: []string{next}})
	r := recordWhile(t, after(t, time.Second, p.Tell), "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "3s").succeeded(t)
	before, after := r.in("worker", "before_exec"), r.in("main", "run")
	if before < 0.15 || after < 0.15 || before+after < 0.97 {
		t.Errorf("%.1f %% before the exec and %.1f %% after it, want nearly all in all:\n%s", 100*before, 100*after, r.hottest(12))
	}
	if hot := r.in("run", "hot_a") / after; hot < 0.5 || hot > 0.7 {
		t.Errorf("hot_a has %.1f %% of the samples after the exec, want about 60", 100*hot)
	}
}

// Ctrl-C ends a session early, writes what there is and says so by the code; so
// does the end of the terminal.
func TestInterrupted(t *testing.T) {
	p := start(t, "split.c", programs.Options{})
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			dir := t.TempDir()
			c := command(t.Context(), dir, "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "1m")
			var stderr bytes.Buffer
			c.Stderr = &stderr
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			if !sampling(c.Process.Pid) {
				t.Fatalf("srprof ends by itself: %v: %s", c.Wait(), &stderr)
			}
			works(t, p.PID, 500*time.Millisecond)
			if err := c.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			r := read(t, dir, exitCode(t, c.Wait()), stderr.String()).as(t, "split.c")
			if r.exit != 130 || r.meta.Ended != profile.EndedInterrupted {
				t.Errorf("exit code %d and %q, want 130 and %q: %s", r.exit, r.meta.Ended, profile.EndedInterrupted, r.stderr)
			}
		})
	}
}

// Several processes in one profile, each with its own functions.
func TestSeveralProcesses(t *testing.T) {
	c := start(t, "split.c", programs.Options{})
	lib := start(t, "shared.c", programs.Options{})
	other := start(t, "depth.c", programs.Options{Args: []string{"20"}}) // not asked for
	r := sample(t, c.PID, "--pid", strconv.Itoa(lib.PID), "--duration", "3s")
	only := func(comm string) *recording {
		some := *r
		some.lines = nil
		for _, l := range r.lines {
			if l.Frames[0] == comm {
				some.lines = append(some.lines, l)
			}
		}
		return &some
	}
	only("split").as(t, "split.c")
	only("shared").as(t, "shared.c")
	if n := programs.Samples(only("depth").lines); n > 0 {
		t.Errorf("%d samples of process %d, which was not asked for", n, other.PID)
	}
	if len(r.meta.Targets) != 2 {
		t.Errorf("targets are %v, want two", r.meta.Targets)
	}
}

// The parent sleeps, its children work, are born and die.
func TestChildren(t *testing.T) {
	p := start(t, "forks.c", programs.Options{})
	alone := record(t, "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "1s")
	if hot := alone.in("child"); alone.exit == 0 && hot > 0 {
		t.Errorf("%.1f %% of the samples are of children that nobody asked for", 100*hot)
	}
	ticks := programs.StartTicks(t, 999)
	var r *recording
	for duration := 4 * time.Second; ; duration *= 2 {
		r = sample(t, p.PID, "--children", "--duration", duration.String())
		if r.meta.Threads >= 20 || duration > time.Minute {
			break
		}
	}
	want := ticks.Of(t, p.PID, r.meta.Start, r.meta.Start.Add(r.meta.Duration()))
	program, err := programs.Read("forks.c")
	if err != nil {
		t.Fatal(err)
	}
	// What else there is: fork, wait and exit in the kernel, and copying pages.
	all := r.meta.Counts.Samples
	r.lines = with(r, "child")
	if wrong := programs.Compare(program.Expect, r.lines); len(wrong) > 0 {
		t.Errorf("%s\nof\n%s", strings.Join(wrong, "\n"), r.hottest(12))
	}
	if r.meta.Threads < 20 {
		t.Errorf("%d threads in samples, want those of all the children: one each 25 ms of CPU time", r.meta.Threads)
	}
	// A child that is born is a target a moment later.
	if got := int(all + r.meta.Counts.Lost); got < want*8/10 || got > want*21/20+100 {
		t.Errorf("%d samples, and a plain clock ticked %d times", got, want)
	} else {
		t.Logf("%d samples, and a plain clock ticked %d times", got, want)
	}
}

// works waits until a process has used so much CPU time more.
func works(t *testing.T, pid int, more time.Duration) {
	t.Helper()
	used := func() time.Duration {
		stat, err := process.ReadStat(pid)
		if err != nil {
			t.Fatal(err)
		}
		return stat.CPUTime
	}
	before := used()
	eventually(t, "a busy process has no time", func() bool { return used() >= before+more })
}

// with are the lines that have a frame.
func with(r *recording, frame string) (lines []folded.Line) {
	e := programs.Expectation{Frames: []string{frame}}
	for _, l := range r.lines {
		if e.In(l.Frames) {
			lines = append(lines, l)
		}
	}
	return lines
}

// Nothing in the kernel outlives srprof, however it ends.
func TestNothingRemains(t *testing.T) {
	need(t, "bpftool", "bpftool")
	p := start(t, "split.c", programs.Options{})
	for _, signal := range []os.Signal{syscall.SIGKILL, syscall.SIGINT} {
		dir := t.TempDir()
		c := command(t.Context(), dir, "--pid", strconv.Itoa(p.PID), "--duration", "1m")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if !sampling(c.Process.Pid) {
			t.Fatalf("srprof ends by itself: %v", c.Wait())
		}
		ids, _ := inKernelOf(t, c.Process.Pid)
		if len(remaining(t, ids)) < 10 {
			t.Fatalf("srprof has only %q in the kernel while it samples", ids)
		}
		if err := c.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = c.Wait() // killed
		eventually(t, "programs or maps remain after "+signal.String(), func() bool { return len(remaining(t, ids)) == 0 })
	}
}

// eventually waits for what the kernel does in its own time. The limit is only
// for when it never does.
func eventually(t *testing.T, otherwise string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hangs); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(otherwise)
		}
	}
}

// go tool pprof reads a real profile without a complaint.
func TestPprofTool(t *testing.T) {
	need(t, "go", "golang")
	p := start(t, "shared.c", programs.Options{})
	file := filepath.Join(t.TempDir(), "shared.pb.gz")
	if out, err := exec.Command(daemons.Path("srprof"), "record", "--pid", strconv.Itoa(p.PID), "-F", often, "-d", "2s", "-o", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := exec.Command("go", "tool", "pprof", "-top", file)
	var out, stderr bytes.Buffer
	c.Stdout, c.Stderr = &out, &stderr
	if err := c.Run(); err != nil || stderr.Len() > 0 {
		t.Errorf("go tool pprof complains: %v: %s", err, &stderr)
	}
	if !containsAll(out.String(), "Type: cpu", "library_work", "hidden_work", "own_work") {
		t.Errorf("go tool pprof -top shows\n%s", &out)
	}
}
