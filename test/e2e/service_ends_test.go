// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// Ten sessions at once, of ten programs at ten frequencies: each has the
// shares of its own program, and as many samples as that had CPU time.
func TestServiceTenAtOnce(t *testing.T) {
	s := serve(t, nil)
	names := []string{"split.c", "split.cpp", "shared.c", "depth.c", "syscalls.c", "threads.c", "goroutines", "demo", "split.c", "clock.c"}
	frequencies := []int{199, 283, 367, 449, 541, 631, 727, 821, 911, 997}
	type one struct {
		*running
		dir, program, path string
		target             *programs.Process
	}
	var all []one
	for _, name := range names { // none runs yet, or the later ones are long in the making
		all = append(all, one{program: name, dir: t.TempDir(), path: built(t, name)})
	}
	for i := range all {
		args := map[string][]string{"depth.c": {"50"}, "threads.c": {"8"}}[all[i].program]
		all[i].target = launch(t, "ready", append([]string{all[i].path}, args...)...)
	}
	for i := range all {
		o := &all[i]
		o.running = s.begin(t, s.recordArgs(o.dir, "--pid", strconv.Itoa(o.target.PID), "--frequency", strconv.Itoa(frequencies[i]), "--duration", "6s")...)
	}
	together := 0
	eventually(t, "ten sessions do not run at once", func() bool {
		together = 0
		for _, one := range s.list(t) {
			if one.State == session.StateRunning {
				together++
			}
		}
		return together == len(all)
	})
	for i, o := range all {
		t.Run(fmt.Sprint(o.program, " at ", frequencies[i]), func(t *testing.T) {
			out := o.wait(t)
			r := read(t, o.dir, out.exit, out.stderr).succeeded(t).as(t, o.program)
			if got := r.meta.Targets; len(got) != 1 || got[0].PID != o.target.PID || int(r.meta.FrequencyHz) != frequencies[i] {
				t.Errorf("a profile of %v at %d Hz, want PID %d", got, r.meta.FrequencyHz, o.target.PID)
			}
			n := float64(r.meta.Counts.Samples)
			sampled, used := time.Duration(n)*r.meta.FrequencyHz.Period(), time.Duration(r.meta.CPUTimeNs)
			if off := math.Abs(float64(sampled-used)) / float64(used); off > 0.05+4/math.Sqrt(n) {
				t.Errorf("%v of CPU time sampled, %v used", sampled, used)
			}
		})
	}
}

