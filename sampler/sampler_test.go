// SPDX-License-Identifier: Apache-2.0

package sampler_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
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
		ready()
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

// ready is what a target says once it is what the test wants to see: before, it
// is being executed, sets up its runtime, or is on its way there.
func ready() { fmt.Println("ready") }

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
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("target %s: %q, %v", what, line, err)
	}
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

// patience is how long anything may take: to see that it never comes, not how
// fast it is. Machines that emulate this one are slow, others are full.
const patience = 2 * time.Minute

// await waits for something that must come.
func await(t *testing.T, what string, came func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !came(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in %v: not %s", patience, what)
		}
	}
}

// works waits until a process has used some CPU time more.
func works(t *testing.T, pid int, more time.Duration) {
	t.Helper()
	before := cpuTime(t, pid)
	await(t, "enough CPU time", func() bool { return cpuTime(t, pid) >= before+more })
}

// run samples until there are so many samples, and all else that a test needs to
// judge them; if that does not come the test judges what there is. It checks
// that nothing got out of the books: each sample that the kernel side took was
// handed over or counted as lost.
func run(t *testing.T, s sampler.Sampler, f profile.Frequency, samples uint64, each func(sampler.Count), needs ...func() bool) sampler.Totals {
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
	lacks := func(need func() bool) bool { return !need() }
	for end := time.Now().Add(patience); handed < samples || slices.ContainsFunc(needs, lacks); time.Sleep(s.LookInterval()) {
		if time.Now().After(end) {
			t.Logf("%d samples in %v, want %d and what else is needed", handed, patience, samples)
			break
		}
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

// taken waits until a sampler took so many samples, without a drain.
func taken(t *testing.T, s *sampler.BPF, samples uint64) {
	t.Helper()
	await(t, "enough samples", func() bool {
		totals, err := s.Totals()
		if err != nil {
			t.Fatal(err)
		}
		return totals.Samples >= samples
	})
}

func TestSampleOnlyTheTarget(t *testing.T) {
	target, other := start(t, busy), start(t, busy)
	s := open(t)
	if err := s.AddTarget(target); err != nil {
		t.Fatal(err)
	}
	threads := map[int]bool{}
	all := func() bool { return len(threads) >= runtime.NumCPU() }
	totals := run(t, s, 499, 300, func(c sampler.Count) {
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
	}, all)
	if !all() {
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
	if totals := run(t, s, 9999, 10_000, nil); totals.Lost > totals.Samples/1000 {
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
	taken(t, s, 5000)
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
	taken(t, s, 20)
	if err := s.RemoveTarget(target); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveTarget(target); err != nil {
		t.Error("removing it again: ", err)
	}
	// A sample that was being taken may end a little later, one a CPU.
	var before, after sampler.Totals
	var err error
	for try := 0; try < 2 || err == nil && before.Samples != after.Samples && try < 5; try++ {
		before = after
		works(t, target, 100*time.Millisecond)
		after, err = s.Totals()
	}
	if err != nil || after.Samples != before.Samples {
		t.Errorf("%d samples when removed, %d later (%v)", before.Samples, after.Samples, err)
	}
}
