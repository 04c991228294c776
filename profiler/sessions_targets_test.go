// SPDX-License-Identifier: Apache-2.0

package profiler_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

func started(t testing.TB, s *profiler.Sessions, spec session.Spec) session.Session {
	t.Helper()
	now, err := s.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// until watches a session until something holds, or to its end.
func until(t testing.TB, s *profiler.Sessions, id session.ID, holds func(session.Session) bool) (last session.Session) {
	t.Helper()
	for now, err := range s.Watch(t.Context(), id) {
		if err != nil {
			t.Error(err)
			break
		}
		if last = now; holds(now) {
			break
		}
	}
	return last
}

func over(now session.Session) bool    { return now.State.Final() }
func sampled(now session.Session) bool { return now.Progress.Samples > 0 }

func fetched(t testing.TB, s *profiler.Sessions, id session.ID, format string) []byte {
	t.Helper()
	c, err := s.Fetch(t.Context(), id, session.Want{Format: format})
	if err != nil {
		t.Error(err)
		return nil
	}
	b, err := io.ReadAll(c.Body)
	if err != nil {
		t.Error(err)
	}
	if err := c.Body.Close(); err != nil {
		t.Error(err)
	}
	return b
}

// profileOf is the profile of a session that has ended.
func profileOf(t testing.TB, s *profiler.Sessions, id session.ID) *profile.Profile {
	t.Helper()
	p, err := pprof.Read(bytes.NewReader(fetched(t, s, id, "")))
	if err != nil {
		t.Error(err)
		return &profile.Profile{}
	}
	return p
}

// Ten sessions at once, on ten targets at ten frequencies: each profile is
// right, and has as many samples as its target had CPU time for.
func TestTenSessions(t *testing.T) {
	needs(t, "gcc")
	s := sessions(t, nil)
	program, err := programs.Read("split.c")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i, f := range []profile.Frequency{49, 99, 149, 199, 250, 333, 499, 650, 800, 997} {
		target := busy(t)
		now := started(t, s, session.Spec{PIDs: []int{target.PID}, Frequency: f, Duration: 5 * time.Second})
		if now.State != session.StateRunning {
			t.Errorf("session %d is %s", i+1, now.State)
		}
		all.Go(func() {
			last := until(t, s, now.ID, over)
			if last.State != session.StateSucceeded {
				t.Errorf("%d Hz: %+v", f, last)
				return
			}
			p := profileOf(t, s, now.ID)
			for _, sample := range p.Samples {
				if sample.Thread.PID != target.PID {
					t.Errorf("%d Hz: a sample of process %d, not %d", f, sample.Thread.PID, target.PID)
				}
			}
			lines, err := folded.Parse(bytes.NewReader(fetched(t, s, now.ID, "folded")))
			if err != nil {
				t.Error(err)
			}
			for _, wrong := range programs.Compare(program.Expect, lines) {
				t.Errorf("%d Hz: %s", f, wrong)
			}
			// The clock of an event runs while its thread does. Each time that
			// begins and ends within a period, chance decides about a sample.
			used := time.Duration(p.Meta.CPUTimeNs).Seconds()
			want, got := used*float64(f), float64(p.Meta.Counts.Samples+p.Meta.Counts.Lost)
			if allowed := 0.1*want + 5*math.Sqrt(want) + 3; math.Abs(got-want) > allowed {
				t.Errorf("%d Hz: %.0f samples of %.2f s of CPU time, want %.0f ± %.0f", f, got, used, want, allowed)
			}
			t.Logf("%d Hz: %.0f samples of %.2f s of CPU time", f, got, used)
		})
	}
	if now, err := s.List(t.Context(), session.Filter{States: []session.State{session.StateRunning}}); err != nil || len(now) != 10 {
		t.Errorf("%d sessions run at once: %v", len(now), err)
	}
	all.Wait()
}

// A session stays with its process when that executes another program, follows
// its children if it is to, and does not end when it is stopped.
func TestSessionsOfChangingTargets(t *testing.T) {
	needs(t, "gcc")
	path, err := split()
	if err != nil {
		t.Fatal(err)
	}
	s := sessions(t, nil)
	t.Run("exec", func(t *testing.T) {
		execs := programs.Start(t, "execs.c", programs.Options{Args: []string{path}})
		now := started(t, s, spec(time.Minute, execs.PID))
		until(t, s, now.ID, sampled)
		if err := execs.Tell(); err != nil {
			t.Fatal(err)
		}
		// What is hottest is found again each 2 s: we look by ourselves.
		for share(profileOf(t, s, now.ID), "run;hot_a") < 0.1 {
		}
		last, err := s.Cancel(t.Context(), now.ID)
		if err != nil || last.State != session.StateCanceled {
			t.Errorf("%+v, %v", last, err)
		}
		if p := profileOf(t, s, now.ID); share(p, "before_exec") == 0 || share(p, "run;hot_a") == 0 {
			t.Errorf("before the exec %.1f %%, after it %.1f %%", 100*share(p, "before_exec"), 100*share(p, "run;hot_a"))
		}
	})
	t.Run("fork", func(t *testing.T) {
		forks := programs.Start(t, "forks.c", programs.Options{})
		asked := spec(1500*time.Millisecond, forks.PID)
		asked.Children = true
		last := until(t, s, started(t, s, asked).ID, over)
		if last.State != session.StateSucceeded {
			t.Fatalf("%+v", last)
		}
		p := profileOf(t, s, last.ID)
		born := map[int]bool{}
		for _, sample := range p.Samples {
			born[sample.Thread.PID] = true
		}
		if delete(born, forks.PID); len(born) < 2 || share(p, "child;hot_a") < 0.3 {
			t.Errorf("%d children, %.1f %% in hot_a", len(born), 100*share(p, "child;hot_a"))
		}
	})
	t.Run("stop", func(t *testing.T) {
		target := busy(t)
		now := started(t, s, spec(time.Second, target.PID))
		until(t, s, now.ID, sampled)
		if err := syscall.Kill(target.PID, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		last := until(t, s, now.ID, over)
		if last.State != session.StateSucceeded || last.EndedBy != profile.EndedDuration || last.Progress.Elapsed < time.Second {
			t.Errorf("%+v", last)
		}
		asleep := until(t, s, started(t, s, spec(50*time.Millisecond, target.PID)).ID, over)
		if asleep.State != session.StateFailed || !errors.Is(asleep.Err, session.ErrNoSamples) || !strings.Contains(asleep.Err.Problem, "is stopped") {
			t.Errorf("of a stopped process: %+v", asleep)
		}
	})
}

// reuse starts a process under a PID that another one had.
func reuse(t *testing.T, pid int) {
	t.Helper()
	path, err := split()
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 { // others may be faster
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Skipf("PIDs cannot be chosen here: %v", err)
		}
		p, err := programs.Launch(exec.Command(path), "")
		if err != nil {
			t.Fatal(err)
		}
		if p.PID == pid {
			t.Cleanup(p.Stop)
			return
		}
		p.Stop()
	}
	t.Fatalf("PID %d was not had again", pid)
}

// Who was meant when a session was asked for is not whoever has the PID when
// its turn comes, nor is a session of the one that of the other.
func TestReusedPID(t *testing.T) {
	needs(t, "gcc")
	s := sessions(t, func(l *profiler.Limits) { l.MaxConcurrentSessions = 1 })
	one, two, three := busy(t), busy(t), busy(t)
	first := started(t, s, spec(time.Minute, one.PID))
	waits := started(t, s, spec(time.Minute, two.PID))
	again := started(t, s, spec(time.Minute, three.PID))
	two.Stop()
	reuse(t, two.PID)
	if other := started(t, s, spec(time.Minute, two.PID)); other.ID == waits.ID {
		t.Error("a request joined a session of another process")
	} else if _, err := s.Cancel(t.Context(), other.ID); err != nil {
		t.Error(err)
	}
	if _, err := s.Cancel(t.Context(), first.ID); err != nil {
		t.Error(err)
	}
	last := until(t, s, waits.ID, over)
	if last.State != session.StateFailed || last.Err == nil || last.Err.Code != "process_exited" || !errors.Is(last.Err, fs.ErrNotExist) {
		t.Errorf("%+v", last)
	}
	if now := until(t, s, again.ID, sampled); now.State != session.StateRunning || now.Started.IsZero() || now.Position != 0 {
		t.Errorf("the one behind it: %+v", now)
	}
}
