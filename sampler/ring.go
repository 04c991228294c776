// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/session"
)

// ring is where the kernel writes the records of one CPU (perf_event_open(2),
// "MMAP layout").
type ring struct {
	event *event
	cpu   int
	mem   []byte // a page of control, then the data
	data  []byte
	buf   []byte // one record, put together where it wraps around
	head  uint64 // what is before it was there at the last load
	tail  uint64 // what is before it was taken out
}

const recordHeader = 8 // u32 type, u16 misc, u16 size

// brokenRecord stands for all up to the head when that makes no sense: records
// were lost.
var brokenRecord = binary.NativeEndian.AppendUint32(nil, unix.PERF_RECORD_LOST)

func init() {
	brokenRecord = append(brokenRecord, make([]byte, 36)...)
	brokenRecord[16] = 1
}

// openRing maps a ring of so many pages, a power of two. The event is the
// ring's from then on.
func openRing(e *event, cpu, pages int) (*ring, error) {
	page := unix.Getpagesize()
	mem, err := unix.Mmap(e.fd, 0, (1+pages)*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if errors.Is(err, unix.EPERM) {
		return nil, session.NotPermitted("ring_memory", "there is no room for the rings of perf events: they count as locked memory",
			"raise sysctl kernel.perf_event_mlock_kb or the limit on locked memory (ulimit -l), or grant CAP_IPC_LOCK", err)
	}
	if err != nil {
		return nil, fmt.Errorf("map the ring of a perf event: %w", err)
	}
	return &ring{event: e, cpu: cpu, mem: mem, data: mem[page:]}, nil
}

func (r *ring) Close() {
	unix.Munmap(r.mem) //nolint:errcheck // cannot fail on our own mapping
	r.event.Close()
}

func (r *ring) control() *unix.PerfEventMmapPage {
	return (*unix.PerfEventMmapPage)(unsafe.Pointer(&r.mem[0]))
}

// load looks how far the kernel has written.
func (r *ring) load() { r.head = atomic.LoadUint64(&r.control().Data_head) }

// peek is the oldest record that was there at the last load, good until it is
// dropped; nil where there is none.
func (r *ring) peek() []byte { return r.at(r.tail) }

func (r *ring) at(pos uint64) []byte {
	if pos >= r.head || r.head-pos < recordHeader {
		return nil
	}
	size := uint64(binary.NativeEndian.Uint16(r.bytes(pos, recordHeader)[6:]))
	if size < recordHeader || size > r.head-pos {
		return brokenRecord // cannot happen
	}
	return r.bytes(pos, size)
}

// drop makes room of the record that was peeked at.
func (r *ring) drop(record []byte) {
	r.tail += uint64(len(record))
	if &record[0] == &brokenRecord[0] {
		r.tail = r.head
	}
	atomic.StoreUint64(&r.control().Data_tail, r.tail)
}

// bytes are n bytes at a position of the ring.
func (r *ring) bytes(pos, n uint64) []byte {
	size := uint64(len(r.data))
	from := pos % size
	if rest := size - from; rest < n {
		r.buf = append(r.buf[:0], r.data[from:]...)
		r.buf = append(r.buf, r.data[:n-rest]...)
		return r.buf
	}
	return r.data[from : from+n]
}

// merged passes the records that are in some rings by now on in the order of
// events: what is about a thread may be in the rings of several CPUs. A record
// is good until the call returns.
func merged(rings []*ring, timeOf func(record []byte) time.Duration, each func(record []byte)) {
	next := make([]time.Duration, len(rings))
	for i, r := range rings {
		r.load()
		next[i] = timeOfNext(r, timeOf)
	}
	for {
		first := 0
		for i := range next {
			if next[i] < next[first] {
				first = i
			}
		}
		if len(rings) == 0 || next[first] == never {
			return
		}
		r := rings[first]
		record := r.peek()
		each(record)
		r.drop(record)
		next[first] = timeOfNext(r, timeOf)
	}
}

const never = time.Duration(1<<63 - 1)

func timeOfNext(r *ring, timeOf func([]byte) time.Duration) time.Duration {
	record := r.peek()
	if record == nil {
		return never
	}
	return timeOf(record)
}
