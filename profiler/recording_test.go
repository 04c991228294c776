// SPDX-License-Identifier: Apache-2.0

package profiler_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// recorder is what a service has, until the end of the test.
func recorder(t testing.TB) *profiler.Recorder {
	t.Helper()
	r := profiler.NewRecorder(32<<20, 8<<20)
	t.Cleanup(r.Close)
	return r
}

// opened is a recording that samples.
func opened(t *testing.T, r *profiler.Recorder, s session.Spec) *profiler.Recording {
	t.Helper()
	rec, err := r.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rec.Close)
	if err := rec.Start(); err != nil {
		t.Fatal(err)
	}
	return rec
}

// Snapshots, asked for by several at once, are what is known so far, with the
// names that the end finds too; and the end has all samples.
func TestSnapshots(t *testing.T) {
	needs(t, "gcc")
	target := programs.Start(t, "depth.c", programs.Options{Flags: noFrames, Args: []string{"20"}})
	rec := opened(t, recorder(t), spec(2*time.Second, target.PID))
	if ts := rec.Targets(); len(ts) != 1 || ts[0].PID != target.PID || time.Since(rec.Started()) > time.Minute {
		t.Errorf("targets %v, started %v", ts, rec.Started())
	}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			var before uint64
			for {
				time.Sleep(100 * time.Millisecond)
				p, err := rec.Snapshot(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if p.Meta.Ended != "" {
					return
				}
				n := p.Meta.Counts.Samples
				if n < before || p.Meta.DurationNs <= 0 || p.Meta.Counts.Lost > 0 {
					t.Errorf("%d samples after %v, %d before, %d lost", n, p.Meta.Duration(), before, p.Meta.Counts.Lost)
				}
				before = n
				if got := share(p, "descend;descend;hot_a"); n > 200 && got < 0.9 {
					t.Errorf("%.1f %% of %d samples have the names", 100*got, n)
				}
			}
		})
	}
	var last session.Progress
	p, err := rec.Run(t.Context(), func(p session.Progress) { last = p })
	if err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if got := share(p, "descend;descend;hot_a"); got < 0.9 || p.Meta.Ended != profile.EndedDuration || last.Samples == 0 || last.Samples > p.Meta.Counts.Samples {
		t.Errorf("%.1f %% of %d samples, %d by the last progress; ended: %s", 100*got, p.Meta.Counts.Samples, last.Samples, p.Meta.Ended)
	}
	again, err := rec.Snapshot(t.Context())
	if err != nil || again != p {
		t.Errorf("after the end a snapshot is %p, %v; Run returned %p", again, err, p)
	}
}

// A recording that was closed says so, and who has no time need not wait.
func TestSnapshotOfNothing(t *testing.T) {
	needs(t, "gcc")
	target := programs.Start(t, "split.c", programs.Options{})
	rec := opened(t, new(profiler.Recorder), spec(time.Second, target.PID))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := rec.Run(over, nil); p == nil || p.Meta.Ended != profile.EndedInterrupted {
		t.Errorf("canceled before it ran: %v", err)
	}
	other := opened(t, new(profiler.Recorder), spec(time.Second, target.PID))
	other.Close()
	other.Close()
	if _, err := other.Snapshot(t.Context()); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("of a closed one: %v", err)
	}
}

// Sessions take the spare sampler, whatever they need beyond it, and each has
// its own.
func TestSpare(t *testing.T) {
	needs(t, "gcc")
	target := programs.Start(t, "depth.c", programs.Options{Flags: noFrames, Args: []string{"20"}})
	r := recorder(t)
	if _, err := r.KeepSpare(); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 6 {
		s := spec(time.Minute, target.PID)
		s.Children = i%2 == 1 // more targets than the spare has room for
		all.Go(func() {
			ctx, enough := context.WithCancel(t.Context())
			defer enough()
			p, err := r.Record(ctx, s, func(p session.Progress) {
				if p.Samples >= 500 {
					enough()
				}
			})
			if err != nil {
				t.Error(err)
				return
			}
			if got := whole(p); got < 0.95 || p.Meta.Ended != profile.EndedInterrupted {
				t.Errorf("%.1f %% whole stacks: %v; ended: %s", 100*got, p.Meta.Ends, p.Meta.Ended)
			}
			if got := share(p, "descend;descend;hot_a"); got < 0.9 {
				t.Errorf("%.1f %% of the samples have the names", 100*got)
			}
		})
		time.Sleep(50 * time.Millisecond) // so that some find a spare
	}
	all.Wait()
}

// A target that exits in the first moment, before its mappings were read, has
// samples without names, and the profile says why.
func TestExitsAtOnce(t *testing.T) {
	needs(t, "gcc")
	target := programs.Start(t, "split.c", programs.Options{})
	rec := opened(t, recorder(t), spec(time.Minute, target.PID))
	// Sampling is on, and nothing was read yet.
	used := func() time.Duration {
		stat, err := process.ReadStat(target.PID)
		if err != nil {
			t.Fatal(err)
		}
		return stat.CPUTime
	}
	for from := used(); used()-from < 100*time.Millisecond; {
		time.Sleep(10 * time.Millisecond)
	}
	target.Stop()
	p, err := rec.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("process %d exited before its mappings were read", target.PID)
	if !slices.ContainsFunc(p.Meta.Warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
		t.Errorf("the warnings are %q, want one that begins with %q", p.Meta.Warnings, want)
	}
	if c := p.Meta.Counts; c.Unknown == 0 {
		t.Errorf("%+v: samples of a process that is gone have names", c)
	}
}
