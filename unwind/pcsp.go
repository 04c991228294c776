// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"errors"
	"slices"

	"github.com/carverauto/serviceradar-profiler/object"
)

// Go says of each instruction how far SP is below where the caller left it
// (pcsp, a table of values by PC; cmd/internal/obj/pcln.go writes it, and
// runtime.pcvalue reads it). Its code keeps frame pointers, which are right in
// the body of a function and follow stack switches of the runtime, which pcsp
// does not. So frame pointers stay the rule, and pcsp is for where they are
// wrong, because the caller's is still or again in the register:
//
//	depth 0   nothing is pushed: functions without a frame, the first
//	          instructions of all others, and their ret
//	depth 8   amd64: BP is pushed, but still the caller's for an instruction
//
// This needs about three rows a function; rows for all depths would be six, and
// wrong in systemstack and its like. Functions that set SP to something else,
// and those that begin a stack, are left to frame pointers.
//
// crosscall2, by which C calls Go, makes two frame records on amd64, because it
// saves C's registers as a C function would. The second one has C's BP where the
// return address should be. It switches no stack, so pcsp is right throughout.
//
// Versions before Go 1.18 do not say which functions these are (flag).

// Flags of a function (internal/abi/symtab.go).
const (
	goTopFrame = 1 << iota // the first of a stack
	goSPWrite              // switches stacks
	goAssembly
)

// Where _func has pcsp and the flags (runtime/runtime2.go).
const (
	goNameAt     = 4
	goPCSPAt     = 16
	goFlagAt118  = 37
	goFlagAt120  = 41
	goFunctionIs = 44 // bytes of a _func without what varies
)

const (
	maxGoFunctions = 1 << 20
	maxFromC       = 1 << 10 // bytes; crosscall2 takes 80
	maxPCSP        = 1 << 26 // changes in all of them; a big program has two million
)

// addGo adds rows for Go's functions where frame pointers are wrong. A table
// that cannot be read is as none: frame pointers throughout.
func (b *builder) addGo(f *object.File) error {
	t, err := f.GoTable()
	if t == nil || err != nil || t.Magic != object.MagicGo118 && t.Magic != object.MagicGo120 {
		if errors.Is(err, object.ErrFormat) || errors.Is(err, object.ErrGoTable) || errors.Is(err, object.ErrNoGoText) {
			b.unexpressed[ReasonMalformed]++
			err = nil
		}
		return err
	}
	g := goReader{builder: b, table: t, in: object.NewBlocks(t, 32<<10), flagAt: goFlagAt120, entry: uint64(f.Entry()), arm64: f.Machine() == elf.EM_AARCH64}
	if t.Magic == object.MagicGo118 {
		g.flagAt = goFlagAt118
	}
	var pair [8]byte
	next := func(i int64) bool { return g.in.Fill(pair[:], t.Functab+8*i) == nil }
	if !next(0) {
		return nil
	}
	start, function := t.Pair(pair[:])
	for i := int64(1); i <= min(t.Count, maxGoFunctions) && !b.full(); i++ {
		// Behind the last pair is the end of its function, half a pair.
		n := len(pair)
		if i == t.Count {
			n = 4
		}
		if g.in.Fill(pair[:n], t.Functab+8*i) != nil {
			return nil
		}
		limit, after := t.Pair(pair[:])
		if limit > start && g.steps < maxPCSP {
			g.function(uint64(start), uint64(limit), int64(function))
		}
		start, function = limit, after
	}
	return nil
}

// goReader reads Go's functions.
type goReader struct {
	*builder
	table  *object.GoTable
	in     *object.Blocks
	flagAt int64
	entry  uint64 // of the program
	steps  int
	arm64  bool
}

// function adds the rows of one.
func (g *goReader) function(start, limit uint64, function int64) {
	var fn [goFunctionIs]byte
	s, rel := g.within(start)
	if s == nil || limit-start > s.size-rel || g.in.Fill(fn[:], g.table.Functions+function) != nil {
		return
	}
	flags := fn[g.flagAt]
	if g.entry >= start && g.entry < limit || slices.ContainsFunc(g.restorers, func(a uint64) bool { return a >= start && a < limit }) {
		return // nobody called it
	}
	if flags&(goTopFrame|goSPWrite) != 0 || le.Uint32(fn[goPCSPAt:]) == 0 {
		return
	}
	first := len(g.rows)
	pc, limit32 := uint32(rel), uint32(rel+limit-start)
	depth, at := int64(-1), g.table.PCTab+int64(le.Uint32(fn[goPCSPAt:]))
	pushed, quantum := false, uint32(1)
	fromC := !g.arm64 && flags&goAssembly != 0 && g.named(fn[:], "crosscall2")
	if g.arm64 {
		quantum = 4
	}
	for i := 0; pc < limit32 && g.steps < maxPCSP && !g.full(); i++ {
		g.steps++
		change, n1 := g.in.Uvarint(at)
		delta, n2 := g.in.Uvarint(at + n1)
		if n1 == 0 || n2 == 0 || change == 0 && i > 0 || delta == 0 {
			break
		}
		at += n1 + n2
		depth += int64(change>>1) ^ -int64(change&1) // zigzag
		rule := g.rule(depth, flags)
		if fromC && depth >= 8 && depth%8 == 0 && depth < maxFromC {
			rule = amd64Rule(OpSP, 2, int32(depth/8+1))
		}
		if pushed && !g.arm64 && rule.Op() == OpSP && rule.off() == 2 {
			rule = Rule(OpFramePointer) // before the last pop: as good, and fewer rows
		}
		pushed = pushed || depth > 0
		g.row(first, pc, rule)
		if delta > (limit32-pc)/quantum {
			break
		}
		pc += delta * quantum
	}
	if len(g.rows) == first || g.full() {
		g.rows = g.rows[:first]
		return
	}
	g.spans = append(g.spans, span{
		key: uint64(s.index)<<32 | rel, limit: limit32, first: uint32(first), count: uint32(len(g.rows) - first),
	})
}

// named says whether a _func has that name.
func (g *goReader) named(fn []byte, name string) bool {
	b := make([]byte, len(name)+1)
	return g.in.Fill(b, g.table.Names+int64(le.Uint32(fn[goNameAt:]))) == nil && string(b) == name+"\x00"
}

// rule is what holds at a depth.
func (g *goReader) rule(depth int64, flags uint8) Rule {
	switch {
	case depth == 0 && g.arm64:
		return arm64Rule(OpSP, 0, 0, 0)
	case depth == 0:
		return amd64Rule(OpSP, bpUnchanged, 1)
	case depth == 8 && !g.arm64 && flags&goAssembly == 0: // assembly may push anything
		return amd64Rule(OpSP, 2, 2)
	}
	return Rule(OpFramePointer)
}
