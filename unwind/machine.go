// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"math"

	"github.com/carverauto/serviceradar-profiler/object"
)

// The machine runs call frame instructions (DWARF 5 section 6.4.2). They build
// a table with a line for each change: where the CFA is, and where each
// register of the caller was saved. Of all the registers a walk needs only
// three: the CFA becomes SP, the return address PC, and the frame pointer may
// be what the caller's CFA hangs on. All others are skipped over.
//
// This is where the time of a build goes, so there is one machine for all
// functions, nothing is allocated for one, and a state becomes a rule only
// when the location moves on and something has changed. The price is that the
// main loop has its state in fields.

// placeKind says how to find the value that a register had in the caller.
type placeKind uint8

const (
	placeUnset      placeKind = iota // not said
	placeSame                        // unchanged
	placeUndefined                   // lost
	placeAtCFA                       // *(CFA + off)
	placeIsCFA                       // CFA + off
	placeRegister                    // reg
	placeAtRegister                  // *(reg + off)
	placeIsRegister                  // reg + off
	placeUnknown                     // an expression of an unknown pattern
)

type place struct {
	kind placeKind
	reg  uint8
	off  int64
}

type cfaKind uint8

const (
	cfaUnset    cfaKind = iota
	cfaRegister         // reg + off
	cfaDeref            // *(reg + off) + add
	cfaPLT              // SP + 8 + ((PC & 15) ≥ off ? 8 : 0)
	cfaUnknown          // an expression of an unknown pattern
)

type cfa struct {
	kind     cfaKind
	reg      uint8
	off, add int64
}

// state is one line of the table that the instructions stand for. A register
// number of 255 stands for all above 254.
type state struct {
	cfa cfa
	fp  place // the frame pointer: RBP, x29
	ra  place // the return address
}

// arch is what the machine knows of an architecture: DWARF register numbers,
// and how a state becomes a rule.
type arch struct {
	sp, fp, ra uint8
	kept       uint8 // whose place in a function is noted, see kept.go; noRegister: none
	encode     func(s *state, signal bool) (Rule, Reason)
}

const noRegister = math.MaxUint8 - 1 // no architecture of ours has so many

type machine struct {
	arch        *arch
	unexpressed [reasons]int

	// Of the function being run.
	s      state
	depth  int // of stack
	loc    uint64
	dirty  bool // s may differ from the last row's
	broken Reason
	kept   uint8 // where arch.kept was saved first, in words below the CFA; 0: nowhere

	stack [maxStates]state
}

// Instructions (DWARF 5 table 7.29; GNU's from LSB Core section 10.5.2).
const (
	opAdvanceLoc = 0x40 // with a delta in the low six bits
	opOffset     = 0x80 // with a register in the low six bits
	opRestore    = 0xc0

	opNop                    = 0x00
	opSetLoc                 = 0x01
	opAdvanceLoc1            = 0x02
	opAdvanceLoc2            = 0x03
	opAdvanceLoc4            = 0x04
	opOffsetExtended         = 0x05
	opRestoreExtended        = 0x06
	opUndefined              = 0x07
	opSameValue              = 0x08
	opRegister               = 0x09
	opRememberState          = 0x0a
	opRestoreState           = 0x0b
	opDefCFA                 = 0x0c
	opDefCFARegister         = 0x0d
	opDefCFAOffset           = 0x0e
	opDefCFAExpression       = 0x0f
	opExpression             = 0x10
	opOffsetExtendedSF       = 0x11
	opDefCFASF               = 0x12
	opDefCFAOffsetSF         = 0x13
	opValOffset              = 0x14
	opValOffsetSF            = 0x15
	opValExpression          = 0x16
	opAdvanceLoc8            = 0x1d // DW_CFA_MIPS_advance_loc8
	opNegateRAStateWithPC    = 0x2c // DW_CFA_AARCH64_negate_ra_state_with_pc
	opNegateRAState          = 0x2d // DW_CFA_AARCH64_negate_ra_state, the same byte as DW_CFA_GNU_window_save
	opArgsSize               = 0x2e // DW_CFA_GNU_args_size
	opNegativeOffsetExtended = 0x2f // DW_CFA_GNU_negative_offset_extended
)

// initial runs a CIE's instructions.
func (m *machine) initial(e *cie, b []byte) (state, Reason) {
	m.begin(&state{}, 0)
	c := object.Cursor{B: b}
	for c.More() && m.broken == 0 {
		op := c.U8()
		if op&0xc0 == opAdvanceLoc || op != opNop && op <= opAdvanceLoc4 || op == opAdvanceLoc8 {
			return state{}, ReasonMalformed
		}
		m.step(op, &c, e)
	}
	if c.Bad {
		m.broken = ReasonMalformed
	}
	return m.s, m.broken
}

func (m *machine) begin(s *state, loc uint64) {
	m.s, m.depth, m.loc, m.dirty, m.broken, m.kept = *s, 0, loc, true, 0, 0
}

