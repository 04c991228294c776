// SPDX-License-Identifier: Apache-2.0

package unwind

// DWARF register numbers (System V ABI, AMD64 supplement, figure 3.36).
const (
	amd64RBX = 3
	amd64RBP = 6
	amd64RSP = 7
	amd64RIP = 16 // the return address
)

var amd64 = arch{sp: amd64RSP, fp: amd64RBP, ra: amd64RIP, kept: amd64RBX, encode: encodeAMD64}

// Where rt_sigreturn's code finds the interrupted frame: SP is at the ucontext
// (struct rt_sigframe without pretcode, which ret has popped), and 40 bytes
// into that is the sigcontext (arch/x86/include/uapi/asm/sigcontext.h).
const (
	amd64SignalBP = 120
	amd64SignalSP = 160
	amd64SignalPC = 168
)

// encodeAMD64 writes a state as a rule, or says why it cannot.
func encodeAMD64(s *state, signal bool) (Rule, Reason) {
	if s.ra.kind == placeUndefined {
		return Rule(OpRoot), 0
	}
	// What C libraries write for the code that signal handlers return to. All
	// registers are in one place then, so it is enough to recognize the first.
	if signal && s.cfa == (cfa{kind: cfaDeref, reg: amd64RSP, off: amd64SignalSP}) {
		return Rule(OpSignal), 0
	}
	if s.ra.kind == placeRegister {
		return amd64ReturnRegister(s)
	}
	if s.ra != (place{kind: placeAtCFA, off: -8}) {
		return Rule(OpInvalid), ReasonReturn
	}
	op, off, reason := amd64CFA(&s.cfa)
	if reason != 0 {
		return Rule(OpInvalid), reason
	}
	bp, ok := amd64BP(s)
	if !ok {
		return Rule(OpInvalid), ReasonFramePointer
	}
	if op == OpDerefSP {
		add := s.cfa.add / 8
		switch {
		case bp == bpUnchanged:
			bp = uint8(add)
		case add < 128 && fits(off, 13):
			op, off = OpDerefSPSaved, off<<7|add
		default:
			return Rule(OpInvalid), ReasonCFAOffset
		}
	}
	return amd64Rule(op, bp, int32(off)), 0
}

func amd64CFA(f *cfa) (op Op, off int64, reason Reason) {
	if f.kind == cfaPLT {
		return OpPLT, 0, 0 // other bytes than the 11th were spread over rows before
	}
	if f.kind != cfaRegister && f.kind != cfaDeref {
		return OpInvalid, 0, ReasonCFAExpression
	}
	off = f.off / 8
	if f.off%8 != 0 || !fits(off, 20) {
		return OpInvalid, 0, ReasonCFAOffset
	}
	if f.kind == cfaDeref {
		switch {
		case f.reg == amd64RBP && f.add == 0:
			return OpDerefBP, off, 0
		case f.reg == amd64RSP && f.add >= 0 && f.add%8 == 0 && f.add < 8*256:
			return OpDerefSP, off, 0
		}
		return OpInvalid, 0, ReasonCFAExpression
	}
	switch {
	case f.reg == amd64RSP:
		return OpSP, off, 0
	case f.reg == amd64RBP:
		return OpBP, off, 0
	case f.reg >= 16:
		return OpInvalid, 0, ReasonCFARegister
	case !fits(off, 16):
		return OpInvalid, 0, ReasonCFAOffset
	}
	return OpRegister, off<<4 | int64(f.reg), 0
}

// amd64BP returns the bp field. A value that is undefined is lost to the caller
// too, who then does not use it: unchanged is as good as anything.
func amd64BP(s *state) (uint8, bool) {
	p := &s.fp
	switch p.kind {
	case placeUnset, placeSame, placeUndefined:
		return bpUnchanged, true
	case placeAtCFA:
		return amd64BPAt(-p.off)
	case placeAtRegister:
		if p.reg == amd64RBP && p.off == 0 {
			return bpFromBP, true
		}
		if s.cfa.kind == cfaRegister && s.cfa.reg == p.reg { // CFA − (reg + off)
			return amd64BPAt(s.cfa.off - p.off)
		}
	}
	return 0, false
}

func amd64BPAt(below int64) (uint8, bool) {
	return uint8(below / 8), below%8 == 0 && below >= 8 && below <= 8*bpMax
}

// amd64ReturnRegister is for functions that took the return address from the
// stack: vfork, whose child would overwrite it.
func amd64ReturnRegister(s *state) (Rule, Reason) {
	off := s.cfa.off / 8
	bp, ok := amd64BP(s)
	switch {
	case s.ra.reg >= 16 || s.cfa.kind != cfaRegister || s.cfa.reg != amd64RSP:
		return Rule(OpInvalid), ReasonReturn
	case s.cfa.off%8 != 0 || !fits(off, 16):
		return Rule(OpInvalid), ReasonCFAOffset
	case !ok:
		return Rule(OpInvalid), ReasonFramePointer
	}
	return amd64Rule(OpReturnRegister, bp, int32(off<<4)|int32(s.ra.reg)), 0
}
