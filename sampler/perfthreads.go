// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
)

// Where only processes may be sampled that one may inspect, each of their
// threads has events of its own, one a CPU because the kernel lets threads that
// are born later inherit only such. All events of a CPU write into one ring.

// startThreads opens the rings, then the events of the threads of all targets.
func (s *Perf) startThreads(cpus []int) error {
	var err error
	if s.notices, err = newNotices(); err != nil {
		return err
	}
	for _, cpu := range cpus {
		clock, notice := s.anchor(s.clock()), s.anchor(noticeAttr())
		e, err := openEvent(&clock, 0, cpu)
		if isOffline(err) {
			continue
		}
		if err == nil {
			err = s.addRing(e, cpu)
		}
		if err != nil {
			return eventError(err)
		}
		if e, err = openEvent(&notice, 0, cpu); err == nil {
			err = s.notices.add(e, cpu)
		}
		if err != nil {
			return eventError(err)
		}
	}
	s.cpus = len(s.rings)
	s.mu.Lock()
	pids := slices.Collect(maps.Keys(s.targets))
	s.mu.Unlock()
	for _, pid := range pids {
		if err := s.attach(pid); err != nil {
			return err
		}
	}
	return nil
}

// anchor makes of an event's attributes those of one that has nothing to say
// itself and owns the ring that others write to. It is on a thread of ours.
func (s *Perf) anchor(attr unix.PerfEventAttr) unix.PerfEventAttr {
	s.reach.restrict(&attr)
	attr.Config = unix.PERF_COUNT_SW_DUMMY
	attr.Sample = 0
	attr.Bits &^= unix.PerfBitFreq | unix.PerfBitInherit | unix.PerfBitComm | unix.PerfBitCommExec |
		unix.PerfBitTask | unix.PerfBitMmap | unix.PerfBitMmap2
	return attr
}

// attach opens events on all threads of a process.
//
// A thread that is born meanwhile has them from its parent if that had them
// already, and then a record in a ring says so; else it gets its own. What
// would go wrong without looking: it would be sampled twice.
func (s *Perf) attach(pid int) error {
	const rounds = 8 // a process that bears threads faster than we list them has some that go without
	seen := map[int]bool{}
	for round := range rounds {
		tids, err := process.Threads(pid)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // as with any target that exits
		}
		if err != nil {
			return fmt.Errorf("list the threads of process %d: %w", pid, err)
		}
		if round > 0 {
			time.Sleep(time.Millisecond) // a thread is listed a moment before the record is there
			s.inherited(seen)
		}
		tids = slices.DeleteFunc(tids, func(tid int) bool { return seen[tid] })
		if len(tids) == 0 {
			return nil
		}
		for _, tid := range tids {
			seen[tid] = true
			if err := s.attachThread(tid); err != nil {
				return fmt.Errorf("sample process %d: %w", pid, eventError(err))
			}
		}
	}
	return nil
}

// inherited adds the threads whose birth is in a ring.
func (s *Perf) inherited(seen map[int]bool) {
	for _, r := range s.rings {
		r.load()
		for pos := r.tail; ; {
			record := r.at(pos)
			if record == nil {
				break
			}
			if l, ok := parseLife(record); ok && recordKind(record) == unix.PERF_RECORD_FORK {
				seen[l.tid] = true
			}
			pos += uint64(len(record))
		}
	}
}

// attachThread opens the events of one thread, unless it is gone.
func (s *Perf) attachThread(tid int) error {
	for i, r := range s.rings {
		clock, notice := s.clock(), noticeAttr()
		s.reach.restrict(&notice)
		for _, e := range []struct {
			attr *unix.PerfEventAttr
			to   *event
			keep *[]*event
		}{
			{&notice, s.notices.rings[i].event, &s.notices.events},
			{&clock, r.event, &s.events},
		} {
			opened, err := openEvent(e.attr, tid, r.cpu)
			if errors.Is(err, unix.ESRCH) {
				return nil
			}
			if err != nil {
				return err
			}
			*e.keep = append(*e.keep, opened)
			if err := unix.IoctlSetInt(opened.fd, unix.PERF_EVENT_IOC_SET_OUTPUT, e.to.fd); err != nil {
				return fmt.Errorf("let a thread's event write to the ring of CPU %d: %w", r.cpu, err)
			}
		}
	}
	return nil
}
