// SPDX-License-Identifier: Apache-2.0

// Package sampler is the kernel side at work. It loads the BPF program, lets
// the CPU clock of every CPU run it, tells it whom to sample, and drains the
// counts while sampling goes on. It knows addresses, not names.
//
// A [Sampler] owns everything it has in the kernel by file descriptors alone,
// so when this process ends, in whatever way, nothing of it remains.
package sampler

import (
	"fmt"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/carverauto/serviceradar-profiler/bpf"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// How user stacks are walked, as Metadata.UserStacks tells it.
const WalkFramePointer = "frame pointer"

// Event is the name of what makes the kernel take a sample.
const Event = "cpu-clock"

// Options of a Sampler.
type Options struct {
	Frequency profile.Frequency // in Hz, at most MaxFrequency()
}

// Sampler samples a set of processes. Its methods must not be called
// concurrently, but for AddTarget and RemoveTarget.
type Sampler struct {
	objs      bpf.SampleObjects
	options   Options
	events    []*event
	epoch     uint32
	maxFrames int // a part with this many frames was cut
	drained   uint64
	orphans   uint64 // counts whose stack was not found
	scratch   scratch
}

// Open loads the program and its maps. Sampling begins with Start.
func Open(o Options) (*Sampler, error) {
	spec, err := bpf.LoadSample()
	if err != nil {
		return nil, err
	}
	possible, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count CPUs: %w", err)
	}
	size(spec, possible)
	// Kernels before 5.11 count maps against RLIMIT_MEMLOCK. Where the limit
	// cannot be raised it may still suffice, so a refusal here is not an
	// error; making the maps tells.
	memlock := rlimit.RemoveMemlock()
	s := &Sampler{options: o, maxFrames: min(framesInPart, maxStack())}
	if err := spec.LoadAndAssign(&s.objs, nil); err != nil {
		return nil, loadError(err, memlock)
	}
	s.scratch.init()
	return s, nil
}

const (
	framesInPart = 127 // PART_FRAMES of abi.h
	buffers      = 2   // BUFFERS of abi.h
	// samplesPerDrain is how many samples a CPU may take between two drains
	// with nothing lost even if every stack is new and of full depth.
	samplesPerDrain = 64
)

// size fits the maps to the machine: room for every sample between two drains
// to be a new stack, and as much again for a drain that comes late.
func size(spec *ebpf.CollectionSpec, cpus int) {
	n := uint32(max(2048, cpus*samplesPerDrain*4))
	for _, name := range []string{bpf.SampleMapCounts0, bpf.SampleMapCounts1, bpf.SampleMapStacks0, bpf.SampleMapStacks1} {
		spec.Maps[name].MaxEntries = n
	}
	spec.Maps[bpf.SampleMapRegions].MaxEntries = uint32(cpus * buffers)
}

// DrainInterval is how often to call Drain: often enough that the maps cannot
// run full, and that progress looks alive.
func (s *Sampler) DrainInterval() time.Duration {
	return min(250*time.Millisecond, max(5*time.Millisecond, s.options.Frequency.Period()*samplesPerDrain))
}

// AddTarget makes the kernel sample all threads of a process, those born later
// included.
func (s *Sampler) AddTarget(pid int) error {
	if err := s.objs.Targets.Put(uint32(pid), uint32(1)); err != nil {
		return fmt.Errorf("add process %d to the sampled ones: %w", pid, err)
	}
	return nil
}

// RemoveTarget ends the sampling of a process. To remove what is not there is
// no error.
func (s *Sampler) RemoveTarget(pid int) error {
	err := s.objs.Targets.Delete(uint32(pid))
	if err != nil && !isNotExist(err) {
		return fmt.Errorf("remove process %d from the sampled ones: %w", pid, err)
	}
	return nil
}

// Start opens the CPU clock of every CPU and lets it run. The first sample
// comes one period later.
func (s *Sampler) Start() error {
	cpus, err := onlineCPUs()
	if err != nil {
		return err
	}
	for _, cpu := range cpus {
		e, err := openClock(cpu, s.options.Frequency)
		if isOffline(err) {
			continue // it went offline just now
		}
		if err != nil {
			s.closeEvents()
			return eventError(err)
		}
		s.events = append(s.events, e)
		if err := e.attach(s.objs.Sample.FD()); err != nil {
			s.closeEvents()
			return eventError(err)
		}
	}
	for _, e := range s.events {
		if err := e.enable(); err != nil {
			s.closeEvents()
			return eventError(err)
		}
	}
	return nil
}

// CPUs is how many CPUs are sampled.
func (s *Sampler) CPUs() int { return len(s.events) }

// Stop ends sampling; what was counted can still be drained.
func (s *Sampler) Stop() error {
	var first error
	for _, e := range s.events {
		if err := e.disable(); err != nil && first == nil {
			first = fmt.Errorf("stop sampling: %w", err)
		}
	}
	return first
}

func (s *Sampler) closeEvents() {
	for _, e := range s.events {
		e.Close()
	}
	s.events = nil
}

// Close gives back everything in the kernel.
func (s *Sampler) Close() error {
	s.closeEvents()
	err := s.objs.Close()
	runtime.KeepAlive(s)
	return err
}
