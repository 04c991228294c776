// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ticks are what the kernel's CPU clock gives anybody at a frequency: plain perf
// events on all CPUs, without a program and without stacks. They are what a
// sampler's counts are held against. CPU time is not: a timer that comes late,
// because the hypervisor ran others or interrupts were off, makes one sample of
// all the periods that it missed, so there are fewer than CPU time makes though
// nobody lost any. This clock is as late as the one under test.
type Ticks struct {
	fds   []int
	rings [][]byte
}

// ticksPages is the room of a CPU in pages, a power of two: with 24 bytes a tick
// three minutes at 999 Hz, so nobody has to read meanwhile.
const ticksPages = 1024

// StartTicks opens the clocks, which run until they are stopped or the test is over. It
// needs root.
func StartTicks(t testing.TB, hz uint64) *Ticks {
	t.Helper()
	attr := unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_SOFTWARE,
		Config:      unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:        uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample:      hz,
		Sample_type: unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME,
		Bits:        unix.PerfBitFreq | unix.PerfBitExcludeIdle | unix.PerfBitUseClockID | unix.PerfBitWatermark | unix.PerfBitTask,
		Clockid:     unix.CLOCK_MONOTONIC,
		Wakeup:      1 << 30, // never
	}
	c := &Ticks{}
	t.Cleanup(c.Stop)
	var online unix.CPUSet
	if err := unix.SchedGetaffinity(0, &online); err != nil {
		t.Fatal(err)
	}
	for cpu := range 8 * int(unsafe.Sizeof(online)) {
		if !online.IsSet(cpu) {
			continue
		}
		fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			t.Fatalf("open a clock on CPU %d: %v", cpu, err)
		}
		c.fds = append(c.fds, fd)
		ring, err := unix.Mmap(fd, 0, (1+ticksPages)*unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatalf("map the ring of a clock: %v", err)
		}
		c.rings = append(c.rings, ring)
	}
	return c
}

// Stop gives everything back.
func (c *Ticks) Stop() {
	for _, ring := range c.rings {
		_ = unix.Munmap(ring) // cannot fail on our own mapping
	}
	for _, fd := range c.fds {
		unix.Close(fd)
	}
	c.rings, c.fds = nil, nil
}

// Of is how often a process, or one that was born of it meanwhile, was running
// when the clocks ticked, between two times of the wall's clock.
func (c *Ticks) Of(t testing.TB, pid int, from, to time.Time) int {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	boot := time.Now().Add(-time.Duration(now.Nano()))
	parents, ticks := map[int]int{}, map[int]int{} // by process
	number := func(b []byte, at int) int { return int(binary.NativeEndian.Uint32(b[at:])) }
	c.records(t, func(b []byte) {
		switch number(b, 0) {
		case unix.PERF_RECORD_SAMPLE: // process, thread, time
			at := boot.Add(time.Duration(binary.NativeEndian.Uint64(b[16:])))
			if !at.Before(from) && at.Before(to) {
				ticks[number(b, 8)]++
			}
		case unix.PERF_RECORD_FORK: // process, parent, and their threads
			if child, parent := number(b, 8), number(b, 12); child != parent {
				parents[child] = parent
			}
		case unix.PERF_RECORD_EXIT:
		default:
			t.Fatalf("a clock has a record of kind %d", number(b, 0))
		}
	})
	n := 0
	for of, count := range ticks {
		for of != pid && of != 0 {
			of = parents[of]
		}
		if of == pid {
			n += count
		}
	}
	return n
}

// records hands over all records so far.
func (c *Ticks) records(t testing.TB, each func(record []byte)) {
	t.Helper()
	for _, ring := range c.rings {
		// perf_event_open(2), "MMAP layout": a page of control, then records. Where
		// the mapping can be written to, what was not taken out is not written over,
		// so all are from the start on.
		head := atomic.LoadUint64(&(*unix.PerfEventMmapPage)(unsafe.Pointer(&ring[0])).Data_head)
		data := ring[unix.Getpagesize():]
		if head > uint64(len(data))-1<<10 {
			t.Fatal("the clock has ticked more than it has room for")
		}
		for b := data[:head]; len(b) >= 8; b = b[binary.NativeEndian.Uint16(b[6:]):] {
			each(b)
		}
	}
}
