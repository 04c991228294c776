// SPDX-License-Identifier: Apache-2.0

// Package unwind makes unwind tables: what is needed to find the caller of any
// instruction of an object, compact enough for the kernel to walk stacks by.
//
// Compilers describe for each instruction how to find the caller, because
// exceptions need it: call frame information, a program of instructions for
// each function (DWARF 5 section 6.4, and LSB Core chapter 10.6 for its form
// in .eh_frame). [Build] runs these programs once and keeps what they say as
// sorted rows: from this object address on, this rule. A [Rule] is an equation
// in 32 bits; the few kinds of it (see [Op]) are all that real code needs.
//
// What a rule cannot say becomes [OpInvalid] and is counted by [Reason]; code
// that nobody described becomes [OpNone]. Nothing is guessed, and no code ever
// gets its neighbor's rule.
//
// [Walker] walks a stack by such rules. It is written to be read: the programs
// in the kernel do the same in another language and must agree with it.
//
// Files are hostile until checked: time and memory are bounded by the limits
// in limit.go, whatever a file says.
package unwind

import (
	"debug/elf"
	"errors"
	"fmt"

	"github.com/carverauto/serviceradar-profiler/object"
)

// Reason says why there is no rule for code that has call frame information.
type Reason uint8

const (
	ReasonCFARegister   Reason = iota + 1 // the CFA hangs on a register that a rule cannot name
	ReasonCFAOffset                       // the CFA's offset is too big or not a multiple of the unit
	ReasonCFAExpression                   // the CFA is an expression of an unknown pattern
	ReasonReturn                          // the return address is at an unusual place
	ReasonFramePointer                    // the saved frame pointer is at an unusual place
	ReasonNesting                         // DW_CFA_remember_state too deep, or restore without remember
	ReasonEncoding                        // a pointer encoding or an augmentation that we cannot read
	ReasonMalformed                       // a record or an instruction that breaks the format
	ReasonLimit                           // too much: see limit.go
	reasons
)

var reasonNames = [reasons]string{
	ReasonCFARegister:   "CFA on another register",
	ReasonCFAOffset:     "CFA offset out of range",
	ReasonCFAExpression: "CFA is an unknown expression",
	ReasonReturn:        "return address elsewhere",
	ReasonFramePointer:  "frame pointer elsewhere",
	ReasonNesting:       "states nested too deeply",
	ReasonEncoding:      "unknown encoding",
	ReasonMalformed:     "malformed",
	ReasonLimit:         "over the limit",
}

func (r Reason) String() string {
	if r < reasons && reasonNames[r] != "" {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Stats says how a build went.
type Stats struct {
	Rows      int // in all tables
	Functions int // described ones: FDEs of code that can run
	// Unexpressed counts what became OpInvalid: changes of the rule within
	// functions, or whole functions where nothing of them could be read. Empty
	// is good.
	Unexpressed map[Reason]int
}

// Build makes the tables of an object, one for each executable segment. What
// is wrong in single records or functions is counted in Stats; an error means
// that there are no tables at all: the file cannot be read, or its
// architecture is not known (errors.ErrUnsupported).
func Build(f *object.File) ([]Table, Stats, error) {
	b := builder{}
	drafts, err := b.build(f)
	if err != nil {
		return nil, Stats{}, err
	}
	tables := Written(drafts)
	return tables, b.stats(tables), nil
}

// build is Build, but for writing out the tables.
func (b *builder) build(f *object.File) ([]Draft, error) {
	switch f.Machine() {
	case elf.EM_X86_64:
		b.machine.arch = &amd64
	case elf.EM_AARCH64:
		b.machine.arch = &arm64
	default:
		return nil, fmt.Errorf("unwind tables for %v: %w", f.Machine(), errors.ErrUnsupported)
	}
	sources := findSources(f)
	b.prepare(f, sources)
	for i := range sources {
		err := b.read(&sources[i])
		if err != nil && sources[i].debug { // an extra, and corrupt: damage of compressed data shows as an error
			b.unexpressed[ReasonMalformed]++
		} else if err != nil {
			return nil, fmt.Errorf("read %s: %w", sources[i].name, err)
		}
	}
	b.addStubs(f)
	b.addKept(f)
	b.addRestorers(f)
	if err := b.addGo(f); err != nil {
		return nil, fmt.Errorf("read Go's function table: %w", err)
	}
	gos := goText(f)
	b.addEntry(f, gos)
	return b.assemble(gos), nil
}

// Bound is the most rows that Build will give for a file, from the sizes of
// its sections alone: to make room for them before they exist. Build keeps to
// it. It is about twice what real files need.
func Bound(f *object.File) int {
	return bound(f, findSources(f))
}

func (b *builder) stats(tables []Table) Stats {
	s := Stats{Functions: b.functions, Unexpressed: map[Reason]int{}}
	for i := range tables {
		s.Rows += len(tables[i].Rows)
	}
	for r, n := range b.machine.unexpressed {
		if n > 0 {
			s.Unexpressed[Reason(r)] = n
		}
	}
	return s
}
