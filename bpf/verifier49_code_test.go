// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// instruction is one of eight bytes, as the kernel has it
// (Documentation/networking/filter.txt); a constant of 64 bits takes two.
type instruction struct {
	code     uint8
	dst, src uint8
	off      int16
	imm      int32
	m        *ebpf.MapSpec // the map whose descriptor imm would be
}

// The parts of code. Values of one part that another kernel than 4.9 brought
// have no name here.
const (
	classLoad          = 0
	classLoadRegister  = 1
	classStoreConstant = 2
	classStore         = 3
	classALU32         = 4
	classJump          = 5
	classALU64         = 7

	fromRegister = 8

	modeConstant = 0x00
	modeMemory   = 0x60
	modeAdd      = 0xc0

	loadConstant64 = 0x18
	pseudoMap      = 1

	opAdd        = 0x00
	opSubtract   = 0x10
	opMultiply   = 0x20
	opDivide     = 0x30
	opOr         = 0x40
	opAnd        = 0x50
	opShiftLeft  = 0x60
	opShiftRight = 0x70
	opNegate     = 0x80
	opModulo     = 0x90
	opMove       = 0xb0
	opShiftSign  = 0xc0
	opSwap       = 0xd0

	jumpAlways         = 0x00
	jumpEqual          = 0x10
	jumpGreater        = 0x20
	jumpGreaterOrEqual = 0x30
	jumpNotEqual       = 0x50
	jumpSignedGreater  = 0x60
	jumpSignedOrEqual  = 0x70
	jumpCall           = 0x80
	jumpExit           = 0x90
)

func (i instruction) class() uint8         { return i.code & 7 }
func (i instruction) mode() uint8          { return i.code & 0xe0 }
func (i instruction) operation() uint8     { return i.code & 0xf0 }
func (i instruction) fromRegister() bool   { return i.code&fromRegister != 0 }
func (i instruction) bytes() int64         { return [4]int64{4, 2, 1, 8}[i.code>>3&3] }
func (i instruction) isJump(op uint8) bool { return i.class() == classJump && i.operation() == op }

// isBranch: it may jump or go on.
func (i instruction) isBranch() bool {
	return i.class() == classJump && !i.isJump(jumpAlways) && !i.isJump(jumpCall) && !i.isJump(jumpExit)
}

// encode makes of a program what the kernel gets, with jumps to symbols
// resolved.
func encode(program asm.Instructions, maps map[string]*ebpf.MapSpec) ([]instruction, error) {
	places := map[string]int{}
	at := 0
	for _, ins := range program {
		if ins.Symbol() != "" {
			places[ins.Symbol()] = at
		}
		at += int(ins.Size() / asm.InstructionSize)
	}
	var code []instruction
	for _, ins := range program {
		if to, ok := places[ins.Reference()]; ok && ins.OpCode.Class() == asm.JumpClass && ins.OpCode.JumpOp() != asm.Call {
			ins.Offset = int16(to - len(code) - 1)
		}
		var b bytes.Buffer
		if _, err := ins.Marshal(&b, binary.LittleEndian); err != nil {
			return nil, fmt.Errorf("instruction %d, %v: %w", len(code), ins, err)
		}
		first := len(code)
		for raw := b.Bytes(); len(raw) > 0; raw = raw[asm.InstructionSize:] {
			code = append(code, instruction{
				code: raw[0], dst: raw[1] & 15, src: raw[1] >> 4,
				off: int16(binary.LittleEndian.Uint16(raw[2:])), imm: int32(binary.LittleEndian.Uint32(raw[4:])),
			})
		}
		if op := ins.OpCode.AtomicOp(); op != asm.InvalidAtomic {
			code[first].imm = int32(op >> 8) // which Marshal leaves out
		}
		if ins.IsLoadFromMap() {
			m := maps[ins.Reference()]
			if m == nil {
				return nil, fmt.Errorf("instruction %d loads an unknown map, %q", first, ins.Reference())
			}
			code[first].m = m
		}
	}
	return code, nil
}

// checkEncoding is what the kernel looks at first: reserved fields of loads
// and stores, and what 64-bit constants stand for.
func (v *verifier49) checkEncoding() error {
	used := map[*ebpf.MapSpec]bool{}
	for at := 0; at < len(v.code); at++ {
		i := v.code[at]
		switch {
		case i.class() == classLoadRegister && (i.mode() != modeMemory || i.imm != 0),
			i.class() == classStore && (i.mode() != modeMemory && i.mode() != modeAdd || i.imm != 0):
			return refuse(at, ruleReserved, "code %#x, imm %#x", i.code, i.imm)
		case i.code == loadConstant64:
			if at+1 == len(v.code) || v.code[at+1].code != 0 || v.code[at+1].dst != 0 || v.code[at+1].src != 0 || v.code[at+1].off != 0 {
				return refuse(at, ruleReserved, "half of a 64-bit constant")
			}
			if i.src != 0 && i.src != pseudoMap {
				return refuse(at, rulePseudo, "kind %d", i.src)
			}
			if i.m != nil {
				if err := checkMap(i.m); err != nil {
					return refuse(at, ruleMap, "%v", err)
				}
				used[i.m] = true
			}
			at++
		}
	}
	if len(used) > 64 {
		return refuse(0, ruleMap, "%d maps in one program", len(used))
	}
	return nil
}

// checkFlow: a program is a graph without a loop, all of whose instructions
// can be reached.
func (v *verifier49) checkFlow() error {
	const (
		unseen = iota
		entered
		left
	)
	seen := make([]uint8, len(v.code))
	var visit func(from, at int) error
	visit = func(from, at int) error {
		if at < 0 || at >= len(v.code) {
			return refuse(from, ruleOutOfRange, "to %d", at)
		}
		if seen[at] == entered {
			return refuse(from, ruleBackEdge, "to %d", at)
		}
		if seen[at] == left {
			return nil
		}
		seen[at] = entered
		for _, to := range v.successors(at) {
			if err := visit(at, to); err != nil {
				return err
			}
		}
		seen[at] = left
		return nil
	}
	if err := visit(0, 0); err != nil {
		return err
	}
	for at, s := range seen {
		if s == unseen {
			return refuse(at, ruleUnreachable, "")
		}
	}
	return nil
}

func (v *verifier49) successors(at int) []int {
	i := v.code[at]
	to := at + 1 + int(i.off)
	switch {
	case i.isJump(jumpExit):
		return nil
	case i.isJump(jumpAlways):
		return []int{to}
	case i.isBranch():
		return []int{at + 1, to}
	}
	return []int{at + 1}
}

// prunable marks the instructions before which the kernel asks whether it has
// been there in a like state.
func (v *verifier49) prunable() []bool {
	marks := make([]bool, len(v.code)+1)
	for at, i := range v.code {
		switch {
		case i.isJump(jumpCall), i.isJump(jumpAlways):
			marks[at+1] = true
		case i.isBranch():
			marks[at+1+int(i.off)] = true
			marks[at] = marks[at] || v.release.prunesAtJumps
		}
	}
	return marks
}
