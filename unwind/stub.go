// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"strings"

	"github.com/carverauto/serviceradar-profiler/object"
)

// Stubs are the few instructions through which an object calls functions of
// others. GNU ld describes those it makes for lazy binding, mostly; other
// linkers, static programs (.plt for IFUNCs) and arm64 have none. Without rows
// a sample in a stub would lose its caller, and stubs of hot functions are hot.
// Their code is recognized by its first bytes; only what was recognized to
// push something gets another rule than "nothing was pushed".

func isStubs(s *object.Section) bool {
	return s.Executable() && s.FileSize > 0 && (s.Name == ".plt" || s.Name == ".iplt" || strings.HasPrefix(s.Name, ".plt."))
}

// addStubs adds rows for sections of stubs without any description.
func (b *builder) addStubs(f *object.File) {
	for i, n := 0, 0; i < len(f.Sections()) && n < maxSources; i++ {
		s := &f.Sections()[i]
		if !isStubs(s) {
			continue
		}
		n++
		seg, rel := b.within(uint64(s.ObjAddr))
		if seg == nil {
			continue
		}
		limit := rel + min(uint64(s.FileSize), maxStubs, seg.size-rel)
		if b.described(seg.index, rel, limit) {
			continue
		}
		var code [64]byte
		k, _ := s.ReadAt(code[:], 0)
		sp := span{key: uint64(seg.index)<<32 | rel, limit: uint32(limit), first: uint32(len(b.rows))}
		rows := amd64Stubs
		if f.Machine() == elf.EM_AARCH64 {
			rows = arm64Stubs
		}
		rows(b, uint32(rel), uint32(limit), code[:k])
		if b.full() {
			b.rows = b.rows[:sp.first]
			b.unexpressed[ReasonLimit]++
			return
		}
		sp.count = uint32(len(b.rows)) - sp.first
		b.spans = append(b.spans, sp)
	}
}

// entrySize is how much of undescribed code at the entry point belongs to it:
// ld.so's has 61 bytes, those of C libraries about 40.
const entrySize = 64

// addEntry makes undescribed code at the entry point a root: the kernel (or
// ld.so) jumps there, nobody calls it. C libraries describe their _start as
// such, ld.so does not describe its own. In Go's, BP = 0 says the same.
func (b *builder) addEntry(f *object.File, gos []codeRange) {
	entry := uint64(f.Entry())
	s, rel := b.within(entry)
	if s == nil || entry == 0 || b.described(s.index, rel, rel+1) {
		return
	}
	for _, g := range gos {
		if entry >= g.start && entry < g.limit {
			return
		}
	}
	b.spans = append(b.spans, span{
		key: uint64(s.index)<<32 | rel, limit: uint32(min(rel+entrySize, s.size)),
		first: uint32(len(b.rows)), count: 1,
	})
	b.rows = append(b.rows, Row{uint32(rel), Rule(OpRoot)})
}

// described says whether any function overlaps a range. There are few sections
// of stubs, so looking at all functions is cheap enough.
func (b *builder) described(segment uint32, start, limit uint64) bool {
	for i := range b.spans {
		s := &b.spans[i]
		if s.segment() == segment && uint64(s.start()) < limit && uint64(s.limit) > start {
			return true
		}
	}
	return false
}

// amd64Stubs knows the lazy stubs of the System V ABI (AMD64 supplement,
// section 5.2): the first 16 bytes, where the number of the wanted function is
// on the stack already, push the object and jump to the dynamic linker; each
// of the others jumps, or pushes its number and jumps to the first:
//
//	first   ff 35 … push, at byte 6 jmp
//	others  ff 25 … jmp, at byte 6 68 … push, at byte 11 jmp
//	        f3 0f 1e fa endbr64, at byte 4 68 … push, at byte 9 jmp (with CET)
//
// All other stubs (.plt.got, .plt.sec, those of static programs) only jump.
func amd64Stubs(b *builder, start, limit uint32, code []byte) {
	first := len(b.rows)
	plain, pushed := amd64Rule(OpSP, bpUnchanged, 1), amd64Rule(OpSP, bpUnchanged, 2)
	stub := code
	if len(code) >= 16 && code[0] == 0xff && code[1] == 0x35 && limit-start >= 16 {
		b.row(first, start, pushed)
		b.row(first, start+6, amd64Rule(OpSP, bpUnchanged, 3))
		start, stub = start+16, code[16:]
	}
	if start >= limit {
		return
	}
	has := func(i int, bytes string) bool {
		return len(stub) >= i+len(bytes) && string(stub[i:i+len(bytes)]) == bytes
	}
	switch {
	case has(0, "\xff\x25") && has(6, "\x68") && start&15 == 0:
		b.row(first, start, Rule(OpPLT))
	case has(0, "\xf3\x0f\x1e\xfa\x68") && limit-start <= maxExpand:
		for ; start < limit; start += 16 {
			b.row(first, start, plain)
			if limit-start > 9 {
				b.row(first, start+9, pushed)
			}
		}
	default:
		b.row(first, start, plain)
	}
}

// arm64Stubs knows the stubs of the AArch64 ELF ABI (section "Procedure
// Linkage Table"): nothing is pushed, save by the first 32 bytes, which begin
// with stp x16, x30, [sp, #-16]! (after bti c, where branches are protected).
func arm64Stubs(b *builder, start, limit uint32, code []byte) {
	const (
		push = 0xa9bf7bf0 // stp x16, x30, [sp, #-16]!
		btiC = 0xd503245f
		size = 32
	)
	first := len(b.rows)
	plain := arm64Rule(OpSP, 0, 0, 0)
	b.row(first, start, plain)
	for i := 0; i <= 4 && i+4 <= len(code); i += 4 {
		if w := le.Uint32(code[i:]); w == push && limit-start > size {
			b.row(first, start+uint32(i)+4, arm64Rule(OpSP, 0, 1, 1))
			b.row(first, start+size, plain)
			return
		} else if w != btiC {
			return
		}
	}
}