// built is the path of a program that does not run yet.
func built(t *testing.T, name string) string {
	t.Helper()
	if strings.HasSuffix(name, ".c") || strings.HasSuffix(name, ".cpp") {
		need(t, "g++", "g++") // which needs gcc
	}
	p, err := programs.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	path, err := p.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Who asks for the same gets the same session; it ends for all by its time, and
// for one who is interrupted only for him.
func TestServiceShares(t *testing.T) {
	s := serve(t, nil)
	p := start(t, "split.c", programs.Options{})
	args := []string{"--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "6s"}
	var all [3]*running
	var dirs [3]string
	for i := range all {
		dirs[i] = t.TempDir()
		all[i] = s.begin(t, s.recordArgs(dirs[i], args...)...)
	}
	eventually(t, "the session is not shared by three", func() bool {
		list := s.list(t)
		return len(list) == 1 && list[0].Shared == 3 && list[0].Progress.Samples > 500
	})
	if err := all[2].Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	impatient := all[2].wait(t)
	impatient.fails(t, 130, "still runs")
	part := read(t, dirs[2], impatient.exit, impatient.stderr)
	var whole [2]*recording
	for i := range whole {
		r := all[i].wait(t)
		whole[i] = read(t, dirs[i], r.exit, r.stderr).succeeded(t).as(t, "split.c")
	}
	if a, b := whole[0].meta, whole[1].meta; a.Counts != b.Counts || a.Start != b.Start || a.Ended != profile.EndedDuration {
		t.Errorf("two profiles of one session: %+v and %+v", a, b)
	}
	if n := part.meta.Counts.Samples; n == 0 || n >= whole[0].meta.Counts.Samples {
		t.Errorf("%d samples up to the interruption, %d at the end", n, whole[0].meta.Counts.Samples)
	}
}

// Ctrl-C ends the session of the only one who asked for it.
func TestServiceInterrupted(t *testing.T) {
	s := serve(t, nil)
	p := start(t, "split.c", programs.Options{})
	dir := t.TempDir()
	c := s.begin(t, s.recordArgs(dir, "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "1m")...)
	eventually(t, "too few samples", func() bool { return s.samples(t).Progress.Samples > 500 })
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	out := c.wait(t)
	r := read(t, dir, out.exit, out.stderr).as(t, "split.c")
	if r.exit != 130 || r.meta.Ended != profile.EndedInterrupted {
		t.Errorf("exit code %d and %q: %s", r.exit, r.meta.Ended, r.stderr)
	}
	if one := s.list(t)[0]; one.State != session.StateCanceled {
		t.Errorf("the session is %s", one.State)
	}
}

// inKernelOf is what a process holds in the kernel: of BPF programs and maps
// their IDs (bpf(2): fdinfo), of perf events how many.
func inKernelOf(t *testing.T, pid int) (ids []string, events int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", pid)
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if link, _ := os.Readlink(dir + "fd/" + fd.Name()); link == "anon_inode:[perf_event]" { // it may be closed by now
			events++
		}
		info, _ := os.ReadFile(dir + "fdinfo/" + fd.Name())
		for line := range strings.Lines(string(info)) {
			kind, id, _ := strings.Cut(strings.TrimSpace(line), ":")
			if kind == "prog_id" || kind == "map_id" {
				ids = append(ids, strings.TrimSuffix(kind, "_id")+" "+strings.TrimSpace(id))
			}
		}
	}
	return ids, events
}

// remaining are those that the kernel still has. Arrays of programs do not
// count: whoever lists maps opens each, and if that is while the kernel still
// empties the array of a process that was killed, the array stays for good, empty.
// The programs in it are seen by themselves.
func remaining(t *testing.T, ids []string) (left []string) {
	t.Helper()
	for _, kind := range []string{"prog", "map"} {
		out, err := exec.Command("bpftool", kind, "list").Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if id, _, ok := strings.Cut(line, ":"); ok && slices.Contains(ids, kind+" "+id) && !strings.Contains(line, "prog_array") {
				left = append(left, kind+" "+strings.TrimSpace(line))
			}
		}
	}
	return left
}

// A client that is killed leaves an attended session to end by itself, and
// nothing of it remains.
func TestServiceClientKilled(t *testing.T) {
	s := serve(t, nil)
	p := start(t, "split.c", programs.Options{})
	// What is kept for the next session is there before the first one or after it.
	first := s.srprof(t, "start", "--pid", strconv.Itoa(p.PID), "--duration", "100ms").ok(t)
	eventually(t, "a session does not end", func() bool { return s.get(t, first).State.Final() })
	idle := 0
	eventually(t, "what the idle service has in the kernel changes all the time", func() bool {
		before, _ := inKernelOf(t, s.command.Process.Pid)
		time.Sleep(300 * time.Millisecond)
		after, events := inKernelOf(t, s.command.Process.Pid)
		idle = len(after)
		return idle == len(before) && events == 0
	})
	c := s.begin(t, s.recordArgs(t.TempDir(), "--pid", strconv.Itoa(p.PID), "--duration", "1m")...)
	id := string(s.samples(t).ID)
	if _, events := inKernelOf(t, s.command.Process.Pid); events == 0 {
		t.Error("a session without perf events")
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Cmd.Wait() // killed
	eventually(t, "a session that nobody watches goes on", func() bool { return s.get(t, id).State == session.StateCanceled })
	if one := s.get(t, id); one.Progress.Elapsed > 30*time.Second || one.Err.Code != "unattended" {
		t.Errorf("the session ended after %v: %+v", one.Progress.Elapsed, one.Err)
	}
	eventually(t, "something remains in the kernel", func() bool {
		ids, events := inKernelOf(t, s.command.Process.Pid)
		return len(ids) == idle && events == 0
	})
}

// When the service is killed, nothing of it remains in the kernel, and who
// waits for a profile is told so.
func TestServiceKilled(t *testing.T) {
	need(t, "bpftool", "bpftool")
	s := serve(t, nil)
	p := start(t, "split.c", programs.Options{})
	dir := t.TempDir()
	c := s.begin(t, s.recordArgs(dir, "--pid", strconv.Itoa(p.PID), "--duration", "1m")...)
	id := string(s.samples(t).ID)
	ids, _ := inKernelOf(t, s.command.Process.Pid)
	if len(remaining(t, ids)) == 0 {
		t.Fatal("the service has nothing in the kernel while it samples")
	}
	s.stop(syscall.SIGKILL)
	eventually(t, "something remains in the kernel", func() bool { return len(remaining(t, ids)) == 0 })
	out := c.wait(t)
	out.fails(t, 1, "srprof fetch "+id[:8], "[connection_lost]")
	if r := read(t, dir, out.exit, out.stderr); r.exists {
		t.Error("a file was written")
	}
	s.srprof(t, "get", id).fails(t, 1, s.address, "cannot be reached", "[unreachable]")

	// After a restart nobody knows the session.
	s.start(t)
	s.srprof(t, "fetch", id, "--output", filepath.Join(dir, "x.svg")).fails(t, 1, "there is no session "+id, "[no_such_session]")
}

// A service that stops ends its sessions, and hands out what they have.
func TestServiceStops(t *testing.T) {
	s := serve(t, nil)
	p := start(t, "split.c", programs.Options{})
	dir := t.TempDir()
	c := s.begin(t, s.recordArgs(dir, "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "1m")...)
	eventually(t, "too few samples", func() bool { return s.samples(t).Progress.Samples > 500 })
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	out := c.wait(t)
	out.fails(t, 130, "wrote ", "[service_stopping]")
	read(t, dir, out.exit, out.stderr).as(t, "split.c")
	if err := s.command.Wait(); err != nil {
		t.Errorf("the service ended with %v", err)
	}
}

// Above the limits, requests wait for their turn or are refused.
func TestServiceBusy(t *testing.T) {
	s := serve(t, map[string]any{"max_concurrent_sessions": 1, "max_queued_sessions": 1, "max_frequency_hz": 500, "max_session_duration_seconds": 60})
	p := start(t, "split.c", programs.Options{})
	pid := strconv.Itoa(p.PID)
	first := s.srprof(t, "start", "--pid", pid, "--duration", "60s").ok(t)
	second := s.srprof(t, "start", "--pid", pid, "--duration", "59s").ok(t)
	if first == second {
		t.Error("two different requests got one session")
	}
	if again := s.srprof(t, "start", "--pid", pid, "--duration", "60s").ok(t); again != first {
		t.Errorf("the same request got session %s, want %s", again, first)
	}
	s.srprof(t, "start", "--pid", pid, "--duration", "58s").fails(t, 1, "try again in", "[busy]")
	if r := s.srprof(t, "start", "--pid", pid, "--duration", "58s", "-o", "json"); r.exit != 1 || !containsAll(r.stderr, `"code":"busy"`, `"retry_after_seconds":`) {
		t.Errorf("exit code %d: %s", r.exit, r.stderr)
	}
	s.srprof(t, "start", "--pid", pid, "--duration", "61s").fails(t, 2, "up to 1m0s", "[duration_limit]")
	s.srprof(t, "start", "--pid", pid, "--frequency", "501").fails(t, 2, "up to 500 Hz", "[frequency_limit]")
	s.srprof(t, "fetch", second).fails(t, 1, "[not_started]")
	if out := s.srprof(t, "list").ok(t); !containsAll(out, first[:8], "running", second[:8], "pending #1") {
		t.Errorf("srprof list says: %s", out)
	}
	s.srprof(t, "cancel", first).ok(t)
	eventually(t, "the session that waits does not begin", func() bool { return s.get(t, second).State == session.StateRunning })
	s.srprof(t, "start", "--pid", pid, "--duration", "57s", "--max-wait", "300ms").ok(t)
	eventually(t, "a session waits for longer than it may", func() bool {
		for _, one := range s.list(t) {
			if one.State == session.StateFailed {
				return one.Err.Code == "waited_too_long"
			}
		}
		return false
	})
}

// Targets that exit, become another program, stand still, and have a crowd of
// threads.
func TestServiceTargets(t *testing.T) {
	s := serve(t, nil)
	t.Run("exits", func(t *testing.T) {
		p := start(t, "exits.c", programs.Options{Args: []string{"700"}})
		c := s.begin(t, "start", "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "1m")
		id := c.wait(t).ok(t)
		if err := p.Tell(); err != nil {
			t.Fatal(err)
		}
		s.srprof(t, "watch", id).ok(t)
		if one := s.get(t, id); one.EndedBy != profile.EndedExited {
			t.Errorf("the session ended by %q", one.EndedBy)
		}
		r := s.fetch(t, id).as(t, "exits.c")
		if !strings.Contains(r.stderr, "exits exited after") {
			t.Errorf("srprof says: %s", r.stderr)
		}
	})
	t.Run("executes", func(t *testing.T) {
		p := start(t, "execs.c", programs.Options{Args: []string{built(t, "split.c")}})
		id := s.srprof(t, "start", "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "5m").ok(t)
		samples := func(n uint64) {
			t.Helper()
			eventually(t, "too few samples", func() bool { return s.get(t, id).Progress.Samples > n })
		}
		samples(500)
		if err := p.Tell(); err != nil {
			t.Fatal(err)
		}
		samples(s.get(t, id).Progress.Samples + 500)
		s.srprof(t, "cancel", id).ok(t)
		r := s.fetch(t, id)
		if before, after := r.in("worker", "before_exec"), r.in("main", "run"); before < 0.1 || after < 0.1 || before+after < 0.95 {
			t.Errorf("%.2f before the exec and %.2f after it:\n%s", before, after, r.hottest(12))
		}
	})
	t.Run("stopped", func(t *testing.T) {
		p := start(t, "split.c", programs.Options{})
		if err := syscall.Kill(p.PID, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		r := s.record(t, "--pid", strconv.Itoa(p.PID), "--duration", "500ms")
		if r.exit != 5 || r.exists || !strings.Contains(r.stderr, "[no_samples]") {
			t.Errorf("exit code %d, want 5: %s", r.exit, r.stderr)
		}
		id := s.srprof(t, "start", "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "3s").ok(t)
		if err := syscall.Kill(p.PID, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		s.srprof(t, "watch", id).ok(t)
		s.fetch(t, id).as(t, "split.c")
	})
	t.Run("5,000 threads", func(t *testing.T) {
		p := start(t, "crowd.c", programs.Options{Flags: []string{"-DTHREADS=5000"}})
		if err := p.Tell(); err != nil {
			t.Fatal(err)
		}
		r := s.record(t, "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "4s").succeeded(t)
		p.Stop()
		if hot := r.in("worker", "turn", "outer", "inner", "spin"); hot < 0.9 || r.meta.Threads < 100 {
			t.Errorf("%.2f of the samples are in its work, of %d threads:\n%s", hot, r.meta.Threads, r.hottest(12))
		}
	})
	s.srprof(t, "start", "--pid", "4194305").fails(t, 1, "there is no process 4194305", "[no_such_process]")
	s.srprof(t, "record", "--server", s.address, "--pid", "2").fails(t, 2, "[kernel_thread]")
}

// fetch reads the profile of a session that ended.
func (s *service) fetch(t *testing.T, id string) *recording {
	t.Helper()
	dir := t.TempDir()
	r := s.srprof(t, "fetch", id, "--output", filepath.Join(dir, "out.folded"), "--metadata", filepath.Join(dir, "meta.json"))
	return read(t, dir, r.exit, r.stderr).succeeded(t)
}
