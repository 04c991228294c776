// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/carverauto/serviceradar-profiler/bpf"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// BPF is the sampler by a BPF program: the kernel filters, walks stacks by
// unwind tables, and counts equal ones. Its methods on tables may be called
// concurrently too.
type BPF struct {
	program    program // which was loaded
	objs       objects
	stackMaps  stackMaps // of the build for old kernels
	options    Options
	frequency  profile.Frequency
	events     []*event
	possible   int // CPUs
	epoch      uint32
	maxFrames  int // a part walked by the kernel with this many frames was cut
	drained    uint64
	last       drainMark // the last drain
	dueSamples uint64    // after so many a drain is due
	orphans    uint64    // counts whose stack was not found
	scratch    scratch

	loading sync.Mutex // guards what follows; before mu
	walk    walkObjects
	tabled  tabled

	mu      sync.Mutex     // guards what follows
	targets map[int]uint32 // their spaces
	spaces  *spaces
}

// objects is what the first samples need. It is small, so it loads at once.
type objects struct {
	Sample        *ebpf.Program `ebpf:"sample"`
	CurrentConfig *ebpf.Map     `ebpf:"current_config"`
	Filter        *ebpf.Map     `ebpf:"target_filter"`
	Targets       *ebpf.Map     `ebpf:"targets"`
	Cpus          *ebpf.Map     `ebpf:"cpus"`
	Walks         *ebpf.Map     `ebpf:"walks"`
	Counts0       *ebpf.Map     `ebpf:"counts_0"`
	Counts1       *ebpf.Map     `ebpf:"counts_1"`
	Stacks0       *ebpf.Map     `ebpf:"stacks_0"`
	Stacks1       *ebpf.Map     `ebpf:"stacks_1"`
	Regions       *ebpf.Map     `ebpf:"regions"`
	Spaces        *ebpf.Map     `ebpf:"spaces"`
	TaskStack     *ebpf.Map     `ebpf:"task_stack"`
	Programs      *ebpf.Map     `ebpf:"programs"`
}

// OpenBPF loads the program and its maps.
func OpenBPF(o Options) (*BPF, error) {
	if o.Targets == 0 {
		o.Targets = 16
	}
	// Kernels before 5.11 count maps against RLIMIT_MEMLOCK. Where the limit
	// cannot be raised it may still suffice, so a refusal here is not an
	// error; making the maps tells.
	memlock := rlimit.RemoveMemlock()
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count CPUs: %w", err)
	}
	s := &BPF{options: o, possible: cpus, dueSamples: uint64(max(512, cpus*2*samplesPerLook)),
		maxFrames: min(framesInPart, maxStack()), targets: map[int]uint32{}}
	if err := s.openProgram(); err != nil {
		return nil, loadError(err, memlock)
	}
	s.scratch.init()
	return s, nil
}

const (
	framesInPart = 127   // KERNEL_FRAMES of abi.h
	buffers      = 2     // BUFFERS of abi.h
	regionFrames = 16384 // REGION_FRAMES
	// samplesPerLook is how many samples a CPU may take between two looks
	// (Due); a quarter of a region, and these, all new and 256 frames deep,
	// fit into one.
	samplesPerLook = 32
	// longestWait is how long counts may stay in the kernel, so that progress
	// looks alive.
	longestWait = time.Second
)

// LookInterval is how often to ask whether a Drain is due, after Start: often
// enough that the maps cannot run full.
func (s *BPF) LookInterval() time.Duration { return lookInterval(s.frequency) }

func lookInterval(f profile.Frequency) time.Duration {
	return min(250*time.Millisecond, max(5*time.Millisecond, f.Period()*samplesPerLook))
}

// AddTarget makes the kernel sample all threads of a process, those born later
// included.
func (s *BPF) AddTarget(pid int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.objs.Targets.Put(uint32(pid), uint32(0)); err != nil {
		return fmt.Errorf("add process %d to the sampled ones: %w", pid, err)
	}
	s.targets[pid] = 0
	return s.setFilter()
}

// RemoveTarget ends the sampling of a process. To remove what is not there is
// no error.
func (s *BPF) RemoveTarget(pid int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.objs.Targets.Delete(uint32(pid))
	if err != nil && !isNotExist(err) {
		return fmt.Errorf("remove process %d from the sampled ones: %w", pid, err)
	}
	if s.spaces != nil {
		s.spaces.release(s.targets[pid])
	}
	delete(s.targets, pid)
	return s.setFilter()
}

// setFilter lets the targets through, and what shares a bit with them. mu must
// be held.
func (s *BPF) setFilter() error {
	var f bpf.SampleFilter
	for pid := range s.targets {
		word := uint(pid) / 64 % uint(len(f.Word))
		f.Word[word] |= 1 << (uint(pid) % 64)
	}
	if err := s.objs.Filter.Put(uint32(0), &f); err != nil {
		return fmt.Errorf("filter the processes to sample: %w", err)
	}
	return nil
}

// Start opens the CPU clock of every CPU and lets it run, at a frequency of at
// most MaxFrequency(). The first sample comes one period later.
func (s *BPF) Start(f profile.Frequency) error {
	s.frequency = f
	if !s.program.stackIDs { // else the maps are made for it
		s.maxFrames = min(framesInPart, maxStack()) // as it is now
	}
	cpus, err := onlineCPUs()
	if err != nil {
		return err
	}
	for _, cpu := range cpus {
		e, err := openClock(cpu, f)
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

// Suffices says whether the sampler has room for what another one was opened
// with.
func (s *BPF) Suffices(o Options) bool {
	return s.options.Targets >= o.Targets && (s.options.Children || !o.Children)
}

// Program says which of the programs was loaded, for people.
func (s *BPF) Program() string { return s.program.String() }

// About says what it is.
func (s *BPF) About() About { return About{Event: Event, CPUs: len(s.events)} }

// Notices begins to listen.
func (s *BPF) Notices() (*Notices, error) { return OpenNotices() }

// Stop ends sampling; what was counted can still be drained.
func (s *BPF) Stop() error {
	var first error
	for _, e := range s.events {
		if err := e.disable(); err != nil && first == nil {
			first = fmt.Errorf("stop sampling: %w", err)
		}
	}
	return first
}

func (s *BPF) closeEvents() {
	for _, e := range s.events {
		e.Close()
	}
	s.events = nil
}

// Close gives back everything in the kernel.
func (s *BPF) Close() error {
	s.closeEvents()
	s.loading.Lock()
	defer s.loading.Unlock()
	o := &s.objs
	errs := []error{s.walk.Close()}
	s.tabled.begun = true // no spare any more
	s.leave()
	m := &s.stackMaps
	for _, c := range []io.Closer{m.StackIds0, m.StackIds1, m.OverflowIds0, m.OverflowIds1,
		o.Sample, o.CurrentConfig, o.Filter, o.Targets, o.Cpus, o.Walks,
		o.Counts0, o.Counts1, o.Stacks0, o.Stacks1, o.Regions, o.Spaces, o.TaskStack, o.Programs} {
		errs = append(errs, c.Close()) // to close nil is no error
	}
	return errors.Join(errs...)
}
