// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// What the records of a Perf are made of (perf_event_open(2)): each has the
// thread and the time, a sample where its type says, all others at their end.
const (
	sampleType   = unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME | unix.PERF_SAMPLE_CALLCHAIN
	sampleTime   = recordHeader + 8       // after pid, tid
	sampleChain  = recordHeader + 8 + 8   // u64 count, then the addresses
	trailer      = 8 + 8                  // pid, tid, time
	shortRecord  = recordHeader + trailer // none of ours is shorter
	contextLimit = ^uint64(4095) + 1      // PERF_CONTEXT_MAX: what is not below is no address
)

// Marks in a callchain that say whose the addresses after them are.
const (
	contextKernel = ^uint64(128) + 1 // PERF_CONTEXT_KERNEL
	contextUser   = ^uint64(512) + 1 // PERF_CONTEXT_USER
)

func recordKind(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

// recordTime is when a record was written, CLOCK_MONOTONIC; zero where it is
// too short to tell.
func recordTime(b []byte) time.Duration {
	at := len(b) - 8
	if recordKind(b) == unix.PERF_RECORD_SAMPLE {
		at = sampleTime
	}
	if len(b) < shortRecord {
		return 0
	}
	return time.Duration(binary.NativeEndian.Uint64(b[at:]))
}

// callchain is what a sample says, leaf first; its slices are parts of one.
type callchain struct {
	pid, tid     int
	kernel, user []profile.Addr
	all          []profile.Addr
}

// parse takes in a PERF_RECORD_SAMPLE. It reports false where the record is no
// such one.
func (c *callchain) parse(b []byte) bool {
	if len(b) < sampleChain+8 {
		return false
	}
	n := binary.NativeEndian.Uint64(b[sampleChain:])
	words := b[sampleChain+8:]
	if n > uint64(len(words)/8) {
		return false
	}
	c.pid = int(int32(binary.NativeEndian.Uint32(b[recordHeader:])))
	c.tid = int(int32(binary.NativeEndian.Uint32(b[recordHeader+4:])))
	c.all = c.all[:0]
	context, kernel := uint64(0), 0
	for ; n > 0; n, words = n-1, words[8:] {
		a := binary.NativeEndian.Uint64(words)
		switch {
		case a >= contextLimit:
			context = a
			continue
		case context == contextKernel && kernel == len(c.all):
			kernel++
		case context != contextUser:
			continue // a guest's, or a hypervisor's
		}
		c.all = append(c.all, profile.Addr(a))
	}
	c.kernel, c.user = c.all[:kernel], c.all[kernel:]
	return true
}

// life is a record about a thread rather than a sample.
type life struct {
	tid, parent int    // of a fork: of the thread that did it
	name        string // of a PERF_RECORD_COMM
}

// parseLife parses a PERF_RECORD_COMM, _FORK or _EXIT.
func parseLife(b []byte) (l life, ok bool) {
	u32 := func(at int) int { return int(int32(binary.NativeEndian.Uint32(b[at:]))) }
	switch recordKind(b) {
	case unix.PERF_RECORD_COMM: // pid, tid, name
		if len(b) < 16+trailer {
			return l, false
		}
		return life{tid: u32(12), name: unix.ByteSliceToString(b[16 : len(b)-trailer])}, true
	case unix.PERF_RECORD_FORK, unix.PERF_RECORD_EXIT: // pid, ppid, tid, ptid, time
		if len(b) < 32+trailer {
			return l, false
		}
		return life{tid: u32(16), parent: u32(20)}, true
	}
	return l, false
}
