// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"cmp"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"time"
)

// ErrFrequency refuses to merge profiles of which only some tell how often they
// sampled: their counts cannot be compared.
var ErrFrequency = errors.New("it does not tell its frequency, and others do")

// Merger makes one profile of several, given one after the other, in which each
// sample keeps its host. It is not safe for concurrent use.
//
// Places in code are the same where they lie at the same place of the same
// object and have the same names; so the hosts of a fleet, which map the same
// files anywhere, share most of what they have. Code that has no such place
// (the kernel lies elsewhere after each boot, and so does what a JIT compiler
// makes) is the same where its names are. A name is only ever believed of the
// samples that came with it: a host cannot rename what another one runs.
//
// What is kept is a few dozen bytes for each thread's stack, and each distinct
// stack once. When there are more than the given number of samples, the
// Merger forgets what few ask for (thread IDs, then PIDs, and at last which
// host it was), and says so in the profile.
type Merger struct {
	out     Profile
	most    int
	forgets detail
	known   bool // frequency
	unknown bool // frequency

	mappings  map[mergedMapping]MappingID
	addresses map[mergedAddress]AddressID
	frames    map[Frame]uint32
	lists     map[string]uint32 // of frames, by their numbers
	threads   map[Thread]uint32
	stacks    stackSet
	samples   map[mergedSample]uint32
	stackOf   []uint32 // by index of sample
	meta      metadataMerger
	scratch   []byte
}

// DefaultMergedSamples is how many samples a Merger keeps before it forgets.
const DefaultMergedSamples = 100_000

// detail is what a Merger still tells samples apart by.
type detail uint8

const (
	keepsThreads detail = iota
	keepsProcesses
	keepsHosts
	keepsNames // of threads
)

type mergedMapping struct {
	kind    MappingKind
	path    string
	buildID BuildID
	offset  int64
	size    Addr
}

type mergedAddress struct {
	mapping MappingID
	at      Addr // relative to the mapping, if the names do not say it all
	obj     ObjAddr
	frames  uint32
}

type mergedSample struct {
	thread, stack uint32
	truncated     bool
}

// NewMerger returns an empty Merger that keeps so many samples in detail; 0
// means DefaultMergedSamples.
func NewMerger(most int) *Merger {
	m := &Merger{
		most:      cmp.Or(most, DefaultMergedSamples),
		mappings:  map[mergedMapping]MappingID{},
		addresses: map[mergedAddress]AddressID{},
		frames:    map[Frame]uint32{},
		lists:     map[string]uint32{},
		stacks:    stackSet{seed: maphash.MakeSeed(), index: map[uint64]uint32{}},
		meta:      newMetadataMerger(),
	}
	m.forget(keepsThreads)
	return m
}

// Add takes in a profile; p is not needed afterwards. The host is that of
// samples which have none; empty means the profile's own.
func (m *Merger) Add(p *Profile, host string) error {
	known := p.Meta.FrequencyHz > 0
	if len(p.Samples) > 0 {
		if known && m.unknown || !known && m.known {
			return ErrFrequency
		}
		m.known, m.unknown = known, !known
	}
	if host == "" && len(p.Meta.Hosts) == 0 {
		host = cmp.Or(p.Meta.Host, "unknown")
	}
	ids := make([]AddressID, len(p.Addresses)) // plus 1; 0 for those that no sample went through yet
	var stack []AddressID
	for i := range p.Samples {
		s := &p.Samples[i]
		stack = stack[:0]
		for _, id := range s.Addresses {
			if ids[id] == 0 {
				ids[id] = m.address(p, &p.Addresses[id]) + 1
			}
			stack = append(stack, ids[id]-1)
		}
		t := s.Thread
		t.Host = cmp.Or(t.Host, host)
		m.put(t, m.stacks.id(stack), s.Truncated, s.Count, p.TimeOf(s))
		m.meta.count(t.Host, s.Count)
		if len(m.out.Samples) > m.most && m.forgets < keepsNames {
			m.forget(m.forgets + 1)
		}
	}
	m.meta.add(&p.Meta, host)
	return nil
}

// Missing notes that a host that is meant gave no profile, and why.
func (m *Merger) Missing(host, why string) { m.meta.missing(host, why) }

// Profile returns what was merged. The Merger is used up.
func (m *Merger) Profile() *Profile {
	p := &m.out
	threads := m.meta.finish(m.forgets)
	p.Meta = m.meta.out
	period := p.Meta.FrequencyHz.Period()
	for i := range p.Samples {
		if s := &p.Samples[i]; s.Time == times(s.Count, period) {
			s.Time = 0
		}
	}
	p.Count()
	p.Meta.Threads = threads
	return p
}

