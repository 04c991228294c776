// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/bpf"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// Count is how often one thread was seen with one stack since the last drain.
type Count struct {
	Thread profile.Thread
	Stack  profile.Stack // its slices are good only until the call returns
	N      uint64
}

// scratch is the drain's memory, reused from drain to drain.
type scratch struct {
	keys    []bpf.SampleSampleKey
	counts  []uint64
	hashes  []uint64
	refs    []bpf.SampleStackRef
	stacks  map[uint64]bpf.SampleStackRef
	regions map[uint16]*bpf.SampleRegion // of the CPUs that stacks point to
	loaded  map[uint16]bool              // those read in this drain
	addrs   []profile.Addr
	ids     map[uint64][]profile.Addr // stacks by the words of regions (build for old kernels)
}

func (sc *scratch) init() {
	sc.stacks = map[uint64]bpf.SampleStackRef{}
	sc.regions = map[uint16]*bpf.SampleRegion{}
	sc.loaded = map[uint16]bool{}
	sc.ids = map[uint64][]profile.Addr{}
}

// drainMark is when a drain was, in time and in samples.
type drainMark struct {
	at      time.Time
	samples uint64
}

// Due says whether it is time for a Drain. To drain seldom is cheaper for the
// kernel side: a stack that it has is counted in a third of the time that a new
// one takes, and every drain makes all of them new.
func (s *BPF) Due() (bool, error) {
	if time.Since(s.last.at) >= longestWait {
		return true, nil
	}
	cpus, err := s.cpus()
	if err != nil {
		return false, err
	}
	samples := uint64(0)
	for i := range cpus {
		if c := &cpus[i]; c.Epoch == s.epoch && c.Cursor >= regionFrames/4 {
			return true, nil
		}
		samples += cpus[i].Samples
	}
	return samples-s.last.samples >= s.dueSamples, nil
}

// Drain hands over what was counted since the last drain, while sampling goes
// on in the other buffer.
//
// The idea: the program is told to fill the other buffer from now on (a new
// epoch); once every CPU has left the run it may have been in, nobody writes
// to the old buffer any more, and it can be read and emptied at leisure. So
// nothing is counted twice or between the chairs, and no lock is held in the
// kernel. The price is two of each map.
func (s *BPF) Drain(each func(Count)) error {
	old := int(s.epoch % buffers)
	s.epoch++
	if err := s.objs.CurrentConfig.Put(uint32(0), bpf.SampleConfig{Epoch: s.epoch}); err != nil {
		return fmt.Errorf("drain: change buffer: %w", err)
	}
	taken, err := s.waitUntilLeft()
	if err != nil {
		return err
	}
	s.last = drainMark{time.Now(), taken}
	counts, stacks := s.objs.Counts0, s.objs.Stacks0
	if old == 1 {
		counts, stacks = s.objs.Counts1, s.objs.Stacks1
	}
	sc := &s.scratch
	nc, err := takeAll(counts, &sc.keys, &sc.counts)
	if err != nil {
		return fmt.Errorf("drain counts: %w", err)
	}
	ns, err := takeAll(stacks, &sc.hashes, &sc.refs)
	if err != nil {
		return fmt.Errorf("drain stacks: %w", err)
	}
	clear(sc.stacks)
	clear(sc.loaded)
	for i, h := range sc.hashes[:ns] {
		sc.stacks[h] = sc.refs[i]
	}
	for i := range sc.keys[:nc] {
		if err := s.hand(old, &sc.keys[i], sc.counts[i], each); err != nil {
			return err
		}
	}
	return s.forgetIDs(old)
}

// hand passes one count on with its stack.
func (s *BPF) hand(buffer int, k *bpf.SampleSampleKey, n uint64, each func(Count)) error {
	ref, ok := s.scratch.stacks[k.Stack]
	if !ok {
		s.orphans += n
		return nil
	}
	region, err := s.region(buffer, ref.Cpu)
	if err != nil {
		return err
	}
	kernel, user := int(ref.KernelFrames), int(ref.UserFrames)
	start, end := int(ref.Start), profile.End(ref.End)
	if start+kernel+user > len(region.Addr) {
		return fmt.Errorf("drain: stack at %d of %d frames is outside its region", start, kernel+user)
	}
	a, kernel, err := s.addresses(buffer, ref, region.Addr[start:start+kernel+user])
	if err != nil {
		return err
	}
	s.drained += n
	each(Count{
		Thread: profile.Thread{PID: int(k.Pid), TID: int(k.Tid), Comm: unix.ByteSliceToString(k.Comm[:])},
		Stack: profile.Stack{
			Kernel: a[:kernel],
			User:   a[kernel:],
			End:    end,
			Truncated: kernel >= s.maxFrames || end == profile.EndTruncated ||
				end == profile.EndFallback && len(a)-kernel >= s.maxFrames,
			Interrupted: ref.Interrupted,
		},
		N: n,
	})
	return nil
}

// addresses reads the words of a stack in its region, and returns how many of
// them are of the kernel part.
func (s *BPF) addresses(buffer int, ref bpf.SampleStackRef, words []uint64) ([]profile.Addr, int, error) {
	a := s.scratch.addrs[:0]
	kernel := int(ref.KernelFrames)
	// A user part that the kernel walked is one word, an id. One that our walk
	// went through without all tables has the same end, but addresses: no code
	// lies as low as ids are.
	user := words[kernel:]
	userID := profile.End(ref.End) == profile.EndFallback && len(user) == 1 && user[0] < 2*overflowID
	for i, v := range words {
		byKernel := i < int(ref.KernelFrames) || userID
		if !s.program.stackIDs || !byKernel {
			a = append(a, profile.Addr(v))
			continue
		}
		part, err := s.stackByID(buffer, v)
		if err != nil {
			return nil, 0, err
		}
		a = append(a, part...)
		if i < int(ref.KernelFrames) {
			kernel = len(a)
		}
	}
	s.scratch.addrs = a
	return a, kernel, nil
}

