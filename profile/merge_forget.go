// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
)

// detail is what a Merger still tells samples apart by.
type detail uint8

const (
	keepsThreads detail = iota
	keepsProcesses
	keepsHosts
	keepsNames // of threads
)

// of is what is left of a thread.
func (d detail) of(t Thread) Thread {
	if d >= keepsProcesses {
		t.TID = 0
	}
	if d >= keepsHosts {
		t.PID = 0
	}
	if d >= keepsNames {
		t.Host = ""
	}
	return t
}

// What a Merger does where stacks are many. Its numbers of samples and of
// frames in distinct stacks are bounded, so that a fleet which runs a thousand
// programs, or a host that makes up stacks, takes no more memory than another.
const (
	wholeStacks     = math.MaxInt
	rareFrames      = 32 // how many frames rare stacks keep at first
	framesASample   = 64 // times the most samples: more than that are shrunk
	keptByShrinking = 2  // the most, divided by that, is how much may be left
	keptAsTheyWere  = 4  // and by that, of the most frequent samples
)

// makeRoom forgets something if there is too much. It reports whether addresses
// have other IDs now.
func (m *Merger) makeRoom() bool {
	for len(m.samples) > m.most && m.forgets < keepsNames {
		m.forgets++
		m.countAgain()
	}
	if len(m.samples) <= m.most && m.stacks.frames <= m.most*framesASample {
		return false
	}
	m.shrink()
	return true
}

// countAgain merges anew what is there, by less.
func (m *Merger) countAgain() {
	samples, threads := m.samples, m.threads
	m.resetSamples()
	for _, s := range samples {
		m.put(threads[s.thread], s.stack, s.truncated, s.count, s.time)
	}
}

// shrink keeps the innermost frames of rare stacks, so many that enough of them
// are the same then; if none are, how often they were seen. It cuts down to a
// part of what fits, so that there is no need to do it all the time.
func (m *Merger) shrink() {
	m.depth = min(m.depth, rareFrames)
	for {
		m.cut(m.frequent())
		if m.depth == 0 || len(m.samples) <= m.most/keptByShrinking && m.stacks.frames <= m.most*framesASample/keptByShrinking {
			return
		}
		m.depth /= 2
	}
}

// frequent says by sample which ones keep their stacks.
func (m *Merger) frequent() []bool {
	order := make([]uint32, len(m.samples))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(m.samples[b].time, m.samples[a].time), cmp.Compare(m.samples[b].count, m.samples[a].count), cmp.Compare(a, b))
	})
	keep, counted, frames := make([]bool, len(order)), make([]bool, len(m.stacks.all)), 0
	for _, i := range order[:min(len(order), m.most/keptAsTheyWere)] {
		if stack := m.samples[i].stack; !counted[stack] {
			counted[stack] = true
			frames += len(m.stacks.all[stack])
		}
		if frames > m.most*framesASample/keptAsTheyWere {
			break
		}
		keep[i] = true
	}
	return keep
}

// cut merges anew what is there, all but some samples by less of their stacks.
func (m *Merger) cut(keep []bool) {
	samples, threads, stacks := m.samples, m.threads, m.stacks.all
	old := Profile{Mappings: m.out.Mappings, Addresses: m.out.Addresses}
	m.resetPlaces()
	m.resetSamples()
	ids := make([]AddressID, len(old.Addresses))
	for i, s := range samples {
		t, stack := threads[s.thread], stacks[s.stack]
		if !keep[i] && len(stack) > m.depth {
			stack, s.truncated = stack[:m.depth], true
		}
		if !keep[i] && m.depth == 0 {
			t = Thread{}
		}
		m.put(t, m.stack(&old, stack, ids), s.truncated, s.count, s.time)
	}
}

func (m *Merger) resetSamples() {
	m.threadIDs, m.threads = map[Thread]uint32{}, nil
	m.sampleIDs, m.samples = map[mergedSample]uint32{}, nil
}

func (m *Merger) resetPlaces() {
	m.addresses, m.out.Addresses = map[mergedAddress]AddressID{}, nil
	m.frames, m.lists = map[Frame]uint32{}, map[string]uint32{}
	m.stacks = newStackSet()
}

// stackSet is distinct stacks, found by a hash that is always confirmed by
// comparing; the next number stands in for one that is taken.
type stackSet struct {
	seed    maphash.Seed
	index   map[uint64]uint32
	all     [][]AddressID
	frames  int // of all of them
	blocks  blocks
	scratch []byte
}

func newStackSet() stackSet {
	return stackSet{seed: maphash.MakeSeed(), index: map[uint64]uint32{}}
}

func (s *stackSet) id(ids []AddressID) uint32 {
	s.scratch = s.scratch[:0]
	for _, id := range ids {
		s.scratch = binary.LittleEndian.AppendUint32(s.scratch, uint32(id))
	}
	for h := maphash.Bytes(s.seed, s.scratch); ; h++ {
		i, ok := s.index[h]
		if !ok {
			i = uint32(len(s.all))
			s.index[h] = i
			s.all = append(s.all, s.blocks.keep(ids))
			s.frames += len(ids)
			return i
		}
		if slices.Equal(s.all[i], ids) {
			return i
		}
	}
}