// put counts a stack.
func (m *Merger) put(t Thread, stack uint32, truncated bool, n uint64, time time.Duration) {
	t = m.forgets.of(t)
	thread, ok := m.threads[t]
	if !ok {
		thread = uint32(len(m.threads))
		m.threads[t] = thread
	}
	k := mergedSample{thread, stack, truncated}
	i, ok := m.samples[k]
	if !ok {
		i = uint32(len(m.out.Samples))
		m.samples[k] = i
		m.stackOf = append(m.stackOf, stack)
		m.out.Samples = append(m.out.Samples, Sample{Thread: t, Addresses: m.stacks.all[stack], Truncated: truncated})
	}
	s := &m.out.Samples[i]
	s.Count += n
	if s.Time += time; s.Time < 0 {
		s.Time = math.MaxInt64
	}
}

// forget merges anew what is there, by less.
func (m *Merger) forget(d detail) {
	samples, stackOf := m.out.Samples, m.stackOf
	m.forgets = d
	m.out.Samples, m.stackOf = nil, nil
	m.threads, m.samples = map[Thread]uint32{}, map[mergedSample]uint32{}
	for i := range samples {
		s := &samples[i]
		m.put(s.Thread, stackOf[i], s.Truncated, s.Count, s.Time)
	}
}

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

// address finds or adds an address of a profile.
func (m *Merger) address(p *Profile, a *Address) AddressID {
	in := p.Mapping(a.Mapping)
	frames := a.Frames
	if len(frames) == 0 {
		frames = []Frame{UnknownFrame(in)}
	}
	// Return addresses are where the call is from here on, as in pprof's format.
	k := mergedAddress{mapping: NoMapping, at: a.Lookup(), obj: a.ObjAddr, frames: m.list(frames)}
	start := Addr(0)
	fixed := in.fixed()
	if in != nil {
		k.mapping = m.mapping(in, k.at)
	}
	switch {
	case fixed:
		start = m.out.Mappings[k.mapping].Start
		k.at -= in.Start
	case !frames[0].Unknown:
		k.at, k.obj = 0, 0
	}
	id, ok := m.addresses[k]
	if !ok {
		id = AddressID(len(m.out.Addresses))
		m.addresses[k] = id
		at := a.Lookup()
		if fixed {
			at = start + k.at
		}
		m.out.Addresses = append(m.out.Addresses, Address{Addr: at, Mapping: k.mapping, ObjAddr: a.ObjAddr, Frames: slices.Clone(frames)})
	}
	return id
}

// fixed says whether a place in the mapping is the same wherever it is mapped.
func (m *Mapping) fixed() bool { return m != nil && (m.Kind == MappingObject || m.Kind == MappingVDSO) }

// mapping finds or adds a mapping. All of the kernel is one, and so is all code
// without a file: it grows with what lies in it.
func (m *Merger) mapping(in *Mapping, at Addr) MappingID {
	k := mergedMapping{kind: in.Kind}
	if in.fixed() {
		k = mergedMapping{in.Kind, in.Path, in.BuildID, in.Offset, in.Limit - in.Start}
	} else if in.Kind == MappingKernel {
		k.path = in.Path // modules have theirs
	}
	id, ok := m.mappings[k]
	if !ok {
		id = MappingID(len(m.out.Mappings))
		m.mappings[k] = id
		m.out.Mappings = append(m.out.Mappings, *in)
	}
	if out := &m.out.Mappings[id]; !in.fixed() && at < math.MaxUint64 {
		out.Start, out.Limit = min(out.Start, in.Start, at), max(out.Limit, in.Limit, at+1)
	}
	return id
}

// list numbers a list of frames.
func (m *Merger) list(frames []Frame) uint32 {
	m.scratch = m.scratch[:0]
	for _, f := range frames {
		n, ok := m.frames[f]
		if !ok {
			n = uint32(len(m.frames))
			m.frames[f] = n
		}
		m.scratch = binary.LittleEndian.AppendUint32(m.scratch, n)
	}
	n, ok := m.lists[string(m.scratch)]
	if !ok {
		n = uint32(len(m.lists))
		m.lists[string(m.scratch)] = n
	}
	return n
}

// stackSet is distinct stacks, found by a hash that is always confirmed by
// comparing; the next number stands in for one that is taken.
type stackSet struct {
	seed    maphash.Seed
	index   map[uint64]uint32
	all     [][]AddressID
	blocks  blocks
	scratch []byte
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
			return i
		}
		if slices.Equal(s.all[i], ids) {
			return i
		}
	}
}

// times is count × period, the largest duration if that is too much.
func times(count uint64, period time.Duration) time.Duration {
	high, low := bits.Mul64(count, uint64(period))
	if high != 0 || low > math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(low)
}
