// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"cmp"
	"encoding/binary"
	"errors"
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
// Merger forgets what few ask for: thread IDs, then PIDs, then which host it
// was, and at last where rare stacks came from, further and further (see
// shrink). It says so in the profile; how many samples there were is always
// right.
type Merger struct {
	out     Profile // without its samples
	most    int
	forgets detail
	depth   int  // rare stacks are cut to so many frames
	known   bool // frequency
	unknown bool // frequency

	mappings  map[mergedMapping]MappingID
	addresses map[mergedAddress]AddressID
	frames    map[Frame]uint32
	lists     map[string]uint32 // of frames, by their numbers
	threadIDs map[Thread]uint32
	threads   []Thread // by their numbers
	stacks    stackSet
	sampleIDs map[mergedSample]uint32
	samples   []mergedCount // by their numbers
	meta      metadataMerger
	scratch   []byte
	stacked   []AddressID // scratch, too
}

// DefaultMergedSamples is how many samples a Merger keeps before it forgets.
const DefaultMergedSamples = 100_000

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

// mergedCount is a sample, and how often it was seen.
type mergedCount struct {
	mergedSample
	count uint64
	time  time.Duration
}

// NewMerger returns an empty Merger that keeps so many samples in detail; 0
// means DefaultMergedSamples.
func NewMerger(most int) *Merger {
	m := &Merger{
		most:     cmp.Or(most, DefaultMergedSamples),
		depth:    wholeStacks,
		mappings: map[mergedMapping]MappingID{},
		meta:     newMetadataMerger(),
	}
	m.resetPlaces()
	m.resetSamples()
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
	ids := make([]AddressID, len(p.Addresses))
	for i := range p.Samples {
		s := &p.Samples[i]
		t := s.Thread
		t.Host = cmp.Or(t.Host, host)
		m.put(t, m.stack(p, s.Addresses, ids), s.Truncated, s.Count, p.TimeOf(s))
		m.meta.count(t.Host, s.Count)
		if m.makeRoom() {
			clear(ids) // they may be others
		}
	}
	m.meta.add(&p.Meta, host)
	return nil
}

// Missing notes that a host that is meant gave no profile, and why.
func (m *Merger) Missing(host, why string) { m.meta.missing(host, why) }

// Profile returns what was merged. The Merger is used up.
func (m *Merger) Profile() *Profile {
	m.addresses, m.frames, m.lists, m.threadIDs, m.sampleIDs, m.stacks.index = nil, nil, nil, nil, nil, nil // makes room
	p := &m.out
	p.Meta = m.meta.finish(m.forgets, m.depth)
	period := p.Meta.FrequencyHz.Period()
	p.Samples = make([]Sample, len(m.samples))
	for i, s := range m.samples {
		if s.time == times(s.count, period) {
			s.time = 0
		}
		p.Samples[i] = Sample{Thread: m.threads[s.thread], Addresses: m.stacks.all[s.stack], Truncated: s.truncated, Count: s.count, Time: s.time}
	}
	p.countSamples()
	return p
}

// put counts a stack.
func (m *Merger) put(t Thread, stack uint32, truncated bool, n uint64, time time.Duration) {
	t = m.forgets.of(t)
	thread, ok := m.threadIDs[t]
	if !ok {
		thread = uint32(len(m.threads))
		m.threadIDs[t] = thread
		m.threads = append(m.threads, t)
	}
	k := mergedSample{thread, stack, truncated}
	i, ok := m.sampleIDs[k]
	if !ok {
		i = uint32(len(m.samples))
		m.sampleIDs[k] = i
		m.samples = append(m.samples, mergedCount{mergedSample: k})
	}
	s := &m.samples[i]
	s.count += n
	if s.time += time; s.time < 0 {
		s.time = math.MaxInt64
	}
}

// stack numbers a stack of a profile. The ids are those of its addresses here,
// plus 1: 0 where it is not known yet.
func (m *Merger) stack(p *Profile, in []AddressID, ids []AddressID) uint32 {
	m.stacked = m.stacked[:0]
	for _, id := range in {
		if ids[id] == 0 {
			ids[id] = m.address(p, &p.Addresses[id]) + 1
		}
		m.stacked = append(m.stacked, ids[id]-1)
	}
	return m.stacks.id(m.stacked)
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

// times is count × period, the largest duration if that is too much.
func times(count uint64, period time.Duration) time.Duration {
	high, low := bits.Mul64(count, uint64(period))
	if high != 0 || low > math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(low)
}
