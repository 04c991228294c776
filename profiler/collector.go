// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/debugfile"
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/symbol"
	"github.com/carverauto/serviceradar-profiler/version"
)

// collector turns counted stacks of addresses into a profile while sampling
// goes on: it knows which process had what mapped where, follows forks and
// execs, and opens each object while the process that maps it is still there.
type collector struct {
	spec    session.Spec
	debug   debugfile.Options
	meta    profile.Metadata
	builder *profile.Builder
	kernel  profile.MappingID
	objects objects
	cache   *symbol.Cache
	ids     []profile.AddressID // scratch
	hot     hot
	sampler sampler.Sampler
	notices *sampler.Notices
	heard   sync.WaitGroup
	feeder  *feeder
	ready   bool                   // at the end, a target was ready to run
	halted  bool                   // at the end, a target was stopped by a signal
	permit  func(process.ID) error // whether a process may be sampled; nil: any may

	// draining is held while the sampler is asked for counts; before mu. It
	// guards what follows, and that notices is there.
	draining sync.Mutex
	failed   error          // of a drain: it ends the session
	finished bool           // nothing is left to be drained
	totals   sampler.Totals // of then

	// mu guards what follows, and meta, objects and builder: notices come from
	// their own goroutine.
	mu        sync.Mutex
	ends      map[profile.End]uint64
	truncated uint64
	targets   map[int]*target
	over      []*target    // those whose exit was just heard of
	reborn    []*target    // those whose PID is another process's since this drain
	late      bool         // notices are heard in the middle of a drain
	barred    map[int]bool // by PID: what may not be sampled any more
}

func newCollector(spec session.Spec, r *Recorder) (*collector, error) {
	ts, err := findTargets(&spec)
	if err != nil {
		return nil, err
	}
	c := &collector{spec: spec, debug: r.Debug, cache: r.names, builder: profile.NewBuilder(), targets: map[int]*target{}, ends: map[profile.End]uint64{}}
	c.feeder = newFeeder(c, r)
	c.hot.names.Open, c.hot.names.RunTime = c.object, c.runTimeCode
	c.kernel = c.addMapping(profile.Mapping{Kind: profile.MappingKernel, Path: profile.KernelPath, BuildID: kernelBuildID(), Start: kernelStart, Limit: ^profile.Addr(0)}, known{})
	c.meta = describe()
	c.meta.FrequencyHz = frequency(spec.Frequency, &c.meta)
	for _, t := range ts {
		c.targets[t.id.PID] = t
		c.meta.Targets = append(c.meta.Targets, profile.Target{PID: t.id.PID, Name: t.name, Command: t.command})
	}
	return c, nil
}

// kernelStart is the lower end of the upper half of the address space, which
// is the kernel's on amd64 and arm64.
const kernelStart = 1 << 63

// kernelBuildID names the running kernel; "" where it does not tell.
func kernelBuildID() profile.BuildID {
	notes, err := os.ReadFile("/sys/kernel/notes")
	if err != nil {
		return ""
	}
	return object.NotesBuildID(notes)
}

// describe fills in what does not depend on the session.
func describe() profile.Metadata {
	m := profile.Metadata{Tool: "srprof", ToolVersion: version.String(), Arch: runtime.GOARCH, UserStacks: sampler.WalkFramePointer}
	m.Host, _ = os.Hostname() // no name is no reason to fail
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return m
}

// sampleInto tells the sampler whom to sample, and makes sure that these are
// still the processes that were asked for.
func (c *collector) sampleInto(s sampler.Sampler) error {
	c.sampler = s
	for _, t := range c.targets {
		if err := s.AddTarget(t.id.PID); err != nil {
			return err
		}
		switch {
		case t.id.Running():
		case c.named(t.id.PID):
			return noSuchProcess(t.id.PID)
		default: // a child that was there when we looked for children
			c.drop(t)
			c.forget(t)
		}
	}
	return c.anyLeft()
}

// named says whether a process was asked for by itself, so that there is no
// session without it.
func (c *collector) named(pid int) bool {
	return c.spec.Select.Empty() && slices.Contains(c.spec.PIDs, pid)
}

// anyLeft makes sure that there is a target before the first sample.
func (c *collector) anyLeft() error {
	if len(c.targets) == 0 {
		return noSuchProcess(c.spec.PIDs[0])
	}
	return nil
}

// drop ends the sampling of a target; what was collected stays.
func (c *collector) drop(t *target) {
	if err := c.sampler.RemoveTarget(t.id.PID); err != nil {
		c.meta.Warn(err.Error())
	}
}

