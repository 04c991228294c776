// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// NoticeKind says what happened to a process.
type NoticeKind uint8

const (
	NoticeForked   NoticeKind = iota + 1 // PID was born to Parent
	NoticeExecuted                       // PID runs another program: its mappings are gone
	NoticeExited                         // a thread of PID ended
	NoticeThread                         // PID has a thread more
	NoticeMapped                         // PID mapped Mapping, executable
	NoticeMissed                         // notices were lost; look again at everything
)

// Notice is something the kernel says about a process besides samples.
type Notice struct {
	Kind    NoticeKind
	PID     int
	Parent  int // of NoticeForked
	Mapping process.Mapping
	Time    time.Duration // when it happened, CLOCK_MONOTONIC
}

// Notices listens to forks, execs, exits and executable mappings of the whole
// host, which the kernel writes to one ring a CPU (perf_event_open(2), "MMAP
// layout"). They are part of the perf ABI, so unlike tracepoints they have one
// form on all kernels.
type Notices struct {
	rings  []*ring
	events []*event // that write into the rings besides
	queue  []Notice // read, not passed on yet
	poll   int
	wake   int // eventfd that ends Wait
	done   atomic.Bool
}

// ringPages is the size of a ring; a page holds about 40 mappings. A power of
// two, by the ABI.
const ringPages = 8

// OpenNotices begins to listen.
func OpenNotices() (*Notices, error) {
	cpus, err := onlineCPUs()
	if err != nil {
		return nil, err
	}
	n, err := newNotices()
	if err != nil {
		return nil, err
	}
	for _, cpu := range cpus {
		attr := noticeAttr()
		e, err := openEvent(&attr, -1, cpu)
		if isOffline(err) {
			continue
		}
		if err == nil {
			err = n.add(e, cpu)
		}
		if err != nil {
			n.Close()
			return nil, eventError(err)
		}
	}
	return n, nil
}

// noticeAttr is the event that writes them.
func noticeAttr() unix.PerfEventAttr {
	return unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_SOFTWARE,
		Config:      unix.PERF_COUNT_SW_DUMMY,
		Size:        uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample_type: unix.PERF_SAMPLE_TIME, // with SampleIDAll: each record ends with its time
		Bits: unix.PerfBitMmap | unix.PerfBitMmap2 | unix.PerfBitComm | unix.PerfBitCommExec |
			unix.PerfBitTask | unix.PerfBitSampleIDAll | unix.PerfBitWatermark | unix.PerfBitUseClockID,
		Clockid: unix.CLOCK_MONOTONIC,
		Wakeup:  1, // byte: wake at once, so that a child is sampled from its birth
	}
}

// newNotices has no rings yet.
func newNotices() (*Notices, error) {
	n := &Notices{poll: -1, wake: -1}
	var err error
	if n.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("listen to processes: %w", err)
	}
	if n.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		n.Close()
		return nil, fmt.Errorf("listen to processes: %w", err)
	}
	if err := n.watch(n.wake); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// add listens to the ring of an event too, which is closed with the others.
func (n *Notices) add(e *event, cpu int) error {
	r, err := openRing(e, cpu, ringPages)
	if err != nil {
		e.Close()
		return err
	}
	n.rings = append(n.rings, r)
	return n.watch(e.fd)
}

func (n *Notices) watch(fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(n.poll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("listen to processes: %w", err)
	}
	return nil
}

// Wait returns when there is something to Read, or false after Stop.
func (n *Notices) Wait() bool {
	var ev [8]unix.EpollEvent
	for !n.done.Load() {
		k, err := unix.EpollWait(n.poll, ev[:], -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
		if k > 0 && !n.done.Load() {
			return true
		}
	}
	return false
}

// Stop ends Wait, from any goroutine.
func (n *Notices) Stop() {
	n.done.Store(true)
	one := [8]byte{1}
	unix.Write(n.wake, one[:]) //nolint:errcheck // a full eventfd wakes as well
}

// maxPasses is far more than are needed: records come slower than they are read.
const maxPasses = 64

// Read passes on what was noticed since the last call, in the order of events.
//
// What caused a notice was in some ring before it: a fork on one CPU before the
// exec of the child on another. So when a pass over the rings found something,
// the causes that a ring got after its turn are found by the next pass, and
// when a pass finds nothing more, nothing is missing.
//
// It may be called again while each runs; that call passes on what is left.
func (n *Notices) Read(each func(Notice)) {
	from := len(n.queue)
	for range maxPasses {
		before := len(n.queue)
		for _, r := range n.rings {
			n.hear(r)
		}
		if len(n.queue) == before {
			break
		}
	}
	slices.SortStableFunc(n.queue[from:], func(a, b Notice) int { return cmp.Compare(a.Time, b.Time) })
	for len(n.queue) > 0 {
		next := n.queue[0]
		n.queue = n.queue[1:]
		each(next)
	}
}

// hear takes in what is in a ring.
func (n *Notices) hear(r *ring) {
	r.load()
	for record := r.peek(); record != nil; record = r.peek() {
		if notice, ok := parseRecord(record); ok {
			n.queue = append(n.queue, notice)
		}
		r.drop(record)
	}
}

// Close gives the rings back. Wait must have returned.
func (n *Notices) Close() {
	for _, r := range n.rings {
		r.Close()
	}
	for _, e := range n.events {
		e.Close()
	}
	n.rings, n.events = nil, nil
	for _, fd := range []*int{&n.poll, &n.wake} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

const miscCommExec = 1 << 13 // PERF_RECORD_MISC_COMM_EXEC

// parseRecord parses one record, its header included, as perf_event_open(2)
// lays it out. It reports false for records of no interest.
func parseRecord(b []byte) (Notice, bool) {
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	kind, misc := u32(0), binary.NativeEndian.Uint16(b[4:])
	if len(b) < 32 { // none of ours is that short
		return Notice{}, false
	}
	n := Notice{PID: int(u32(8)), Time: time.Duration(u64(len(b) - 8))}
	switch kind {
	case unix.PERF_RECORD_LOST:
		n = Notice{Kind: NoticeMissed, Time: n.Time}
	case unix.PERF_RECORD_FORK: // pid, ppid, tid, ptid: threads have the parent's pid
		n.Kind, n.Parent = NoticeForked, int(u32(12))
		if n.PID == n.Parent {
			n.Kind = NoticeThread
		}
	case unix.PERF_RECORD_EXIT:
		n.Kind = NoticeExited
	case unix.PERF_RECORD_COMM:
		n.Kind = NoticeExecuted
		return n, misc&miscCommExec != 0
	case unix.PERF_RECORD_MMAP2:
		return parseMapped(n, b)
	default:
		return Notice{}, false
	}
	return n, true
}

// parseMapped parses a PERF_RECORD_MMAP2: pid, tid, addr, len, pgoff, maj,
// min, ino, ino generation, prot, flags, filename.
func parseMapped(n Notice, b []byte) (Notice, bool) {
	const name = 72
	if len(b) < name+8 {
		return Notice{}, false
	}
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	n.Kind = NoticeMapped
	n.Mapping.Start = profile.Addr(u64(16))
	n.Mapping.Limit = profile.Addr(u64(16) + u64(24))
	n.Mapping.Offset = int64(u64(32))
	n.Mapping.Device = process.Device{Major: u32(40), Minor: u32(44)}
	n.Mapping.Inode = u64(48)
	path, _, _ := strings.Cut(string(b[name:len(b)-8]), "\x00")
	n.Mapping.SetPath(strings.TrimSuffix(path, "//anon"))
	return n, true
}
