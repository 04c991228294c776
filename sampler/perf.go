// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// EventPerf is the Event of a Perf.
const EventPerf = Event + " by perf events"

// Perf is the sampler for where eBPF cannot be had: perf events alone. The
// kernel walks each stack by frame pointer and writes it into a ring; targets
// are told from others here. So each sample costs a copy of its stack, and
// whole user stacks are had of code with frame pointers only.
type Perf struct {
	instead    error // why it is not a BPF
	reach      reach
	countsLost bool // the kernel does, for each event, from Linux 6.0 on
	frequency  profile.Frequency
	cpus       int
	rings      []*ring
	events     []*event
	notices    *Notices // of threads, until somebody asks for them
	running    bool
	last       time.Time // of a drain
	totals     Totals
	names      map[int]string // of threads, by TID
	chain      callchain
	maxFrames  int

	mu      sync.Mutex
	targets map[int]time.Duration // when each was removed, CLOCK_MONOTONIC; 0: it was not
}

// reach is how far perf events are permitted.
type reach uint8

const (
	reachCPUs   reach = iota // whole CPUs, kernel code included
	reachKernel              // threads of processes that may be inspected, kernel code included
	reachUser                // those, but user code alone
)

// OpenPerf makes a sampler that is used because of an error; nil where it was
// chosen.
func OpenPerf(instead error) (*Perf, error) {
	if !process.ShowsOwnPIDs() {
		return nil, session.Unsupported("pid_namespace", "/proc shows the processes of another PID namespace than this program's",
			"mount a /proc of its own, or run it in the PID namespace that /proc shows", nil)
	}
	r, err := findReach()
	if err != nil {
		return nil, eventError(err)
	}
	attr := r.clock(1)
	attr.Read_format = unix.PERF_FORMAT_LOST
	e, err := openEvent(&attr, 0, -1)
	if err == nil {
		e.Close()
	}
	return &Perf{instead: instead, reach: r, countsLost: err == nil, maxFrames: maxStack(), names: map[int]string{}, targets: map[int]time.Duration{}}, nil
}

// findReach tries, on the first CPU and on this thread.
func findReach() (reach, error) {
	cpus, err := onlineCPUs()
	if err != nil {
		return 0, err
	}
	var first error
	for r := reachCPUs; ; r++ {
		pid, cpu := -1, cpus[0]
		if r != reachCPUs {
			pid, cpu = 0, -1
		}
		attr := r.clock(1)
		e, err := openEvent(&attr, pid, cpu)
		if err == nil {
			e.Close()
			return r, nil
		}
		if first == nil {
			first = err
		}
		if r == reachUser || !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
			return 0, first
		}
	}
}

// clock is the event that takes samples.
func (r reach) clock(f profile.Frequency) unix.PerfEventAttr {
	attr := unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_SOFTWARE,
		Config:      unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:        uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample:      uint64(f),
		Sample_type: sampleType,
		Bits: unix.PerfBitFreq | unix.PerfBitExcludeIdle | unix.PerfBitComm | unix.PerfBitTask |
			unix.PerfBitSampleIDAll | unix.PerfBitUseClockID | unix.PerfBitWatermark,
		Clockid: unix.CLOCK_MONOTONIC,
		Wakeup:  1 << 30, // never: we look
	}
	r.restrict(&attr)
	return attr
}

// clock is the event that takes samples of this session.
func (s *Perf) clock() unix.PerfEventAttr {
	attr := s.reach.clock(s.frequency)
	if s.countsLost {
		attr.Read_format = unix.PERF_FORMAT_LOST
	}
	return attr
}

func (r reach) restrict(attr *unix.PerfEventAttr) {
	if r != reachCPUs {
		attr.Bits |= unix.PerfBitInherit
	}
	if r == reachUser {
		// Newer kernels (seen in Debian's 6.12) take a callchain for one of
		// kernel code too, and refuse it, unless told otherwise.
		attr.Bits |= unix.PerfBitExcludeKernel | unix.PerfBitExcludeCallchainKernel
	}
}