// anyRunning looks at all targets, maybe after a drain, and reports whether
// one still runs. Those that are over are forgotten once their last samples
// are in.
func (c *collector) anyRunning(drained bool) bool {
	any := false
	for _, t := range c.all() {
		any = c.isRunning(t, drained) || any
	}
	if !any { // a child may have been born meanwhile
		any = slices.ContainsFunc(c.all(), func(t *target) bool { return t.running })
	}
	return any
}

// all are the targets as they are now. Looking at one takes a while, and the
// one who hears notices must not wait until all are looked at.
func (c *collector) all() []*target {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.targets))
}

// isRunning looks at one target, maybe after a drain.
func (c *collector) isRunning(t *target, drained bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.targets[t.id.PID] != t {
		return false // forgotten meanwhile
	}
	t.reread = false
	if t.before != nil && drained {
		if t.drainedSince++; t.drainedSince >= 2 { // the one that was going on does not count
			t.before = nil
		}
	}
	if t.running {
		if t.look(); !t.running {
			c.drop(t)
		}
	}
	if t.running {
		return true
	}
	if !drained {
		return false // it may have samples
	}
	// What it was sampled with before is drained by the second time.
	if t.drained++; t.drained > 2 {
		c.forget(t)
	}
	return false
}

// drain takes in what was counted so far.
func (c *collector) drain() error { return c.drainWith(c.hearLate) }

// drainIfDue reports whether it did.
func (c *collector) drainIfDue() (bool, error) {
	c.draining.Lock()
	due, err := c.sampler.Due()
	c.draining.Unlock()
	if err != nil || !due {
		return false, err
	}
	return true, c.drain()
}

// drainWith calls before when the samples are there, and then adds them.
func (c *collector) drainWith(before func()) error {
	c.draining.Lock()
	defer c.draining.Unlock()
	if c.failed != nil || c.finished {
		return c.failed
	}
	c.failed = c.sampler.Drain(func(n sampler.Count) {
		before()
		before = func() {}
		c.add(n)
	})
	for _, t := range c.all() {
		c.mu.Lock()
		t.doubted = nil
		t.openLists()
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.reborn {
		if c.targets[t.id.PID] == t {
			c.forget(t)
		}
	}
	c.reborn = nil
	return c.failed
}

// forget lets go of a target that is over: there may be thousands of children.
func (c *collector) forget(t *target) {
	c.meta.CPUTimeNs += int64(max(0, t.cpu-t.cpuFrom))
	t.made.last()
	t.files.Close()
	delete(c.targets, t.id.PID)
}

// add takes in one count from the sampler.
func (c *collector) add(n sampler.Count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut(&n) {
		return
	}
	ids := c.ids[:0]
	for i, a := range n.Stack.Kernel {
		ids = append(ids, c.builder.Address(a, c.kernel, i > 0))
	}
	t := c.targets[n.Thread.PID]
	if t == nil {
		return // another process that got the PID of a target, before we heard of it
	}
	for i, addr := range n.Stack.User {
		a := profile.Address{Addr: addr, Return: n.Stack.IsReturn(i)}
		in := c.mappingOf(t, a.Lookup())
		if in == profile.NoMapping {
			// Where a walk went astray this is no address but a word of the
			// stack, or of whatever a register pointed to: nobody may see it.
			addr = 0
		}
		ids = append(ids, c.builder.Address(addr, in, a.Return))
	}
	c.ids = ids
	if n.Stack.End != profile.EndNone {
		c.ends[n.Stack.End] += n.N
	}
	if n.Stack.Truncated {
		c.truncated += n.N
	}
	c.builder.Add(n.Thread, ids, n.Stack.Truncated, n.N)
}

func (c *collector) mappingOf(t *target, a profile.Addr) profile.MappingID {
	if t == nil {
		return profile.NoMapping
	}
	m := t.mapping(a, &c.objects)
	if m == nil {
		return profile.NoMapping
	}
	if m.Of.id == profile.NoMapping {
		m.Of.id = c.addMapping(m.Mapping.Mapping, m.Of)
	}
	return m.Of.id
}

func (c *collector) addMapping(m profile.Mapping, of known) profile.MappingID {
	id := c.builder.Mapping(m)
	c.objects.know(id, of)
	return id
}

// monotonic is the clock that the kernel side reads.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // only for a clock that does not exist
	}
	return time.Duration(ts.Nano())
}

func (c *collector) close() {
	c.stopListening()
	for _, t := range c.targets {
		t.files.Close()
	}
	c.objects.close()
}
