// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// ruleMaps are the maps of the programs below.
var ruleMaps = map[string]*ebpf.MapSpec{
	"array":    {Name: "array", Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 1},
	"hash":     {Name: "hash", Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 1},
	"sparse":   {Name: "sparse", Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 1, Flags: 1},
	"programs": {Name: "programs", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1},
	"stacks":   {Name: "stacks", Type: ebpf.StackTrace, KeySize: 4, ValueSize: 8 * 127, MaxEntries: 1},
}

// loadMap is what clang makes of the address of a map, or of a global.
func loadMap(to asm.Register, name string) asm.Instruction {
	return asm.LoadMapPtr(to, 0).WithReference(name)
}

// program joins parts.
func program(parts ...any) asm.Instructions {
	var all asm.Instructions
	for _, p := range parts {
		switch p := p.(type) {
		case asm.Instruction:
			all = append(all, p)
		case asm.Instructions:
			all = append(all, p...)
		}
	}
	return all
}

// end is the usual one, and where the programs below jump to.
var end = asm.Instructions{asm.Mov.Imm(asm.R0, 0).WithSymbol("end"), asm.Return()}

// lookup leaves an element of array in R0, null or not.
var lookup = asm.Instructions{
	asm.StoreImm(asm.RFP, -4, 0, asm.Word),
	asm.Mov.Reg(asm.R2, asm.RFP),
	asm.Add.Imm(asm.R2, -4),
	loadMap(asm.R1, "array"),
	asm.FnMapLookupElem.Call(),
}

// element is lookup, and in R6 what was found.
var element = program(lookup, asm.JEq.Imm(asm.R0, 0, "end"), asm.Mov.Reg(asm.R6, asm.R0))

// anyNumber leaves one in R7 of which nothing is known: the stack forgets.
var anyNumber = asm.Instructions{
	asm.FnKtimeGetNs.Call(),
	asm.StoreMem(asm.RFP, -64, asm.R0, asm.DWord),
	asm.LoadMem(asm.R7, asm.RFP, -64, asm.DWord),
}

// set stores a constant of 8 bytes.
func set(to asm.Register, off int16) asm.Instruction {
	return asm.Instruction{OpCode: asm.OpCode(asm.StClass).SetMode(asm.MemMode).SetSize(asm.DWord), Dst: to, Offset: off}
}

// load reads 8 bytes at R6.
var load = asm.LoadMem(asm.R1, asm.R6, 0, asm.DWord)

// readUser reads size bytes to where to points.
func readUser(to asm.Instruction, size int32) asm.Instructions {
	return asm.Instructions{to, asm.Add.Imm(asm.R1, -64), asm.Mov.Imm(asm.R2, size), asm.Mov.Imm(asm.R3, 0), asm.FnProbeRead.Call()}
}

// jump32 is a comparison of 32 bits, of Linux 5.1.
var jump32 = asm.JEq.Imm32(asm.R1, 0, "end")

// many is n instructions that do nothing.
func many(n int) asm.Instructions {
	return slices.Repeat(asm.Instructions{asm.Mov.Imm(asm.R0, 0)}, n)
}

// forks puts n paths aside.
func forks(n int) asm.Instructions {
	p := slices.Clone(anyNumber)
	for i := range n {
		p = append(p, asm.JSGT.Imm(asm.R7, int32(i), "end"), asm.Mov.Imm(asm.R1, int32(i)))
	}
	return p
}

// unlike makes 2^n states, by constants, and has a thousand instructions for each.
func unlike(n int) asm.Instructions {
	p := program(anyNumber, asm.Mov.Imm(asm.R8, 0))
	for i := range n {
		name := string(rune('a' + i))
		p = append(p, asm.JEq.Imm(asm.R7, int32(i), name), asm.Add.Imm(asm.R8, 1<<i), asm.Mov.Imm(asm.R0, 0).WithSymbol(name))
	}
	return append(p, many(1000)...)
}

