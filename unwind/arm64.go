// SPDX-License-Identifier: Apache-2.0

package unwind

import "math"

// DWARF register numbers (DWARF for the Arm 64-bit Architecture, section 4.1).
const (
	arm64FP = 29
	arm64LR = 30
	arm64SP = 31
)

var arm64 = arch{sp: arm64SP, fp: arm64FP, ra: arm64LR, kept: noRegister, encode: encodeARM64}

// Where rt_sigreturn's code finds the interrupted frame: SP is at the
// rt_sigframe (128 bytes of siginfo, then the ucontext, whose mcontext starts
// at byte 176: fault address, x0 to x30, SP, PC; arch/arm64/kernel/signal.c).
const (
	arm64SignalX0 = 128 + 176 + 8
	arm64SignalFP = arm64SignalX0 + 29*8
	arm64SignalLR = arm64SignalX0 + 30*8
	arm64SignalSP = arm64SignalX0 + 31*8
	arm64SignalPC = arm64SignalX0 + 32*8
)

// encodeARM64 writes a state as a rule, or says why it cannot.
func encodeARM64(s *state, signal bool) (Rule, Reason) {
	if s.ra.kind == placeUndefined {
		return Rule(OpRoot), 0
	}
	if signal { // only the kernel's vDSO has such
		return Rule(OpSignal), 0
	}
	if s.cfa.kind != cfaRegister {
		return Rule(OpInvalid), ReasonCFAExpression
	}
	off := s.cfa.off / 16
	if s.cfa.off%16 != 0 || !fits(off, 12) {
		return Rule(OpInvalid), ReasonCFAOffset
	}
	op := OpSP
	switch s.cfa.reg {
	case arm64SP:
	case arm64FP:
		op = OpBP
	default:
		return Rule(OpInvalid), ReasonCFARegister
	}
	if s.fp.kind == placeAtCFA && s.ra == (place{kind: placeAtCFA, off: s.fp.off + 8}) && s.fp.off < -8*255 {
		rec := -s.fp.off / 16
		if s.fp.off%16 != 0 || rec > math.MaxUint16 {
			return Rule(OpInvalid), ReasonFramePointer
		}
		return arm64Rule(op-OpSP+OpRecordSP, uint8(rec), uint8(rec>>8), int32(off)), 0
	}
	ra, ok := arm64At(&s.ra)
	if !ok {
		return Rule(OpInvalid), ReasonReturn
	}
	fp, ok := arm64At(&s.fp)
	if !ok {
		return Rule(OpInvalid), ReasonFramePointer
	}
	return arm64Rule(op, fp, ra, int32(off)), 0
}

// arm64At returns the fp or ra field: 0 where the register is unchanged.
func arm64At(p *place) (uint8, bool) {
	switch p.kind {
	case placeUnset, placeSame:
		return 0, true
	case placeUndefined: // of FP: as good as unchanged, see amd64BP
		return 0, true
	case placeAtCFA:
		return uint8(-p.off / 8), p.off%8 == 0 && p.off <= -8 && p.off >= -8*255
	}
	return 0, false
}