// AddTarget lets the samples of a process through.
func (s *Perf) AddTarget(pid int) error {
	s.mu.Lock()
	s.targets[pid] = 0
	s.mu.Unlock()
	if !s.running || s.reach == reachCPUs {
		return nil
	}
	return s.attach(pid)
}

// AddChild lets the samples of a child through: events go over to children.
func (s *Perf) AddChild(pid, _ int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets[pid] = 0
	return nil
}

// RemoveTarget holds back the samples that a process takes from now on.
func (s *Perf) RemoveTarget(pid int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if removed, ok := s.targets[pid]; ok && removed == 0 {
		s.targets[pid] = monotonic()
	}
	return nil
}

// wanted says whether a sample of a process counts.
func (s *Perf) wanted(pid int, at time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	removed, ok := s.targets[pid]
	return ok && (removed == 0 || at <= removed)
}

// forget lets go of targets whose samples are all drained.
func (s *Perf) forget(before time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.targets, func(_ int, removed time.Duration) bool { return removed != 0 && removed < before })
}

// monotonic is the clock of all records.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // only for a clock that does not exist
	}
	return time.Duration(ts.Nano())
}

// Start opens the rings and lets the clock run: that of each CPU, or where only
// threads may be sampled, of each thread.
func (s *Perf) Start(f profile.Frequency) error {
	s.frequency, s.running, s.last = f, true, time.Now()
	cpus, err := onlineCPUs()
	if err != nil {
		return err
	}
	if s.reach != reachCPUs {
		return s.startThreads(cpus)
	}
	for _, cpu := range cpus {
		attr := s.clock()
		e, err := openEvent(&attr, -1, cpu)
		if isOffline(err) {
			continue // it went offline just now
		}
		if err == nil {
			err = s.addRing(e, cpu)
		}
		if err != nil {
			return eventError(err)
		}
	}
	s.cpus = len(s.rings)
	return nil
}

// A ring has room for the deepest stacks of three looks; where not so much
// memory is permitted, for fewer.
const (
	perfPages      = 32
	perfPagesLeast = 8
)

// addRing maps the ring of an event.
func (s *Perf) addRing(e *event, cpu int) error {
	pages := perfPages
	r, err := openRing(e, cpu, pages)
	for ; errors.Is(err, unix.EPERM) && pages > perfPagesLeast; r, err = openRing(e, cpu, pages) {
		pages /= 2
	}
	if err != nil {
		e.Close()
		return err
	}
	s.rings = append(s.rings, r)
	return nil
}

// LookInterval is how often to ask whether a Drain is due, after Start.
func (s *Perf) LookInterval() time.Duration { return lookInterval(s.frequency) }

// Due says whether it is time for a Drain.
func (s *Perf) Due() (bool, error) {
	if time.Since(s.last) >= longestWait {
		return true, nil
	}
	for _, r := range s.rings {
		if r.load(); r.head-r.tail >= uint64(len(r.data)/4) {
			return true, nil
		}
	}
	return false, nil
}

// Drain hands over the samples that are in the rings.
func (s *Perf) Drain(each func(Count)) error {
	s.last = time.Now()
	began := monotonic()
	merged(s.rings, recordTime, func(record []byte) { s.take(record, each) })
	s.forget(began)
	return nil
}

// take takes in one record.
func (s *Perf) take(b []byte, each func(Count)) {
	switch recordKind(b) {
	case unix.PERF_RECORD_SAMPLE:
		s.sample(b, each)
	case unix.PERF_RECORD_LOST: // id, how many; whose they were is not known
		if len(b) >= 24 {
			s.totals.Lost += binary.NativeEndian.Uint64(b[16:])
		}
		clear(s.names) // a new name may be among them
	case unix.PERF_RECORD_THROTTLE:
		s.totals.Throttled++
	default:
		s.live(b)
	}
}

