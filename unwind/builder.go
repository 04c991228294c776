// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"cmp"
	"math"
	"slices"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// builder collects the rows of all functions in the order in which they come,
// then puts them in order of addresses. Linkers keep the order of the code
// mostly but not always (.text.unlikely and the like are moved), so sorting the
// functions at the end is cheap and sorting rows is not needed at all. The
// price: for a moment all rows exist twice, unless a [Draft] will do.
type builder struct {
	machine
	segments  []segment
	rows      []Row
	spans     []span
	restorers []uint64 // where signal handlers return to, without a description
	functions int
	limit     int  // of rows
	overflow  bool // it was reached: no more functions are read
	window    []byte
}

// segment is an executable one.
type segment struct {
	base  uint64
	size  uint64 // addresses in tables have 32 bits, so at most 4 GiB of it
	index uint32
}

// span is one function's rows.
type span struct {
	key   uint64 // segment and start in it: what to sort by
	limit uint32
	first uint32 // in rows
	count uint32
	kept  uint8 // see machine
}

func (s *span) start() uint32   { return uint32(s.key) }
func (s *span) segment() uint32 { return uint32(s.key >> 32) }

func (b *builder) prepare(f *object.File, sources []source) {
	for i := range f.Segments() {
		if s := &f.Segments()[i]; s.Executable() && s.MemSize > 0 && len(b.segments) < maxSegments {
			b.segments = append(b.segments, segment{uint64(s.ObjAddr), min(s.MemSize, math.MaxUint32), uint32(len(b.segments))})
		}
	}
	b.limit = bound(f, sources) - fixedRows
	b.rows = make([]Row, 0, b.limit/2)                              // what real files need, see Bound
	b.spans = make([]span, 0, b.limit*bytesPerRow/bytesPerFunction) // what is not needed is never touched
}

// full says that there is no room for more rows. Each function may need one
// more for the gap behind it.
func (b *builder) full() bool { return len(b.rows)+len(b.spans) >= b.limit }

// within returns the segment of an address and the address relative to it.
func (b *builder) within(addr uint64) (*segment, uint64) {
	for i := range b.segments {
		s := &b.segments[i]
		if rel := addr - s.base; addr >= s.base && rel < s.size {
			return s, rel
		}
	}
	return nil, 0
}

// add runs a function's instructions. What does not lie in code that can run is
// left out: linkers leave descriptions of code that they threw away, at 0.
func (b *builder) add(e *cie, start, size uint64, instructions []byte, src *source, at int64) {
	s, rel := b.within(start)
	if s == nil || size == 0 {
		return
	}
	if e.signal {
		// It ends in the system call that restores the interrupted registers
		// and never comes back. Within that call PC is the address behind.
		size++
	}
	size = min(size, s.size-rel)
	sp := span{key: uint64(s.index)<<32 | rel, limit: uint32(rel + size), first: uint32(len(b.rows))}
	if e.bad != 0 {
		b.unexpressed[e.bad]++
		b.rows = append(b.rows, Row{uint32(rel), Rule(OpInvalid)})
	} else {
		b.run(e, start, start+size, s.base, instructions, src, at)
		sp.kept = b.kept
	}
	if b.full() { // as if the function had no description
		b.rows = b.rows[:sp.first]
		b.unexpressed[ReasonLimit]++
		b.overflow = true
		return
	}
	b.functions++
	sp.count = uint32(len(b.rows)) - sp.first
	b.spans = append(b.spans, sp)
}

// run runs the instructions of [start, limit) and appends its rows.
func (b *builder) run(e *cie, start, limit, base uint64, instructions []byte, src *source, at int64) {
	b.begin(&e.initial, start)
	first := len(b.rows)
	c := object.Cursor{B: instructions}
	for c.More() {
		op := c.U8()
		if op == opNop { // padding
			continue
		}
		delta, moves := b.advance(op, &c, e, src, at)
		if !moves {
			b.step(op, &c, e)
		} else if delta >= limit-b.loc {
			break // none of what follows applies
		}
		if c.Bad {
			b.broken = ReasonMalformed
		}
		if b.broken != 0 {
			break
		}
		if moves && delta > 0 {
			b.flush(first, base, b.loc+delta, e.signal)
			b.loc += delta
		}
	}
	if b.broken != 0 {
		// What was understood stays; from here on nothing is known.
		b.unexpressed[b.broken]++
		b.row(first, uint32(b.loc-base), Rule(OpInvalid))
		return
	}
	b.flush(first, base, limit, e.signal)
}

// flush makes rows of the state for [loc, next).
func (b *builder) flush(first int, base, next uint64, signal bool) {
	if !b.dirty {
		return
	}
	b.dirty = false
	if f := &b.s.cfa; f.kind == cfaPLT && f.off != 11 {
		b.spread(first, base, next)
		return
	}
	rule, reason := b.arch.encode(&b.s, signal)
	if reason != 0 {
		b.unexpressed[reason]++
	}
	b.row(first, uint32(b.loc-base), rule)
}

