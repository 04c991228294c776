// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"encoding/binary"
	"slices"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// Some code has its CFA on RBX, because it aligns its stack: ld.so's
// _dl_runtime_resolve, where every function is called for the first time when
// it is bound lazily. In the leaf RBX is known. Further out it is not: but the
// function that was called has saved it, at a fixed distance from its CFA, and
// its CFA is our SP. So where such code calls a function that says where it
// keeps RBX,
//
//	CFA = RBX + o   becomes   CFA = *(SP − 8·kept) + o
//
// for that one return address. It is looked up by the last byte of the call,
// which is no instruction's address, so the leaf's rule stays as it is. (Before
// the called function has saved RBX, its first few instructions, the word is
// something else, and the stack ends there.)

// Limits: only a handful of functions in the world are such.
const (
	maxKeptRanges = 32
	maxKeptCode   = 1 << 12 // bytes of one
)

// callSize is the size of call rel32, e8 and four bytes.
const callSize = 5

// addKept writes such rules.
func (b *builder) addKept(f *object.File) {
	if b.arch != &amd64 {
		return
	}
	ranges := 0
	for i := range b.spans {
		sp := &b.spans[i]
		rows := b.rows[sp.first : sp.first+sp.count]
		if ranges == maxKeptRanges || !slices.ContainsFunc(rows, func(r Row) bool { return isOnKept(r.Rule) }) {
			continue
		}
		ranges++
		b.keptIn(f, sp)
	}
}

// isOnKept says whether a rule's CFA hangs on RBX and nothing else is unusual.
func isOnKept(r Rule) bool {
	o := r.off() >> 4
	return r.Op() == OpRegister && r.off()&15 == amd64RBX && r.bp() == bpUnchanged && o >= 0 && o < 256
}

// keptIn rewrites the rows of one function.
func (b *builder) keptIn(f *object.File, sp *span) {
	s := &b.segments[sp.segment()]
	old := b.rows[sp.first : sp.first+sp.count]
	var rows []Row
	for i, r := range old {
		rows = append(rows, r)
		limit := sp.limit
		if i+1 < len(old) {
			limit = old[i+1].Addr
		}
		if !isOnKept(r.Rule) || limit-r.Addr > maxKeptCode {
			continue
		}
		code := make([]byte, limit-r.Addr)
		if f.ReadObj(code, profile.ObjAddr(s.base+uint64(r.Addr))) != nil {
			continue
		}
		for at := 0; at+callSize <= len(code); at++ {
			to := int64(r.Addr) + int64(at) + callSize + int64(int32(binary.LittleEndian.Uint32(code[at+1:])))
			if code[at] != 0xe8 { // call rel32
				continue
			}
			if kept := b.keptBy(s.index, to); kept != 0 {
				end := r.Addr + uint32(at) + callSize
				rows = append(rows, Row{end - 1, amd64Rule(OpDerefSP, uint8(r.Rule.off()>>4), -int32(kept))}, Row{end, r.Rule})
				at += callSize - 1
			}
		}
	}
	if len(rows) == len(old) || len(b.rows)+len(rows)+len(b.spans) >= b.limit {
		return
	}
	sp.first, sp.count = uint32(len(b.rows)), uint32(len(rows))
	b.rows = append(b.rows, rows...)
}

// keptBy is where the function at an address of the segment keeps RBX, in words
// below its CFA; 0 if that is no function, or does not say. So a byte e8 that
// is no call does no harm.
func (b *builder) keptBy(segment uint32, addr int64) uint8 {
	for i := range b.spans {
		if s := &b.spans[i]; s.segment() == segment && int64(s.start()) == addr {
			return s.kept
		}
	}
	return 0
}
