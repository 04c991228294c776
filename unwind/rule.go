// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"fmt"
)

// Rule is an equation that finds the caller's registers from a frame's own, in
// 32 bits. The kernel side has the same packing (bpf/abi.h). The zero Rule is
// OpNone.
//
// amd64:  bits 0-3 op · 4-11 bp · 12-31 off (signed)
//
//	bp    0: BP is unchanged · 1 to 254: BP = *(CFA − 8·bp) · 255: BP = *(BP)
//	then  RA = *(CFA − 8), SP = CFA, unless the op says otherwise
//
// arm64:  bits 0-3 op · 4-11 fp · 12-19 ra · 20-31 off (signed)
//
//	fp    0: FP is unchanged · else FP = *(CFA − 8·fp)
//	ra    0: RA = LR, known only in the leaf · else RA = *(CFA − 8·ra)
//	then  SP = CFA, unless the op says otherwise
//
// All registers on the right are the frame's, all on the left the caller's.
type Rule uint32

// Op is the kind of a rule: which equation.
type Op uint8

const (
	// OpNone: nothing is known of this code. The walk tries OpFramePointer and
	// marks the stack as guessed.
	OpNone Op = 0
	// OpSP: CFA = SP + 8·off (arm64: SP + 16·off).
	OpSP Op = 1
	// OpBP: CFA = BP + 8·off (arm64: FP + 16·off).
	OpBP Op = 2
	// OpFramePointer: CFA = BP + 16, BP = *(BP), RA = *(BP + 8), the same on
	// both architectures. Code that keeps frame pointers and says nothing
	// else: Go's. BP = 0 is the root.
	OpFramePointer Op = 3
	// OpRoot: there is no caller.
	OpRoot Op = 4
	// OpPLT: CFA = SP + 8 + ((PC & 15) ≥ 11 ? 8 : 0). Stubs of 16 bytes that
	// push a number at byte 6, done at byte 11. (amd64)
	OpPLT Op = 5
	// OpSignal: the code that a signal handler returns to, with SP at the
	// ucontext that the kernel saved (amd64), or at the rt_sigframe (arm64):
	//	amd64  PC = *(SP + 168), SP = *(SP + 160), BP = *(SP + 120)
	//	arm64  PC = *(SP + 568), SP = *(SP + 560), FP = *(SP + 544), LR = *(SP + 552)
	// PC was interrupted: it is no return address.
	OpSignal Op = 6
	// OpDerefBP: CFA = *(BP + 8·off). Functions that realign their stack. (amd64)
	OpDerefBP Op = 7
	// OpDerefSP: CFA = *(SP + 8·off) + 8·bp, BP is unchanged. (amd64)
	OpDerefSP Op = 8
	// OpRegister: CFA = R + 8·o, where R is the register with the DWARF number
	// off & 15, and o = off >> 4. Only in the leaf are all registers known; its
	// caller may have the same, which is believed where the frame that comes of
	// it is at most 64 KiB. (amd64)
	OpRegister Op = 9
	// OpReturnRegister: CFA = SP + 8·(off >> 4), and RA is the register with
	// the DWARF number off & 15. Only in the leaf. (amd64)
	OpReturnRegister Op = 10
	// OpInvalid: something is known of this code that a rule cannot say.
	OpInvalid Op = 11
	// OpDerefSPSaved: CFA = *(SP + 8·(off >> 7)) + 8·(off & 127). OpDerefSP for
	// functions that also saved BP: OpenSSL's inner loops. (amd64)
	OpDerefSPSaved Op = 12
	// OpRecordSP: CFA = SP + 16·off, FP = *(CFA − 16·rec), RA = *(CFA − 16·rec + 8),
	// where rec is the fields fp and ra as one number of 16 bits. OpSP for
	// functions with more than 2 KB of variables above their frame record. (arm64)
	OpRecordSP Op = 13
	// OpRecordBP: CFA = FP + 16·off, and the same. (arm64)
	OpRecordBP Op = 14
)

