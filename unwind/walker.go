// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"fmt"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// End is why a stack ended. The kernel side has the same numbers.
type End uint8

const (
	EndRoot       End = iota // the outermost frame was reached
	EndTruncated             // deeper than the limit
	EndNoMapping             // the address lies in no mapping that is known
	EndUnreadable            // the stack could not be read there
	EndBadSP                 // the caller's frame would not lie above its callee's
	EndInvalid               // a rule that cannot be expressed
	EndNoTable               // frame pointers led nowhere in code without a table
	EndRegister              // a rule that needs registers which only the leaf has
	ends
)

var endNames = [ends]string{
	EndRoot: "root", EndTruncated: "truncated", EndNoMapping: "no mapping", EndUnreadable: "unreadable",
	EndBadSP: "bad stack pointer", EndInvalid: "invalid rule", EndRegister: "register not known",
	EndNoTable: "no table",
}

func (e End) String() string {
	if e < ends {
		return endNames[e]
	}
	return fmt.Sprintf("end %d", uint8(e))
}

// Registers of a thread.
type Registers struct {
	PC, SP profile.Addr
	BP     profile.Addr // RBP; arm64: x29
	LR     profile.Addr // arm64: x30
	// General registers by DWARF number; amd64 only. Of 6 and 7, BP and SP
	// are used.
	General [16]uint64
}

// Walk is what a walk found.
type Walk struct {
	Frames []profile.Addr // leaf first: the leaf's PC, then return addresses
	// Returns says for each frame whether it is a return address. The leaf is
	// not, nor is one that a signal interrupted.
	Returns []bool
	End     End
	// Guessed counts the frames whose caller was found by frame pointer for
	// lack of anything better: what follows the first may be wrong.
	Guessed int
}

// Walker walks stacks by rules. It is the plain form of what the kernel side
// does, and what that must agree with.
type Walker struct {
	Machine elf.Machine
	// Word reads 8 bytes of the thread's memory.
	Word func(profile.Addr) (uint64, bool)
	// Rule returns the rule of an address (already the one to look up by);
	// false if it lies in no mapping that could hold code.
	Rule func(profile.Addr) (Rule, bool)
	// Depth is the most frames.
	Depth int
	// PACMask has the bits of an address that hold its signature (arm64's
	// pointer authentication); they are cleared.
	PACMask uint64
}

// likelyFrame is the most bytes of a frame found by a register that may not
// hold any more what it held.
const likelyFrame = 65536

// frame is one frame being walked.
type frame struct {
	Registers
	depth    int // 0 is the leaf, whose registers are all known
	returned bool
	lr       bool // LR is known: the leaf, and a frame that a signal interrupted
}

// Walk walks from the registers of a thread.
func (w *Walker) Walk(regs Registers) Walk {
	var k Walk
	f := frame{Registers: regs, lr: true}
	for {
		if len(k.Frames) >= w.Depth {
			k.End = EndTruncated
			return k
		}
		k.Frames, k.Returns = append(k.Frames, f.PC), append(k.Returns, f.returned)
		at := profile.Address{Addr: f.PC, Return: f.returned}
		rule, ok := w.Rule(at.Lookup())
		if !ok {
			k.End = EndNoMapping
			return k
		}
		guessed := rule.Op() == OpNone
		if guessed {
			rule = Rule(OpFramePointer)
			k.Guessed++
			// A frame pointer of zero marks the root where frame pointers led.
			if f.BP == 0 && k.Guessed < 2 {
				k.End = EndNoTable
				return k
			}
		}
		end, more := w.step(&f, rule, guessed)
		if !more {
			k.End = end
			return k
		}
	}
}

// step replaces a frame by its caller's; false if there is none, and why.
func (w *Walker) step(f *frame, r Rule, guessed bool) (End, bool) {
	var end End
	old := f.SP
	// Code that is known to keep frame pointers is trusted: Go switches stacks
	// under them.
	trusted := r.Op() == OpFramePointer && !guessed
	interrupted := false
	switch r.Op() {
	case OpRoot:
		return EndRoot, false
	case OpInvalid:
		return EndInvalid, false
	case OpFramePointer:
		if f.BP == 0 {
			return EndRoot, false
		}
		end = w.framePointer(f)
	case OpSignal:
		interrupted = true
		end = w.signal(f)
	default:
		if w.Machine == elf.EM_AARCH64 {
			end = w.arm64(f, r)
		} else {
			end = w.amd64(f, r)
		}
	}
	f.PC &^= profile.Addr(w.PACMask)
	switch {
	case end != EndRoot:
		return end, false
	case f.PC == 0 && !interrupted: // what clone and Go's runtime put below a stack's first frame
		return EndRoot, false
	// Only the leaf may have a frame of nothing. A signal handler may have a
	// stack of its own, above or below.
	case !interrupted && !trusted && (f.SP < old || f.SP == old && !f.lr):
		return EndBadSP, false
	}
	f.returned, f.depth, f.lr = !interrupted, f.depth+1, interrupted
	return EndRoot, true
}

