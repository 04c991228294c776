// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// ParseRecord is parseRecord, for the fuzz test.
var ParseRecord = parseRecord

// OpenPerfAs opens a Perf that goes only so far: 0 whole CPUs, 1 threads, 2
// threads in user code.
func OpenPerfAs(r int) *Perf {
	p, err := OpenPerf(errors.New("a test"))
	if err != nil {
		panic(err)
	}
	p.reach = reach(r)
	return p
}

// RingPages is the size of a Perf's rings.
const RingPages = perfPages

// Callchain is what a sample's record says.
func Callchain(record []byte) (pid, tid int, kernel, user []profile.Addr, ok bool) {
	var c callchain
	ok = c.parse(record)
	return c.pid, c.tid, c.kernel, c.user, ok
}

// ParseLife is parseLife, for the fuzz test.
func ParseLife(record []byte) (tid, parent int, name string, ok bool) {
	l, ok := parseLife(record)
	return l.tid, l.parent, l.name, ok
}

// ReadRing reads all records of a ring with this content, which begins at a
// position, and returns how many bytes they had.
func ReadRing(data []byte, tail uint64) (records int, left uint64) {
	r := &ring{mem: make([]byte, 4096), data: data, tail: tail}
	r.head = tail + uint64(len(data))
	for b := r.peek(); b != nil; b = r.peek() {
		recordTime(b)
		r.drop(b)
		records++
	}
	return records, r.head - r.tail
}
