// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"

	"github.com/carverauto/serviceradar-profiler/object"
)

// Expressions (DWARF 5 section 2.5) could compute anything. In call frame
// information there are a handful, written by linkers, by compilers for one
// purpose, and by hand in assembly. They are recognized, not run: a pattern
// becomes a rule, and all others are unknown.

const (
	exprDeref     = 0x06 // DW_OP_deref
	exprPlus      = 0x22 // DW_OP_plus
	exprPlusConst = 0x23 // DW_OP_plus_uconst, ULEB128
	exprLit0      = 0x30 // DW_OP_lit0 to DW_OP_lit31
	exprLit31     = 0x4f
	exprBreg0     = 0x70 // DW_OP_breg0 to DW_OP_breg31, each with a SLEB128
	exprBreg31    = 0x8f
)

// pltExpression is what linkers write for lazy stubs of 16 bytes, in the CFA:
// SP + 8, and 8 more once the stub has pushed its number (at byte 11, or 9 of
// stubs that begin with endbr64):
//
//	breg7 (rsp) 8 · breg16 (rip) 0 · lit15 · and · lit11 · ge · lit3 · shl · plus
var pltExpression = []byte{0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}

const pltLiteral = 6 // index of lit11

// cfaExpression recognizes an expression for the CFA:
//
//	reg + off:          breg off
//	*(reg + off):       breg off · deref
//	*(reg + off) + add: breg off · deref · plus_uconst add, or lit add · plus
func cfaExpression(b []byte, a *arch) cfa {
	if len(b) == len(pltExpression) && a.ra == amd64RIP &&
		bytes.Equal(b[:pltLiteral], pltExpression[:pltLiteral]) && bytes.Equal(b[pltLiteral+1:], pltExpression[pltLiteral+1:]) {
		if n := int64(b[pltLiteral]) - exprLit0; n > 0 && n < 16 {
			return cfa{kind: cfaPLT, off: n}
		}
	}
	c := object.Cursor{B: b}
	reg, off, ok := breg(&c)
	if !ok {
		return cfa{kind: cfaUnknown}
	}
	if !c.More() {
		return cfa{kind: cfaRegister, reg: reg, off: off}
	}
	f := cfa{kind: cfaDeref, reg: reg, off: off}
	if c.U8() != exprDeref {
		return cfa{kind: cfaUnknown}
	}
	if c.More() {
		switch op := c.U8(); {
		case op == exprPlusConst:
			f.add = int64(c.ULEB())
		case op >= exprLit0 && op <= exprLit31 && c.U8() == exprPlus:
			f.add = int64(op - exprLit0)
		default:
			return cfa{kind: cfaUnknown}
		}
	}
	if c.Bad || c.More() {
		return cfa{kind: cfaUnknown}
	}
	return f
}

// placeExpression recognizes reg + off: as the place where the value is, or as
// the value itself.
func placeExpression(b []byte, kind placeKind) place {
	c := object.Cursor{B: b}
	if reg, off, ok := breg(&c); ok && !c.More() {
		return place{kind: kind, reg: reg, off: off}
	}
	return place{kind: placeUnknown}
}

func breg(c *object.Cursor) (reg uint8, off int64, ok bool) {
	op := c.U8()
	off = c.SLEB()
	return op - exprBreg0, off, op >= exprBreg0 && op <= exprBreg31 && !c.Bad
}