func (s *BPF) region(buffer int, cpu uint16) (*bpf.SampleRegion, error) {
	sc := &s.scratch
	r := sc.regions[cpu]
	if r == nil {
		r = new(bpf.SampleRegion)
		sc.regions[cpu] = r
	}
	if !sc.loaded[cpu] {
		if err := s.objs.Regions.Lookup(uint32(int(cpu)*buffers+buffer), r); err != nil {
			return nil, fmt.Errorf("drain addresses of CPU %d: %w", cpu, err)
		}
		sc.loaded[cpu] = true
	}
	return r, nil
}

// leaveTimeout is generous: a run of the program takes microseconds, but a
// hypervisor may stop a CPU in the middle of one.
const leaveTimeout = 2 * time.Second

// waitUntilLeft returns when every run of the program that may have seen the
// old epoch is over, and how many samples there were then.
func (s *BPF) waitUntilLeft() (uint64, error) {
	before, err := s.cpus()
	if err != nil {
		return 0, err
	}
	now := before
	left := func(i int) bool {
		return before[i].Entered == before[i].Left || now[i].Left != before[i].Left
	}
	deadline := time.Now().Add(leaveTimeout)
	for cpu := 0; cpu < len(before); {
		switch {
		case left(cpu):
			cpu++
			continue
		case time.Now().After(deadline):
			return 0, fmt.Errorf("drain: CPU %d has not left the sampling program within %v", cpu, leaveTimeout)
		}
		time.Sleep(50 * time.Microsecond)
		if now, err = s.cpus(); err != nil {
			return 0, err
		}
	}
	samples := uint64(0)
	for i := range now {
		samples += now[i].Samples
	}
	return samples, nil
}

// cpus reads the states of all CPUs.
func (s *BPF) cpus() ([]bpf.SampleCpu, error) {
	var states []bpf.SampleCpu
	if err := s.objs.Cpus.Lookup(uint32(0), &states); err != nil {
		return nil, fmt.Errorf("read CPU states: %w", err)
	}
	return states, nil
}

// Totals is what the kernel side says of itself since Open.
type Totals struct {
	Samples     uint64        // of the targets, kept or lost
	Lost        uint64        // not kept for lack of room
	FirstSample time.Duration // after boot (CLOCK_MONOTONIC); zero before the first
	Searches    uint64        // unwind rules that were not in the cache
	Throttled   uint64        // times that the kernel held back the clock, where it tells
	LostParts   uint64        // kernel parts that there was no room for, of samples that were kept
}

// Totals reads the counters. After Stop and a Drain of both buffers every
// sample is either handed over or in Lost.
func (s *BPF) Totals() (Totals, error) {
	cpus, err := s.cpus()
	if err != nil {
		return Totals{}, err
	}
	t := Totals{Lost: s.orphans}
	for i := range cpus {
		c := &cpus[i]
		t.Samples += c.Samples
		t.Lost += c.LostStacks + c.LostCounts
		t.Searches += c.Searches
		t.LostParts += c.LostParts
		if first := time.Duration(c.FirstNs); first != 0 && (t.FirstSample == 0 || first < t.FirstSample) {
			t.FirstSample = first
		}
	}
	return t, nil
}

// Finish drains what is left in both buffers after Stop.
func (s *BPF) Finish(each func(Count)) (Totals, error) {
	for range buffers {
		if err := s.Drain(each); err != nil {
			return Totals{}, err
		}
	}
	t, err := s.Totals()
	// Whatever was taken but neither handed over nor counted as lost would be
	// a mistake of ours; it is lost all the same, and must show.
	if err == nil && t.Samples > s.drained+t.Lost {
		t.Lost = t.Samples - s.drained
	}
	return t, err
}

// takeAll empties a hash map into *keys and *values, growing them as needed,
// and returns how many entries there were.
func takeAll[K, V any](m *ebpf.Map, keys *[]K, values *[]V) (int, error) {
	if size := int(m.MaxEntries()); len(*keys) < size {
		*keys, *values = make([]K, size), make([]V, size)
	}
	n, err := takeBatch(m, *keys, *values)
	if errors.Is(err, ebpf.ErrNotSupported) {
		return takeEach(m, *keys, *values)
	}
	return n, err
}

// takeBatch needs Linux 5.6.
func takeBatch[K, V any](m *ebpf.Map, keys []K, values []V) (int, error) {
	var cursor ebpf.MapBatchCursor
	total := 0
	for {
		n, err := m.BatchLookupAndDelete(&cursor, keys[total:], values[total:], nil)
		total += n
		if isNotExist(err) {
			return total, nil // the end
		}
		if err != nil {
			return total, err
		}
		if total == len(keys) {
			return total, nil
		}
	}
}

func takeEach[K, V any](m *ebpf.Map, keys []K, values []V) (int, error) {
	n := 0
	it := m.Iterate()
	for n < len(keys) && it.Next(&keys[n], &values[n]) {
		n++
	}
	if err := it.Err(); err != nil {
		return 0, err
	}
	for i := range keys[:n] {
		if err := m.Delete(&keys[i]); err != nil && !isNotExist(err) {
			return 0, err
		}
	}
	return n, nil
}

func isNotExist(err error) bool { return errors.Is(err, ebpf.ErrKeyNotExist) }