// refused programs, each by one rule.
var refused = []struct {
	name string
	rule rule
	p    asm.Instructions
}{
	{"4,097 instructions", ruleTooLong, program(many(4095), end)},
	{"loop", ruleBackEdge, program(asm.Mov.Imm(asm.R0, 0).WithSymbol("again"), asm.JNE.Imm(asm.R0, 1, "again"), end)},
	{"code after the end", ruleUnreachable, program(end, asm.Mov.Imm(asm.R0, 1), asm.Return())},
	{"no end", ruleOutOfRange, program(many(1))},
	{"2^7 states", ruleTooComplex, program(unlike(7), end)},
	{"1,025 paths", ruleTooBranchy, program(forks(1025), end)},
	{"unsigned less", ruleOperation, program(anyNumber, asm.JLT.Imm(asm.R7, 1, "end"), end)},
	{"unsigned less or equal", ruleOperation, program(anyNumber, asm.JLE.Imm(asm.R7, 1, "end"), end)},
	{"signed less", ruleOperation, program(anyNumber, asm.JSLT.Imm(asm.R7, 1, "end"), end)},
	{"comparison of 32 bits", ruleClass, program(anyNumber, asm.Mov.Imm(asm.R1, 0), jump32, end)},
	{"signed division", ruleReserved, program(anyNumber, asm.SDiv.Imm(asm.R7, 2), end)},
	{"fetch and add", ruleReserved, program(element, asm.Mov.Imm(asm.R1, 1), asm.FetchAdd.Mem(asm.R6, asm.R1, asm.DWord, 0), end)},
	{"function", ruleReserved, program(asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoCall, Constant: 1}, end)},
	{"global", rulePseudo, program(asm.LoadMapValue(asm.R1, 0, 0).WithReference("array"), end)},
	{"hash that is not preallocated", ruleMap, program(loadMap(asm.R1, "sparse"), end)},
	{"shift by 64", ruleShift, program(anyNumber, asm.LSh.Imm(asm.R7, 64), end)},
	{"division by zero", ruleDivision, program(anyNumber, asm.Div.Imm(asm.R7, 0), end)},
	{"register of nothing", ruleRegister, program(asm.Mov.Reg(asm.R0, asm.R5), end)},
	{"argument after a call", ruleRegister, program(asm.FnKtimeGetNs.Call(), asm.Mov.Reg(asm.R0, asm.R1), end)},
	{"frame pointer written", ruleReadOnly, program(asm.Mov.Imm(asm.RFP, 0), end)},
	{"no return value", ruleIncomplete, program(asm.Return())},
	{"no return value after a tail call", ruleIncomplete, program(loadMap(asm.R2, "programs"), asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call(), asm.Return())},

	{"stack below its end", ruleStack, program(set(asm.RFP, -520), end)},
	{"stack above its start", ruleStack, program(set(asm.RFP, 0), end)},
	{"stack pointer beyond the stack", ruleStackVariable, program(asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, -8), asm.Add.Imm(asm.R1, -512), end)},
	{"stack not written", ruleStackRead, program(asm.LoadMem(asm.R0, asm.RFP, -8, asm.DWord), end)},
	{"stack misaligned", ruleAlignment, program(set(asm.RFP, -12), end)},
	{"half of a pointer stored", ruleSpillSize, program(asm.StoreMem(asm.RFP, -8, asm.R1, asm.Word), end)},
	{"half of a pointer loaded", ruleSpillSize, program(asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord), asm.LoadMem(asm.R0, asm.RFP, -8, asm.Word), end)},
	{"stack by a variable", ruleNoPointer, program(anyNumber, asm.And.Imm(asm.R7, 7), asm.Mov.Reg(asm.R6, asm.RFP), asm.Sub.Reg(asm.R6, asm.R7), load, end)},

	{"map value without comparison", ruleNoPointer, program(lookup, asm.Mov.Reg(asm.R6, asm.R0), load, end)},
	{"map value that is null", ruleNoPointer, program(lookup, asm.JNE.Imm(asm.R0, 0, "end"), asm.Mov.Reg(asm.R6, asm.R0), load, end)},
	{"map value, too far", ruleMapBounds, program(element, asm.LoadMem(asm.R1, asm.R6, 64, asm.DWord), end)},
	{"map value, half out", ruleMapBounds, program(element, asm.Add.Imm(asm.R6, 60), load, end)},
	{"map value misaligned", ruleAlignment, program(element, asm.LoadMem(asm.R1, asm.R6, 4, asm.DWord), end)},
	{"map value, negative offset", ruleMapNegative, program(element, anyNumber, asm.JSGT.Imm(asm.R7, 7, "end"), asm.Add.Reg(asm.R6, asm.R7), load, end)},
	{"map value, unbounded offset", ruleMapUnbounded, program(element, anyNumber, asm.JGE.Imm(asm.R7, 0, "in"), asm.Ja.Label("end"), asm.Add.Reg(asm.R6, asm.R7).WithSymbol("in"), load, end)},
	{"map value, offset too large", ruleMapBounds, program(element, anyNumber, asm.And.Imm(asm.R7, 63), asm.Add.Reg(asm.R6, asm.R7), load, end)},
	{"map value, offset by a shift", ruleMapNegative, program(element, anyNumber, asm.RSh.Imm(asm.R7, 61), asm.Add.Reg(asm.R6, asm.R7), load, end)},
	{"map value, offset spilled", ruleMapNegative, program(element, anyNumber, asm.And.Imm(asm.R7, 7),
		asm.StoreMem(asm.RFP, -16, asm.R7, asm.DWord), asm.LoadMem(asm.R7, asm.RFP, -16, asm.DWord), asm.Add.Reg(asm.R6, asm.R7), load, end)},
	{"number plus map value", ruleNoPointer, program(element, anyNumber, asm.And.Imm(asm.R7, 7), asm.Add.Reg(asm.R7, asm.R6), asm.LoadMem(asm.R1, asm.R7, 0, asm.Byte), end)},
	{"map value minus a number", ruleNoPointer, program(element, asm.Sub.Imm(asm.R6, 0), load, end)},
	{"adjusted pointer spilled", ruleNoPointer, program(element, asm.Add.Imm(asm.R6, 8),
		asm.StoreMem(asm.RFP, -16, asm.R6, asm.DWord), asm.LoadMem(asm.R6, asm.RFP, -16, asm.DWord), load, end)},
	{"map value spilled, then indexed", ruleMapNegative, program(element, asm.StoreMem(asm.RFP, -16, asm.R6, asm.DWord), anyNumber, asm.And.Imm(asm.R7, 7),
		asm.LoadMem(asm.R6, asm.RFP, -16, asm.DWord), asm.Add.Reg(asm.R6, asm.R7), load, end)},

	{"context written", ruleContext, program(set(asm.R1, 0), end)},
	{"half a word of the context", ruleContext, program(asm.LoadMem(asm.R0, asm.R1, 0, asm.Word), end)},
	{"beyond the context", ruleContext, program(asm.LoadMem(asm.R0, asm.R1, 176, asm.DWord), end)},
	{"context plus something", ruleNoPointer, program(asm.Add.Imm(asm.R1, 8), asm.LoadMem(asm.R0, asm.R1, 0, asm.DWord), end)},
	{"context or stack", ruleMixed, program(asm.Mov.Reg(asm.R6, asm.R1), set(asm.RFP, -8), anyNumber, asm.JEq.Imm(asm.R7, 0, "load"),
		asm.Mov.Reg(asm.R6, asm.RFP), asm.Add.Imm(asm.R6, -8), asm.LoadMem(asm.R1, asm.R6, 0, asm.DWord).WithSymbol("load"), end)},

	{"helper of 4.18", ruleHelper, program(asm.FnGetStack.Call(), end)},
	{"helper of 5.5", ruleHelper, program(asm.FnProbeReadUser.Call(), end)},
	{"helper writes a map value", ruleArgument, program(element, readUser(asm.Mov.Reg(asm.R1, asm.R6), 8), end)},
	{"helper writes beyond the stack", ruleStack, program(readUser(asm.Mov.Reg(asm.R1, asm.RFP), 65), end)},
	{"helper writes nothing", ruleStack, program(readUser(asm.Mov.Reg(asm.R1, asm.RFP), 0), end)},
	{"helper writes so many bytes", ruleArgument, program(anyNumber, asm.And.Imm(asm.R7, 7), asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, -64),
		asm.Mov.Reg(asm.R2, asm.R7), asm.Mov.Imm(asm.R3, 0), asm.FnProbeRead.Call(), end)},
	{"key in a map value", ruleArgument, program(element, asm.Mov.Reg(asm.R2, asm.R6), loadMap(asm.R1, "hash"), asm.FnMapLookupElem.Call(), end)},
	{"key half written", ruleStackRead, program(element, asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -8), loadMap(asm.R1, "hash"), asm.FnMapLookupElem.Call(), end)},
	{"key of a pointer", ruleStackRead, program(asm.StoreMem(asm.RFP, -8, asm.RFP, asm.DWord), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -8),
		loadMap(asm.R1, "hash"), asm.FnMapLookupElem.Call(), end)},
	{"lookup in a stack trace map", ruleHelperMap, program(asm.StoreImm(asm.RFP, -4, 0, asm.Word), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
		loadMap(asm.R1, "stacks"), asm.FnMapLookupElem.Call(), end)},
	{"tail call into an array", ruleHelperMap, program(loadMap(asm.R2, "array"), asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call(), end)},
	{"stack trace of something else", ruleArgument, program(asm.Mov.Imm(asm.R1, 0), loadMap(asm.R2, "stacks"), asm.Mov.Imm(asm.R3, 0), asm.FnGetStackid.Call(), end)},
}

func TestVerifier49Refuses(t *testing.T) {
	for _, c := range refused {
		for _, r := range releases {
			_, err := verify49(r, c.p, ruleMaps, 176)
			if !errors.Is(err, c.rule) {
				t.Errorf("%s, Linux %s: %v, want %q", c.name, r.name, err, c.rule)
			}
		}
	}
}