// spread writes lazy stubs that push at another byte than OpPLT says (9 with
// endbr64) as two rows for each stub of 16 bytes.
func (b *builder) spread(first int, base, next uint64) {
	if next-b.loc > maxExpand || b.s.ra != (place{kind: placeAtCFA, off: -8}) || b.s.fp.kind != placeUnset {
		b.unexpressed[ReasonCFAExpression]++
		b.row(first, uint32(b.loc-base), Rule(OpInvalid))
		return
	}
	pushed := uint64(b.s.cfa.off)
	for a := b.loc; a < next && !b.full(); {
		if a&15 >= pushed {
			b.row(first, uint32(a-base), amd64Rule(OpSP, bpUnchanged, 2))
			a = a&^15 + 16
		} else {
			b.row(first, uint32(a-base), amd64Rule(OpSP, bpUnchanged, 1))
			a = a&^15 + pushed
		}
	}
}

// row appends a row to the function whose first row is given, unless it says
// the same as the one before.
func (b *builder) row(first int, addr uint32, r Rule) {
	if n := len(b.rows); n == first || b.rows[n-1].Rule != r {
		b.rows = append(b.rows, Row{addr, r})
	}
}

// assemble puts the functions in order. Of two at the same address the longer
// is taken, and of two equal ones the first. One that begins inside of another
// takes over there, and where it ends nothing is known: this is what the
// search in .eh_frame_hdr finds, so what exceptions rely on. Gaps are OpNone,
// in Go's code OpFramePointer.
func (b *builder) assemble(gos []codeRange) []Draft {
	spans := b.spans
	slices.SortFunc(spans, func(a, b span) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		if a.limit != b.limit {
			return cmp.Compare(b.limit, a.limit)
		}
		return cmp.Compare(a.first, b.first)
	})
	drafts := make([]Draft, len(b.segments))
	for i := range b.segments {
		n := 0
		for n < len(spans) && spans[n].segment() == b.segments[i].index {
			n++
		}
		drafts[i] = draft(b.segments[i], spans[:n:n], b.rows, gos)
		spans = spans[n:]
	}
	return drafts
}

// draft is a segment's table. It keeps nothing of the builder but these.
func draft(s segment, spans []span, rows []Row, gos []codeRange) Draft {
	most := 1 + 3*len(gos)
	for i := range spans {
		if i == 0 || spans[i].key != spans[i-1].key {
			most += int(spans[i].count) + 1
		}
	}
	d := Draft{Base: profile.ObjAddr(s.base), Limit: profile.ObjAddr(s.base + s.size), most: most}
	d.rows = func(yield func(Row) bool) {
		w := writer{base: s.base, gos: gos, yield: yield}
		end := uint64(0) // up to where there are rows
		for i := range spans {
			sp := &spans[i]
			if i > 0 && sp.key == spans[i-1].key {
				continue
			}
			w.gap(end, uint64(sp.start()))
			end = min(uint64(sp.limit), nextStart(spans[i:], s.size))
			for _, r := range rows[sp.first : sp.first+sp.count] {
				if uint64(r.Addr) >= end {
					break
				}
				w.add(r)
			}
			if w.stopped {
				return
			}
		}
		w.gap(end, s.size)
	}
	return d
}

// nextStart is where the first of the functions begins that is not where the
// first one is; else the end.
func nextStart(spans []span, end uint64) uint64 {
	for i := range spans {
		if spans[i].key != spans[0].key {
			return uint64(spans[i].start())
		}
	}
	return end
}

// writer passes rows on, but for those that say what the one before does.
type writer struct {
	base    uint64 // of the segment
	gos     []codeRange
	yield   func(Row) bool
	last    Rule
	begun   bool
	stopped bool // nobody wants more
}

func (w *writer) add(r Row) {
	if w.stopped || w.begun && w.last == r.Rule {
		return
	}
	w.begun, w.last = true, r.Rule
	w.stopped = !w.yield(r)
}

// gap fills [start, limit), relative to the base, where no function is
// described.
func (w *writer) gap(start, limit uint64) {
	if start >= limit {
		return
	}
	for _, g := range w.gos { // sorted, apart
		from, to := max(g.start, w.base+start)-w.base, min(g.limit, w.base+limit)-w.base
		if g.start >= w.base+limit || g.limit <= w.base+start {
			continue
		}
		if from > start {
			w.add(Row{uint32(start), Rule(OpNone)})
		}
		w.add(Row{uint32(from), Rule(OpFramePointer)})
		start = to
	}
	if start < limit {
		w.add(Row{uint32(start), Rule(OpNone)})
	}
}

// codeRange is a range of object addresses.
type codeRange struct{ start, limit uint64 }
