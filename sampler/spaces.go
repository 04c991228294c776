// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/carverauto/serviceradar-profiler/bpf"
	"github.com/carverauto/serviceradar-profiler/profile"
)

const spaceMappings = 512 // SPACE_MAPPINGS of abi.h

// Mapping is an executable mapping of a target. Without a table it is walked
// by frame pointer.
type Mapping struct {
	Start, Limit profile.Addr
	Bias         profile.Addr // Addr − ObjAddr
	Table        *TableID     // nil: none
	Pending      bool         // a table may come: stacks through it are no whole ones yet
}

// spaces are the descriptions of mappings in the kernel. A process and its
// forked children share one, until one of them maps something else.
type spaces struct {
	mu         sync.Mutex
	inKernel   *ebpf.Map
	generation uint64
	users      []int    // of each, how many targets
	free       []uint32 // the one that is out of use longest first
}

// newSpaces leaves out space 0: it stays empty, for targets that are not
// described yet.
func newSpaces(m *ebpf.Map) *spaces {
	s := &spaces{inKernel: m, users: make([]int, m.MaxEntries())}
	for i := uint32(1); i < m.MaxEntries(); i++ {
		s.free = append(s.free, i)
	}
	return s
}

// describe writes the mappings of a target to a space that is not in use and
// returns it. The caller lets the target point to it, and only then gives back
// the old one: so the kernel never sees a space that is being written. (A walk
// that has just begun may still look at the old one; that is written over only
// after all others that are free.)
func (s *spaces) describe(ms []Mapping) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		return 0, fmt.Errorf("too many processes at once: %w", ErrNoRoom)
	}
	s.generation++
	v := bpf.SampleSpace{Generation: s.generation}
	for i := range ms {
		if ms[i].Pending {
			v.Pending++
		}
	}
	// The kernel side compares signed; in the upper half is only [vsyscall].
	ms = slices.DeleteFunc(ms, func(m Mapping) bool { return m.Limit > 1<<63 })
	slices.SortFunc(ms, func(a, b Mapping) int { return cmp.Compare(a.Start, b.Start) })
	for i, m := range fit(ms, spaceMappings) {
		to := &v.Mappings[i]
		to.Start, to.Limit = uint64(m.Start), uint64(m.Limit)
		if m.Table != nil {
			to.Bias = uint64(m.Bias) + uint64(m.Table.Base)
			to.Page, to.Pages = m.Table.page, m.Table.pages
		}
		v.Count++
	}
	space := s.free[0]
	if err := s.inKernel.Put(space, &v); err != nil {
		return 0, fmt.Errorf("describe mappings to the kernel: %w", err)
	}
	s.free = s.free[1:]
	s.users[space] = 1
	return space, nil
}

// fit makes no more than limit of sorted mappings. Those without a table become
// one with their neighbors: that says of what lies between them too that it is
// code without a table, so stacks go on by frame pointer there, and are counted
// as such. If there are still too many, the smallest lose their tables.
func fit(ms []Mapping, limit int) []Mapping {
	for len(ms) > limit {
		joined := ms[:1]
		for _, m := range ms[1:] {
			if last := &joined[len(joined)-1]; last.Table == nil && m.Table == nil {
				last.Limit = m.Limit
			} else {
				joined = append(joined, m)
			}
		}
		ms = joined
		small := make([]*Mapping, 0, len(ms))
		for i := range ms {
			if ms[i].Table != nil {
				small = append(small, &ms[i])
			}
		}
		slices.SortFunc(small, func(a, b *Mapping) int { return cmp.Compare(a.Limit-a.Start, b.Limit-b.Start) })
		for _, m := range small[:min(len(small), max(0, len(ms)-limit))] {
			m.Table = nil
		}
	}
	return ms
}

// share notes one more user of a space.
func (s *spaces) share(space uint32) {
	s.mu.Lock()
	s.users[space]++
	s.mu.Unlock()
}

// release notes that a user is gone; a space without is free.
func (s *spaces) release(space uint32) {
	if space == 0 {
		return
	}
	s.mu.Lock()
	if s.users[space]--; s.users[space] == 0 {
		s.free = append(s.free, space)
	}
	s.mu.Unlock()
}

// AddChild is AddTarget for a process that was just born to a target: it has
// the parent's mappings, so it is walked like it from the first sample on.
func (s *BPF) AddChild(pid, parent int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	space := s.targets[parent]
	if err := s.objs.Targets.Put(uint32(pid), space); err != nil {
		return fmt.Errorf("add process %d to the sampled ones: %w", pid, err)
	}
	s.targets[pid] = space
	if space != 0 {
		s.spaces.share(space)
	}
	return s.setFilter()
}

// SetMappings tells the kernel what a target has mapped. The error is
// ErrNoRoom when there are more targets than can be described at once.
// OpenTables must have succeeded.
func (s *BPF) SetMappings(pid int, ms []Mapping) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.targets[pid]
	if !ok {
		return nil // removed meanwhile
	}
	space, err := s.spaces.describe(ms)
	if err != nil {
		return err
	}
	if err := s.objs.Targets.Put(uint32(pid), space); err != nil {
		s.spaces.release(space)
		return fmt.Errorf("describe the mappings of process %d: %w", pid, err)
	}
	s.targets[pid] = space
	s.spaces.release(old)
	return nil
}
