// SPDX-License-Identifier: Apache-2.0

package sampler_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
)

// record makes a record of a kind from 64-bit words.
func record(kind uint32, words ...uint64) []byte {
	b := binary.NativeEndian.AppendUint32(nil, kind)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint16(b, uint16(8+8*len(words)))
	for _, w := range words {
		b = binary.NativeEndian.AppendUint64(b, w)
	}
	return b
}

const (
	kindComm, kindFork, kindSample = 3, 7, 9
	thread                         = 12<<32 | 11 // PID 11, TID 12, little endian
)

func neg(n uint64) uint64 { return ^n + 1 }

func TestCallchain(t *testing.T) {
	kernel, user, guest := neg(128), neg(512), neg(2048)
	for _, c := range []struct {
		name         string
		chain        []uint64
		kernel, user []profile.Addr
	}{
		{"both parts", []uint64{kernel, 1 << 63, 1<<63 + 1, user, 7, 8, 9}, []profile.Addr{1 << 63, 1<<63 + 1}, []profile.Addr{7, 8, 9}},
		{"user alone", []uint64{user, 7}, nil, []profile.Addr{7}},
		{"kernel alone", []uint64{kernel, 1 << 63}, []profile.Addr{1 << 63}, nil},
		{"a guest's", []uint64{guest, 3, user, 7}, nil, []profile.Addr{7}},
		{"a mark between", []uint64{user, 7, neg(640), 5, user, 8}, nil, []profile.Addr{7, 8}},
		{"nothing", nil, nil, nil},
		{"no mark", []uint64{7, 8}, nil, nil},
	} {
		b := record(kindSample, append([]uint64{thread, 1000, uint64(len(c.chain))}, c.chain...)...)
		pid, tid, k, u, ok := sampler.Callchain(b)
		if !ok || pid != 11 || tid != 12 || !slices.Equal(k, c.kernel) || !slices.Equal(u, c.user) {
			t.Errorf("%s: %d/%d %v %v %v, want %v %v", c.name, pid, tid, k, u, ok, c.kernel, c.user)
		}
	}
	if _, _, _, _, ok := sampler.Callchain(record(kindSample, thread, 1000, 3, user, 7)); ok {
		t.Error("a chain longer than its record is taken")
	}
}

func TestLife(t *testing.T) {
	comm := record(kindComm, thread, binary.NativeEndian.Uint64([]byte("worker\x00\x00")), thread, 5)
	if tid, _, name, ok := sampler.ParseLife(comm); !ok || tid != 12 || name != "worker" {
		t.Errorf("%d %q %v", tid, name, ok)
	}
	fork := record(kindFork, 10<<32|11, 9<<32|12, 5, thread, 5)
	if tid, parent, _, ok := sampler.ParseLife(fork); !ok || tid != 12 || parent != 9 {
		t.Errorf("%d %d %v", tid, parent, ok)
	}
}

// Records come from the kernel, but what is in them (names, addresses that a
// walk found on a stack) does not.
func FuzzPerfRecord(f *testing.F) {
	f.Add(record(kindSample, thread, 1000, 4, neg(128), 1<<63, neg(512), 7))
	f.Add(record(kindComm, thread, 1, thread, 5))
	f.Add(record(kindFork, 10<<32|11, 9<<32|12, 5, thread, 5))
	f.Add(make([]byte, 8))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 8 {
			return // a ring never passes on less than a header
		}
		if _, _, k, u, ok := sampler.Callchain(b); ok && 8*(len(k)+len(u)) > len(b) {
			t.Errorf("%d addresses of %d bytes", len(k)+len(u), len(b))
		}
		sampler.ParseLife(b)
	})
}

// A ring ends, whatever is in it.
func FuzzRing(f *testing.F) {
	two := append(record(kindComm, thread, 1, thread, 5), record(kindSample, thread, 1000, 1, 7)...)
	f.Add(append(two, make([]byte, 128-len(two))...), uint64(64))
	f.Add(make([]byte, 128), uint64(1<<63))
	f.Fuzz(func(t *testing.T, data []byte, tail uint64) {
		if len(data) < 64 || len(data)&(len(data)-1) != 0 || tail%8 != 0 || tail > 1<<63 {
			return // not as the kernel makes them
		}
		if n, left := sampler.ReadRing(data, tail); left >= 8 || n > len(data)/8 {
			t.Errorf("%d records of %d bytes, %d left", n, len(data), left)
		}
	})
}
