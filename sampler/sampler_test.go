// SPDX-License-Identifier: Apache-2.0

package sampler_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
)

const (
	childEnv = "SRPROF_TEST_CHILD"
	busy     = "busy"    // spins on every CPU
	forking  = "forking" // starts a busy process, once told to
)

// TestMain lets this binary be its own target.
func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case busy:
		for range runtime.NumCPU() - 1 {
			go spin()
		}
		spin()
	case forking:
		os.Stdin.Read(make([]byte, 1))
		child(busy).Run()
	default:
		if run := perfChildren[os.Getenv(childEnv)]; run != nil {
			run()
		}
	}
	os.Exit(m.Run())
}

var sink uint64

func spin() {
	for {
		sink++
	}
}

func child(what string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), childEnv+"="+what)
	return c
}

func start(t *testing.T, what string) int {
	t.Helper()
	c := child(what)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	return c.Process.Pid
}

// open opens a sampler. Only a machine on which the test has no right to
// sample may skip.
func open(t *testing.T) *sampler.BPF {
	t.Helper()
	s, err := sampler.OpenBPF(sampler.Options{})
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		t.Skip("needs root: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// run samples for a while and checks that nothing got out of the books: each
// sample that the kernel side took was handed over or counted as lost.
func run(t *testing.T, s sampler.Sampler, f profile.Frequency, d time.Duration, each func(sampler.Count)) sampler.Totals {
	t.Helper()
	var handed uint64
	counted := func(c sampler.Count) {
		handed += c.N
		if each != nil {
			each(c)
		}
	}
	if err := s.Start(f); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(s.LookInterval()) {
		if err := s.Drain(counted); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	totals, err := s.Finish(counted)
	if err != nil {
		t.Fatal(err)
	}
	if handed == 0 || handed+totals.Lost != totals.Samples {
		t.Errorf("handed over %d + lost %d, but the kernel took %d samples", handed, totals.Lost, totals.Samples)
	}
	return totals
}

func TestSampleOnlyTheTarget(t *testing.T) {
	target, other := start(t, busy), start(t, busy)
	s := open(t)
	if err := s.AddTarget(target); err != nil {
		t.Fatal(err)
	}
	threads := map[int]bool{}
	totals := run(t, s, 499, time.Second, func(c sampler.Count) {
		if c.Thread.PID != target {
			t.Errorf("sampled process %d, want only %d (not %d)", c.Thread.PID, target, other)
		}
		if len(c.Stack.User) == 0 {
			t.Errorf("a stack without user part: %+v", c)
		}
		if c.Thread.Comm == "" {
			t.Error("no thread name")
		}
		threads[c.Thread.TID] = true
	})
	if len(threads) < runtime.NumCPU() {
		t.Errorf("saw %d threads, want at least the %d that spin", len(threads), runtime.NumCPU())
	}
	if totals.FirstSample == 0 {
		t.Error("no time of the first sample")
	}
}

// High frequency, drained in time: all that is taken is handed over.
func TestHighFrequencyLosesNothing(t *testing.T) {
	s := open(t)
	if err := s.AddTarget(start(t, busy)); err != nil {
		t.Fatal(err)
	}
	if totals := run(t, s, 9999, 2*time.Second, nil); totals.Lost > totals.Samples/1000 {
		t.Errorf("lost %d of %d samples", totals.Lost, totals.Samples)
	}
}

// Without a drain the maps run full, and what does not fit is counted.
func TestNoDrainCountsLost(t *testing.T) {
	s := open(t)
	target := start(t, busy)
	if err := s.AddTarget(target); err != nil {
		t.Fatal(err)
	}
	// Child threads of a kernel-heavy program have many different stacks; a
	// spinning one has few, so this only checks that the books balance.
	if err := s.Start(9999); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	var handed uint64
	totals, err := s.Finish(func(c sampler.Count) { handed += c.N })
	if err != nil {
		t.Fatal(err)
	}
	if handed+totals.Lost != totals.Samples || handed == 0 {
		t.Errorf("handed over %d + lost %d, want %d", handed, totals.Lost, totals.Samples)
	}
}

func TestRemoveTarget(t *testing.T) {
	s := open(t)
	target := start(t, busy)
	for _, err := range []error{s.AddTarget(target), s.Start(999)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if err := s.RemoveTarget(target); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveTarget(target); err != nil {
		t.Error("removing it again: ", err)
	}
	time.Sleep(10 * time.Millisecond)
	before, err := s.Totals()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if after, err := s.Totals(); err != nil || after.Samples != before.Samples || before.Samples == 0 {
		t.Errorf("%d samples when removed, %d later (%v)", before.Samples, after.Samples, err)
	}
}
