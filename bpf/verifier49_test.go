// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// verifier49 decides as the verifier of Linux 4.9 does, as far as a perf
// event's program loaded by root can tell (kernel/bpf/verifier.c there): what
// it knows of registers and of the stack, and what it forgets, path by path.
//
// That verifier knows much less than today's: a pointer into the middle of a
// map's value is lost on the stack, so is every range; helpers get memory on
// the stack only; nothing is known of a difference, or of 32-bit arithmetic.
type verifier49 struct {
	release  release
	code     []instruction
	context  int64  // bytes of it
	prunes   []bool // by instruction
	visited  [][]*state
	contexts map[int]kind // what an instruction took its address from

	now       state
	waiting   []path
	ids       uint32
	variable  bool // a map value was accessed at a variable offset
	processed int
}

// path is one that is still to be followed.
type path struct {
	at    int
	state state
}

// release is what differs between the first and the last 4.9.
type release struct {
	name          string
	limit         int  // processed instructions
	prunesAtJumps bool // compares states at conditional jumps, too
	knowsCopies   bool // a comparison with null counts for all copies of the pointer
	knowsSigns    bool // keeps ranges of signed and unsigned comparisons apart
	// A number that a helper returns has no range. The kernel forgets to
	// forget the one of what the register held before.
	forgetsResults bool
}

// What the last one has more came with 4.9.31 to 4.9.41, by the history of
// changes; the rest is as read.
var releases = []release{
	{name: "4.9.0", limit: 65536},
	{name: "4.9.337", limit: 98304, prunesAtJumps: true, knowsCopies: true, knowsSigns: true},
	{name: "4.9 at its strictest", limit: 65536, knowsSigns: true, forgetsResults: true},
}

const (
	maxInstructions = 4096
	maxWaiting      = 1024
)

// rule is why a program is refused.
type rule string

func (r rule) Error() string { return string(r) }

const (
	ruleTooLong       rule = "more than 4,096 instructions"
	ruleTooComplex    rule = "too many instructions processed"
	ruleTooBranchy    rule = "too many paths at once"
	ruleReserved      rule = "reserved fields are used"
	rulePseudo        rule = "a 64-bit constant that is no map"
	ruleMap           rule = "a map that cannot be used"
	ruleOutOfRange    rule = "jump out of range"
	ruleBackEdge      rule = "back-edge"
	ruleUnreachable   rule = "unreachable instruction"
	ruleClass         rule = "unknown class of instruction"
	ruleOperation     rule = "unknown operation"
	ruleRegister      rule = "register is not initialized"
	ruleReadOnly      rule = "frame pointer is read only"
	ruleDivision      rule = "division by zero"
	ruleShift         rule = "invalid shift"
	ruleStack         rule = "stack access out of bounds"
	ruleStackRead     rule = "stack read of what was not written"
	ruleSpillSize     rule = "part of a spilled pointer"
	ruleAlignment     rule = "misaligned access"
	ruleMapBounds     rule = "access beyond a map value"
	ruleMapNegative   rule = "offset into a map value may be negative"
	ruleMapUnbounded  rule = "offset into a map value has no upper bound"
	ruleContext       rule = "invalid access to the context"
	ruleMixed         rule = "one instruction for the context and for other memory"
	ruleNoPointer     rule = "access through what is no pointer"
	ruleHelper        rule = "unknown helper"
	ruleArgument      rule = "argument of another kind"
	ruleHelperMap     rule = "helper and map do not fit"
	ruleIncomplete    rule = "no return value"
	ruleUnlicensed    rule = "a helper for GPL programs only"
	ruleStackVariable rule = "stack pointer out of bounds"
)

// refusal is where and why.
type refusal struct {
	at   int
	rule rule
	what string
}

func (r *refusal) Error() string { return fmt.Sprintf("instruction %d: %v: %s", r.at, r.rule, r.what) }
func (r *refusal) Unwrap() error { return r.rule }

func refuse(at int, r rule, format string, args ...any) error {
	return &refusal{at, r, fmt.Sprintf(format, args...)}
}

// verify49 returns the number of instructions that the kernel processes, and
// why it refuses the program if it does.
func verify49(r release, program asm.Instructions, maps map[string]*ebpf.MapSpec, context int64) (int, error) {
	code, err := encode(program, maps)
	if err != nil {
		return 0, err
	}
	if len(code) == 0 || len(code) > maxInstructions {
		return 0, refuse(0, ruleTooLong, "%d", len(code))
	}
	v := &verifier49{release: r, code: code, context: context, contexts: map[int]kind{}, visited: make([][]*state, len(code)+1)}
	if err := v.checkEncoding(); err != nil {
		return 0, err
	}
	if err := v.checkFlow(); err != nil {
		return 0, err
	}
	v.prunes = v.prunable()
	v.now.begin()
	err = v.checkPaths()
	return v.processed, err
}

// checkPaths follows every path, the last one that was put aside first, until
// it ends or joins one that was found good. checkFlow has been, so that no
// path leaves the program.
func (v *verifier49) checkPaths() error {
	at := 0
	for {
		v.processed++
		if v.processed > v.release.limit {
			return refuse(at, ruleTooComplex, "%d", v.processed)
		}
		next := -1
		if !v.known(at) {
			var err error
			if next, err = v.step(at); err != nil {
				return err
			}
		}
		if next < 0 {
			if len(v.waiting) == 0 {
				return nil
			}
			last := len(v.waiting) - 1
			next, v.now = v.waiting[last].at, v.waiting[last].state
			v.waiting = v.waiting[:last]
		}
		at = next
	}
}

// step checks one instruction and returns the next one, or -1 at the end.
func (v *verifier49) step(at int) (int, error) {
	i := v.code[at]
	switch i.class() {
	case classALU32, classALU64:
		return at + 1, v.arithmetic(at, i)
	case classLoadRegister:
		return at + 1, v.load(at, i)
	case classStore, classStoreConstant:
		return at + 1, v.store(at, i)
	case classLoad:
		return at + 2, v.loadConstant(at, i)
	case classJump:
		return v.jump(at, i)
	}
	return 0, refuse(at, ruleClass, "%d", i.class())
}

func (v *verifier49) readable(at int, n uint8) error {
	if n >= registers || v.now.regs[n].kind == notInit {
		return refuse(at, ruleRegister, "r%d", n)
	}
	return nil
}

func (v *verifier49) writable(at int, n uint8) error {
	if n >= registers {
		return refuse(at, ruleRegister, "r%d", n)
	}
	if n == frame {
		return refuse(at, ruleReadOnly, "")
	}
	return nil
}

// loadConstant: the value is forgotten; what counts is whether it is a map.
func (v *verifier49) loadConstant(at int, i instruction) error {
	if i.mode() != modeConstant || i.code != loadConstant64 || i.off != 0 {
		return refuse(at, ruleReserved, "code %#x", i.code)
	}
	if err := v.writable(at, i.dst); err != nil {
		return err
	}
	r := &v.now.regs[i.dst]
	r.forget()
	r.forgetRange()
	if i.src == pseudoMap {
		r.kind, r.m = mapPointer, i.m
	}
	return nil
}
