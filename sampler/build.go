// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/bpf"
	"github.com/carverauto/serviceradar-profiler/session"
)

// build is one of the two builds of the kernel side (bpf/kernel.h). They are
// the same walk; which one is used is decided by trying.
type build struct {
	name  string // as EnvBuild has it
	about string // for people
	load  func() (*ebpf.CollectionSpec, error)
	// The kernel's own walks yield ids of stack trace maps, not addresses.
	stackIDs bool
}

// builds, the better first.
var builds = []build{
	{"5.4", "the build for Linux 5.4 and newer", bpf.LoadSample, false},
	{"4.9", "the build for Linux 4.9 and newer", bpf.LoadSample49, true},
}

// EnvBuild names the environment variable that allows one build only ("5.4",
// "4.9"): so the build for old kernels is tested on new ones.
const EnvBuild = "SRPROF_BPF_BUILD"

// allowedBuilds are those to try.
func allowedBuilds() ([]build, error) {
	only := os.Getenv(EnvBuild)
	if only == "" {
		return builds, nil
	}
	for _, b := range builds {
		if b.name == only {
			return []build{b}, nil
		}
	}
	return nil, fmt.Errorf("%s=%s: there is no such build; there are 5.4 and 4.9", EnvBuild, only)
}

// program is a way to load the first program: a build of it, with or without
// the right to read memory. A kernel locked down for confidentiality refuses
// programs that may read any; then user stacks are left to the kernel's walk.
type program struct {
	build
	locked bool
}

func (p program) String() string {
	if p.locked {
		return p.about + ", without reading memory (the kernel is locked down)"
	}
	return p.about
}

// openProgram loads the best program that the kernel takes.
func (s *BPF) openProgram() error {
	allowed, err := allowedBuilds()
	if err != nil {
		return err
	}
	var first error
	for _, locked := range []bool{false, true} {
		for _, b := range allowed {
			err := s.openAs(program{b, locked})
			if err == nil {
				return nil
			}
			if first == nil {
				first = err
			}
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) { // nor would the others
				return first
			}
		}
	}
	return first
}

func (s *BPF) openAs(p program) error {
	spec, err := s.spec(p)
	if err != nil {
		return err
	}
	if !p.stackIDs {
		err = spec.LoadAndAssign(&s.objs, nil)
	} else {
		var o struct {
			objects
			stackMaps
		}
		err = spec.LoadAndAssign(&o, nil)
		s.objs, s.stackMaps = o.objects, o.stackMaps
	}
	if err != nil {
		s.objs, s.stackMaps = objects{}, stackMaps{}
		return err
	}
	s.program = p
	return nil
}

// spec reads the objects and fits the maps to the machine: room for four times
// the samples after which a drain is due, should all be new stacks and the drain
// come late.
func (s *BPF) spec(p program) (*ebpf.CollectionSpec, error) {
	spec, err := p.load()
	if err != nil {
		return nil, err
	}
	if p.locked {
		spec.Programs[bpf.SampleProgSample] = spec.Programs[bpf.SampleProgSampleLocked]
	}
	n := uint32(4 * s.dueSamples)
	for _, name := range []string{bpf.SampleMapCounts0, bpf.SampleMapCounts1, bpf.SampleMapStacks0, bpf.SampleMapStacks1} {
		spec.Maps[name].MaxEntries = n
	}
	spec.Maps[bpf.SampleMapRegions].MaxEntries = uint32(s.possible * buffers)
	spec.Maps[bpf.SampleMapCaches].MaxEntries = uint32(s.possible)
	if !s.options.Children {
		spec.Maps[bpf.SampleMapTargets].MaxEntries = session.MaxTargets
	}
	// Two for each target, so that one can be written while the other is read,
	// and the one that is always empty.
	spec.Maps[bpf.SampleMapSpaces].MaxEntries = uint32(1 + 2*s.options.Targets)
	if p.stackIDs {
		for _, name := range []string{bpf.Sample49MapStackIds0, bpf.Sample49MapStackIds1, bpf.Sample49MapOverflowIds0, bpf.Sample49MapOverflowIds1} {
			spec.Maps[name].ValueSize = uint32(8 * s.maxFrames) // more than the kernel's own limit is refused
		}
	}
	return spec, nil
}