// framePointer: CFA = BP + 16, RA = *(BP + 8), BP = *(BP).
func (w *Walker) framePointer(f *frame) End {
	bp := f.BP
	ra, ok1 := w.Word(bp + 8)
	saved, ok2 := w.Word(bp)
	if !ok1 || !ok2 {
		return EndUnreadable
	}
	f.PC, f.SP, f.BP = profile.Addr(ra), bp+16, profile.Addr(saved)
	return EndRoot
}

// signal: see OpSignal.
func (w *Walker) signal(f *frame) End {
	at := [4]profile.Addr{amd64SignalPC, amd64SignalSP, amd64SignalBP, amd64SignalBP}
	if w.Machine == elf.EM_AARCH64 {
		at = [4]profile.Addr{arm64SignalPC, arm64SignalSP, arm64SignalFP, arm64SignalLR}
	}
	var v [4]profile.Addr
	for i := range at {
		word, ok := w.Word(f.SP + at[i])
		if !ok {
			return EndUnreadable
		}
		v[i] = profile.Addr(word)
	}
	f.PC, f.SP, f.BP, f.LR = v[0], v[1], v[2], v[3]
	return EndRoot
}

// amd64 applies the rules that end in RA = *(CFA − 8), SP = CFA.
func (w *Walker) amd64(f *frame, r Rule) End {
	off, ok := profile.Addr(8*r.off()), true
	var cfa profile.Addr
	switch r.Op() {
	case OpSP:
		cfa = f.SP + off
	case OpBP:
		cfa = f.BP + off
	case OpPLT:
		cfa = f.SP + 8
		if f.PC&15 >= 11 {
			cfa += 8
		}
	case OpDerefBP:
		cfa, ok = w.deref(f.BP + off)
	case OpDerefSP:
		cfa, ok = w.deref(f.SP + off)
		cfa += 8 * profile.Addr(r.bp())
	case OpDerefSPSaved:
		cfa, ok = w.deref(f.SP + profile.Addr(8*(r.off()>>7)))
		cfa += profile.Addr(8 * (r.off() & 127))
	case OpRegister:
		cfa = profile.Addr(f.General[r.off()&15]) + profile.Addr(8*(r.off()>>4))
	case OpReturnRegister:
		cfa = f.SP + profile.Addr(8*(r.off()>>4))
	default:
		return EndInvalid
	}
	if !ok {
		return EndUnreadable
	}
	switch size := cfa - f.SP; {
	case r.Op() == OpReturnRegister && f.depth > 0,
		// The leaf's caller may still have its registers.
		r.Op() == OpRegister && f.depth > 0 && (f.depth > 1 || size > likelyFrame || size%8 != 0):
		return EndRegister
	}
	var ra profile.Addr
	if r.Op() == OpReturnRegister {
		ra = profile.Addr(f.General[r.off()&15])
	} else if ra, ok = w.deref(cfa - 8); !ok {
		return EndUnreadable
	}
	switch bp := r.bp(); {
	case r.Op() == OpDerefSP || bp == bpUnchanged:
	case bp == bpFromBP:
		f.BP, ok = w.deref(f.BP)
	default:
		f.BP, ok = w.deref(cfa - 8*profile.Addr(bp))
	}
	if !ok {
		return EndUnreadable
	}
	f.PC, f.SP = ra, cfa
	return EndRoot
}

// arm64 applies the rules that end in SP = CFA.
func (w *Walker) arm64(f *frame, r Rule) End {
	cfa := f.SP
	if r.Op() == OpBP || r.Op() == OpRecordBP {
		cfa = f.BP
	}
	cfa += profile.Addr(16 * r.arm64Off())
	fp, ra := 8*profile.Addr(r.bp()), 8*profile.Addr(r.ra())
	switch r.Op() {
	case OpSP, OpBP:
	case OpRecordSP, OpRecordBP:
		fp = 16 * profile.Addr(r.rec())
		ra = fp - 8
	default:
		return EndInvalid
	}
	if ra == 0 && !f.lr {
		return EndRegister
	}
	pc, ok := f.LR, true
	if ra != 0 {
		pc, ok = w.deref(cfa - ra)
	}
	if fp != 0 && ok {
		f.BP, ok = w.deref(cfa - fp)
	}
	if !ok {
		return EndUnreadable
	}
	f.PC, f.SP = pc, cfa
	return EndRoot
}

func (w *Walker) deref(a profile.Addr) (profile.Addr, bool) {
	v, ok := w.Word(a)
	return profile.Addr(v), ok
}