// advance returns how far an instruction moves the location; false if it is
// not one that does. at is where in the source the cursor's bytes begin, which
// the address in DW_CFA_set_loc may be relative to.
func (m *machine) advance(op uint8, c *object.Cursor, e *cie, src *source, at int64) (delta uint64, moves bool) {
	switch {
	case op&0xc0 == opAdvanceLoc:
		return uint64(op&0x3f) * e.codeAlign, true
	case op == opAdvanceLoc1:
		return uint64(c.U8()) * e.codeAlign, true
	case op == opAdvanceLoc2:
		return uint64(c.U16()) * e.codeAlign, true
	case op == opAdvanceLoc4:
		return uint64(c.U32()) * e.codeAlign, true
	case op == opAdvanceLoc8:
		return c.U64() * e.codeAlign, true
	case op == opSetLoc:
		to, ok := src.pointer(c, e.encoding, at, m.loc)
		if !ok {
			m.broken = ReasonEncoding
		} else if to < m.loc {
			m.broken = ReasonMalformed
		}
		return to - m.loc, true
	}
	return 0, false
}

// step runs an instruction that does not move the location.
func (m *machine) step(op uint8, c *object.Cursor, e *cie) {
	m.dirty = true
	switch op & 0xc0 {
	case opOffset:
		m.set(uint64(op&0x3f), place{kind: placeAtCFA, off: int64(c.ULEB()) * e.dataAlign})
		return
	case opRestore:
		m.restore(uint64(op&0x3f), e)
		return
	}
	switch op {
	case opNop, opNegateRAState, opNegateRAStateWithPC:
		// Whether the return address is signed does not matter: signatures are
		// masked away.
	case opArgsSize:
		c.ULEB()
	case opRememberState:
		if m.depth == maxStates {
			m.broken = ReasonNesting
			return
		}
		m.stack[m.depth] = m.s
		m.depth++
	case opRestoreState:
		if m.depth == 0 {
			m.broken = ReasonNesting
			return
		}
		m.depth--
		m.s = m.stack[m.depth]
	case opDefCFA, opDefCFASF, opDefCFARegister, opDefCFAOffset, opDefCFAOffsetSF, opDefCFAExpression:
		m.defineCFA(op, c, e)
	default:
		m.saved(op, c, e)
	}
}

func (m *machine) defineCFA(op uint8, c *object.Cursor, e *cie) {
	f := &m.s.cfa
	if f.kind != cfaRegister {
		// Only a register and its offset can be changed one at a time (DWARF 5
		// section 6.4.2.2); a register alone after an expression means offset 0
		// in no standard, so it stays unknown.
		if op == opDefCFARegister || op == opDefCFAOffset || op == opDefCFAOffsetSF {
			c.SLEB()
			*f = cfa{kind: cfaUnknown}
			return
		}
	}
	switch op {
	case opDefCFA:
		*f = cfa{kind: cfaRegister, reg: register(c.ULEB()), off: int64(c.ULEB())}
	case opDefCFASF:
		*f = cfa{kind: cfaRegister, reg: register(c.ULEB()), off: c.SLEB() * e.dataAlign}
	case opDefCFARegister:
		f.reg = register(c.ULEB())
	case opDefCFAOffset:
		f.off = int64(c.ULEB())
	case opDefCFAOffsetSF:
		f.off = c.SLEB() * e.dataAlign
	case opDefCFAExpression:
		*f = cfaExpression(c.Take(c.ULEB()), m.arch)
	}
}

// saved runs the instructions that say where a register was saved.
func (m *machine) saved(op uint8, c *object.Cursor, e *cie) {
	reg := c.ULEB()
	switch op {
	case opOffsetExtended:
		m.set(reg, place{kind: placeAtCFA, off: int64(c.ULEB()) * e.dataAlign})
	case opOffsetExtendedSF:
		m.set(reg, place{kind: placeAtCFA, off: c.SLEB() * e.dataAlign})
	case opNegativeOffsetExtended:
		m.set(reg, place{kind: placeAtCFA, off: -int64(c.ULEB()) * e.dataAlign})
	case opValOffset:
		m.set(reg, place{kind: placeIsCFA, off: int64(c.ULEB()) * e.dataAlign})
	case opValOffsetSF:
		m.set(reg, place{kind: placeIsCFA, off: c.SLEB() * e.dataAlign})
	case opRestoreExtended:
		m.restore(reg, e)
	case opUndefined:
		m.set(reg, place{kind: placeUndefined})
	case opSameValue:
		m.set(reg, place{kind: placeSame})
	case opRegister:
		m.set(reg, place{kind: placeRegister, reg: register(c.ULEB())})
	case opExpression:
		m.set(reg, placeExpression(c.Take(c.ULEB()), placeAtRegister))
	case opValExpression:
		m.set(reg, placeExpression(c.Take(c.ULEB()), placeIsRegister))
	default:
		m.broken = ReasonMalformed
	}
}

func (m *machine) set(reg uint64, p place) {
	switch reg {
	case uint64(m.arch.fp):
		m.s.fp = p
	case uint64(m.arch.ra):
		m.s.ra = p
	case uint64(m.arch.kept):
		if words := -p.off / 8; m.kept == 0 && p.kind == placeAtCFA && words > 0 && words <= math.MaxUint8 && p.off%8 == 0 {
			m.kept = uint8(words)
		}
	}
}

func (m *machine) restore(reg uint64, e *cie) {
	switch reg {
	case uint64(m.arch.fp):
		m.s.fp = e.initial.fp
	case uint64(m.arch.ra):
		m.s.ra = e.initial.ra
	}
}

func register(n uint64) uint8 { return uint8(min(n, math.MaxUint8)) }
