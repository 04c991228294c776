// SPDX-License-Identifier: Apache-2.0

package profiler_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// held is what this process has open, by kind.
func held(t *testing.T) map[string]int {
	t.Helper()
	paths, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{"goroutine": runtime.NumGoroutine()}
	for _, path := range paths {
		to, err := os.Readlink(path)
		if err != nil {
			continue // the directory itself
		}
		kind, _, _ := strings.Cut(to, ":") // anon_inode:bpf-map
		if kind == "anon_inode" {
			kind = to
		}
		kinds[kind]++
	}
	return kinds
}

// A service runs many sessions, of targets that are there, that are gone, that
// sleep, that are given up before they start and while they run. Nothing of
// them stays.
func TestSessionsLeaveNothing(t *testing.T) {
	needs(t, "gcc")
	busy := programs.Start(t, "depth.c", programs.Options{Args: []string{"20"}})
	asleep := launch(t, "", "sleep", "1000")
	r := recorder(t)
	if _, err := r.KeepSpare(); err != nil {
		t.Fatal(err)
	}
	one := func(i int) {
		s := spec(30*time.Millisecond, busy.PID)
		ctx := t.Context()
		switch i % 5 {
		case 1:
			s = spec(10*time.Millisecond, asleep.PID)
		case 2:
			s = spec(time.Second, busy.PID, 1<<22+1) // no such process
		case 3:
			s.Children = true
			canceled, cancel := context.WithCancel(ctx)
			cancel()
			ctx = canceled
		case 4:
			rec, err := r.Open(s)
			if err != nil {
				t.Fatal(err)
			}
			rec.Close()
			return
		}
		if _, err := r.Record(ctx, s, nil); err != nil && !errors.Is(err, session.ErrNoSamples) && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	// The first ones make what is kept: caches, and another spare, which takes
	// a moment each time.
	settled := func() map[string]int {
		before := held(t)
		for same := 0; same < 10; {
			time.Sleep(50 * time.Millisecond)
			if now := held(t); fmt.Sprint(now) == fmt.Sprint(before) {
				same++
			} else {
				before, same = now, 0
			}
		}
		return before
	}
	for i := range 5 {
		one(i)
	}
	before := settled()
	for i := range 50 {
		one(i)
	}
	if after := settled(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("after 50 sessions there is %v, before there was %v", after, before)
	}
	r.Close()
	if left := held(t); left["anon_inode:bpf-map"]+left["anon_inode:bpf-prog"]+left["anon_inode:[perf_event]"] > 0 {
		t.Errorf("after Close there is %v", left)
	}
}

// A PID that went over to another process between the request and the start is
// not sampled.
func TestPIDReusedBeforeStart(t *testing.T) {
	needs(t, "gcc")
	target := programs.Start(t, "split.c", programs.Options{})
	rec, err := new(profiler.Recorder).Open(spec(time.Second, target.PID))
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	target.Stop()
	reuse(t, target.PID)
	var e *session.Error
	if err := rec.Start(); !errors.As(err, &e) || e.Code != "no_such_process" {
		t.Errorf("of another process with the PID: %v", err)
	}
}

// One that goes over to another process while it is sampled ends the session.
func TestPIDReusedMeanwhile(t *testing.T) {
	needs(t, "gcc")
	target := programs.Start(t, "depth.c", programs.Options{Args: []string{"20"}})
	done := make(chan struct{})
	var p *profile.Profile
	var err error
	enough := make(chan struct{}, 1)
	go func() {
		defer close(done)
		p, err = new(profiler.Recorder).Record(t.Context(), spec(time.Minute, target.PID), func(p session.Progress) {
			if p.Samples >= 400 {
				select {
				case enough <- struct{}{}:
				default:
				}
			}
		})
	}()
	select {
	case <-enough:
	case <-done:
		t.Fatalf("it ended early: %v", err)
	}
	target.Stop()
	reuse(t, target.PID)
	<-done
	if err != nil {
		t.Fatal(err)
	}
	if p.Meta.Ended != profile.EndedExited {
		t.Errorf("ended: %s", p.Meta.Ended)
	}
	// Until it was heard of, the other one may have been met.
	var others uint64
	for i := range p.Samples {
		if s := &p.Samples[i]; s.Comm != "depth" {
			others += s.Count
		}
	}
	if others > p.Meta.Counts.Samples/20 {
		t.Errorf("%d of %d samples are of another process", others, p.Meta.Counts.Samples)
	}
}

// 5,000 threads, and none of them is left out or mixed up.
func TestFiveThousandThreads(t *testing.T) {
	needs(t, "gcc")
	target := programs.Start(t, "crowd.c", programs.Options{Flags: []string{"-DTHREADS=5000"}})
	if err := target.Tell(); err != nil {
		t.Fatal(err)
	}
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	p, err := new(profiler.Recorder).Record(ctx, spec(5*time.Minute, target.PID), func(p session.Progress) {
		if p.Samples >= 2500 {
			enough()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.Meta.Threads < 100 || p.Meta.Counts.Lost > 0 || share(p, "turn;outer;inner;spin") < 0.9 {
		t.Errorf("%d threads, %+v, %.1f %% known, %v", p.Meta.Threads, p.Meta.Counts, 100*share(p, "turn;outer;inner;spin"), p.Meta.Ends)
	}
}