// Values of the bp field of amd64.
const (
	bpUnchanged = 0
	bpMax       = 254
	bpFromBP    = 255
)

// Op returns the rule's kind.
func (r Rule) Op() Op { return Op(r & 15) }

func amd64Rule(op Op, bp uint8, off int32) Rule {
	return Rule(op) | Rule(bp)<<4 | Rule(off)<<12
}

func arm64Rule(op Op, fp, ra uint8, off int32) Rule {
	return Rule(op) | Rule(fp)<<4 | Rule(ra)<<12 | Rule(off)<<20
}

func (r Rule) bp() uint8       { return uint8(r >> 4) } // amd64's bp, arm64's fp
func (r Rule) ra() uint8       { return uint8(r >> 12) }
func (r Rule) rec() uint16     { return uint16(r >> 4) }
func (r Rule) off() int64      { return int64(int32(r) >> 12) }
func (r Rule) arm64Off() int64 { return int64(int32(r) >> 20) }

// fits says whether v is a signed number of so many bits.
func fits(v int64, bits uint) bool {
	return v >= -1<<(bits-1) && v < 1<<(bits-1)
}

// Text writes the rule as its equation, for tests and people.
func (r Rule) Text(m elf.Machine) string {
	switch r.Op() {
	case OpNone:
		return "none"
	case OpFramePointer:
		return "frame pointer"
	case OpRoot:
		return "root"
	case OpSignal:
		return "signal"
	case OpInvalid:
		return "invalid"
	}
	if m == elf.EM_AARCH64 {
		return r.arm64Text()
	}
	return r.amd64Text()
}

func (r Rule) amd64Text() string {
	var s string
	switch off := r.off(); r.Op() {
	case OpSP:
		s = fmt.Sprintf("CFA=SP%+d", 8*off)
	case OpBP:
		s = fmt.Sprintf("CFA=BP%+d", 8*off)
	case OpPLT:
		s = "CFA=PLT"
	case OpDerefBP:
		s = fmt.Sprintf("CFA=*(BP%+d)", 8*off)
	case OpDerefSP:
		return fmt.Sprintf("CFA=*(SP%+d)%+d", 8*off, 8*int(r.bp()))
	case OpDerefSPSaved:
		s = fmt.Sprintf("CFA=*(SP%+d)%+d", 8*(off>>7), 8*(off&127))
	case OpRegister:
		s = fmt.Sprintf("CFA=R%d%+d", off&15, 8*(off>>4))
	case OpReturnRegister:
		s = fmt.Sprintf("CFA=SP%+d RA=R%d", 8*(off>>4), off&15)
	default:
		return fmt.Sprintf("op %d", r.Op())
	}
	switch bp := r.bp(); bp {
	case bpUnchanged:
		return s
	case bpFromBP:
		return s + " BP=*(BP)"
	default:
		return s + fmt.Sprintf(" BP=*(CFA-%d)", 8*int(bp))
	}
}

func (r Rule) arm64Text() string {
	var s string
	record := fmt.Sprintf(" FP=*(CFA-%d) RA=*(CFA-%d)", 16*int(r.rec()), 16*int(r.rec())-8)
	switch r.Op() {
	case OpRecordSP:
		return fmt.Sprintf("CFA=SP%+d", 16*r.arm64Off()) + record
	case OpRecordBP:
		return fmt.Sprintf("CFA=FP%+d", 16*r.arm64Off()) + record
	case OpSP:
		s = fmt.Sprintf("CFA=SP%+d", 16*r.arm64Off())
	case OpBP:
		s = fmt.Sprintf("CFA=FP%+d", 16*r.arm64Off())
	default:
		return fmt.Sprintf("op %d", r.Op())
	}
	if fp := r.bp(); fp != 0 {
		s += fmt.Sprintf(" FP=*(CFA-%d)", 8*int(fp))
	}
	if ra := r.ra(); ra != 0 {
		s += fmt.Sprintf(" RA=*(CFA-%d)", 8*int(ra))
	}
	return s
}