func (s *Perf) sample(b []byte, each func(Count)) {
	at := recordTime(b)
	c := &s.chain
	if !c.parse(b) || !s.wanted(c.pid, at) {
		return
	}
	s.totals.Samples++
	if s.totals.FirstSample == 0 {
		s.totals.FirstSample = at
	}
	stack := profile.Stack{Kernel: c.kernel, User: c.user, Truncated: len(c.all) >= s.maxFrames, Interrupted: 1}
	if len(c.user) > 0 {
		stack.End = profile.EndFallback
	}
	each(Count{Thread: profile.Thread{PID: c.pid, TID: c.tid, Comm: s.name(c.pid, c.tid)}, Stack: stack, N: 1})
}

// name is the name of a thread at this point of the records.
func (s *Perf) name(pid, tid int) string {
	name, ok := s.names[tid]
	if !ok {
		name, _ = process.ThreadName(pid, tid) // of a thread that is gone it stays empty
		s.names[tid] = name
	}
	return name
}

// live keeps the names of threads up to date. Those that never had a sample,
// nor come from one that had, are not in there.
func (s *Perf) live(b []byte) {
	l, ok := parseLife(b)
	if !ok {
		return
	}
	switch recordKind(b) {
	case unix.PERF_RECORD_COMM:
		if _, known := s.names[l.tid]; known {
			s.names[l.tid] = l.name
		}
	case unix.PERF_RECORD_FORK:
		delete(s.names, l.tid)
		if name, known := s.names[l.parent]; known {
			s.names[l.tid] = name
		}
	case unix.PERF_RECORD_EXIT:
		delete(s.names, l.tid)
	}
}

// Totals are what was taken since Start, handed over or lost.
func (s *Perf) Totals() (Totals, error) {
	t := s.totals
	t.Samples += t.Lost
	return t, nil
}

// Stop ends sampling.
func (s *Perf) Stop() error {
	var first error
	stop := func(e *event) {
		if err := e.disable(); err != nil && first == nil {
			first = fmt.Errorf("stop sampling: %w", err)
		}
	}
	for _, r := range s.rings {
		stop(r.event)
	}
	for _, e := range s.events {
		stop(e)
	}
	return first
}

// Finish drains what is left after Stop.
func (s *Perf) Finish(each func(Count)) (Totals, error) {
	if err := s.Drain(each); err != nil {
		return Totals{}, err
	}
	// A record tells of losses only when there is room again, so of the last
	// ones there is none.
	lost := uint64(0)
	for _, r := range s.rings {
		lost += r.event.lost()
	}
	for _, e := range s.events {
		lost += e.lost()
	}
	s.totals.Lost = max(s.totals.Lost, lost)
	return s.Totals()
}

// About says what it is.
func (s *Perf) About() About {
	return About{Event: EventPerf, CPUs: s.cpus, Warning: s.warning()}
}

// warning says what is lost by not having eBPF, why, and how to get it.
func (s *Perf) warning() string {
	if s.instead == nil {
		return ""
	}
	why, remedy := s.instead.Error(), ""
	if e := new(session.Error); errors.As(s.instead, &e) {
		why, remedy = e.Problem, "; "+e.Remedy
	}
	return "sampled by perf events instead of eBPF (" + why + "): " + s.lost() + remedy
}

// lost is what its profiles lack.
func (s *Perf) lost() string {
	lost := "user stacks are walked by frame pointer and are fragments where code has none"
	if s.reach != reachCPUs {
		lost += ", threads that run seldom have too few samples"
	}
	if s.reach == reachUser {
		lost += ", and what runs in the kernel is not sampled"
	}
	return lost
}

// Notices begins to listen.
func (s *Perf) Notices() (*Notices, error) {
	if s.reach == reachCPUs {
		return OpenNotices()
	}
	n := s.notices
	s.notices = nil
	return n, nil
}

// Close gives the rings back.
func (s *Perf) Close() error {
	if s.notices != nil {
		s.notices.Close()
	}
	for _, e := range s.events {
		e.Close()
	}
	for _, r := range s.rings {
		r.Close()
	}
	s.events, s.rings, s.notices = nil, nil, nil
	return nil
}
