// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// accepted programs are the neighbors of refused ones.
var accepted = []struct {
	name string
	p    asm.Instructions
}{
	{"4,096 instructions", program(many(4094), end)},
	{"backward jump that is no loop", program(asm.Mov.Imm(asm.R0, 0), asm.Ja.Label("b"), asm.Return().WithSymbol("a"), asm.Ja.Label("a").WithSymbol("b"))},
	{"2^5 states", program(unlike(5), end)},
	{"1,000 paths", program(forks(1000), end)},
	{"unsigned greater", program(anyNumber, asm.JGT.Imm(asm.R7, 1, "end"), end)},
	{"atomic addition", program(element, asm.Mov.Imm(asm.R1, 1), asm.AddAtomic.Mem(asm.R6, asm.R1, asm.DWord, 0), end)},
	{"number spilled", program(anyNumber, asm.StoreMem(asm.RFP, -8, asm.R7, asm.DWord), asm.LoadMem(asm.R0, asm.RFP, -8, asm.Word), end)},
	{"context spilled", program(asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord), anyNumber, asm.LoadMem(asm.R1, asm.RFP, -8, asm.DWord), asm.LoadMem(asm.R0, asm.R1, 160, asm.DWord), end)},
	{"map value", program(element, load, set(asm.R6, 56), end)},
	{"map value plus a constant", program(element, asm.Add.Imm(asm.R6, 56), load, end)},
	{"map value plus a masked number", program(element, anyNumber, asm.And.Imm(asm.R7, 7), asm.LSh.Imm(asm.R7, 3), asm.Add.Reg(asm.R6, asm.R7), load, end)},
	{"map value plus a compared number", program(element, anyNumber, asm.JGT.Imm(asm.R7, 56, "end"), asm.Add.Reg(asm.R6, asm.R7), load, end)},
	{"map value spilled, at a constant", program(element, asm.StoreMem(asm.RFP, -16, asm.R6, asm.DWord), asm.LoadMem(asm.R1, asm.RFP, -16, asm.DWord),
		asm.LoadMem(asm.R1, asm.R1, 56, asm.DWord), end)},
	{"range kept over a call", program(element, anyNumber, asm.And.Imm(asm.R7, 7), asm.FnKtimeGetNs.Call(), asm.Add.Reg(asm.R6, asm.R7), load, end)},
	{"helper writes the stack", program(readUser(asm.Mov.Reg(asm.R1, asm.RFP), 64), asm.LoadMem(asm.R0, asm.RFP, -8, asm.DWord), end)},
	{"key and value", program(set(asm.RFP, -8), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -8), asm.Mov.Reg(asm.R3, asm.R2),
		asm.Mov.Imm(asm.R4, 0), loadMap(asm.R1, "hash"), asm.FnMapUpdateElem.Call(), end)},
	{"stack trace", program(loadMap(asm.R2, "stacks"), asm.Mov.Imm(asm.R3, 0), asm.FnGetStackid.Call(), end)},
	{"tail call", program(loadMap(asm.R2, "programs"), asm.Mov.Imm(asm.R3, 0), asm.FnTailCall.Call(), end)},
}

func TestVerifier49Accepts(t *testing.T) {
	for _, c := range accepted {
		for _, r := range releases {
			if _, err := verify49(r, c.p, ruleMaps, 176); err != nil {
				t.Errorf("%s, Linux %s: %v", c.name, r.name, err)
			}
		}
	}
}

// The first 4.9 learns from a comparison with null for one register, the last
// one for its copies, too.
func TestVerifier49Copies(t *testing.T) {
	p := program(lookup, asm.StoreMem(asm.RFP, -16, asm.R0, asm.DWord), asm.JEq.Imm(asm.R0, 0, "end"),
		asm.LoadMem(asm.R6, asm.RFP, -16, asm.DWord), load, end)
	if _, err := verify49(releases[0], p, ruleMaps, 176); !errors.Is(err, ruleNoPointer) {
		t.Errorf("Linux %s: %v", releases[0].name, err)
	}
	if _, err := verify49(releases[1], p, ruleMaps, 176); err != nil {
		t.Errorf("Linux %s: %v", releases[1].name, err)
	}
}

// Two ways to the same state are one, from where they meet; and two that
// differ are two once a map value has been indexed, because then ranges count.
func TestVerifier49Prunes(t *testing.T) {
	fork := program(anyNumber, asm.Mov.Imm(asm.R8, 1), asm.JEq.Imm(asm.R0, 0, "meet"), asm.Mov.Imm(asm.R8, 2))
	meet := program(asm.Mov.Imm(asm.R0, 0).WithSymbol("meet"), many(100), end)
	indexed := program(element, anyNumber, asm.And.Imm(asm.R7, 7), asm.Add.Reg(asm.R6, asm.R7), load)
	for _, r := range releases {
		alike, err := verify49(r, program(fork, asm.Mov.Imm(asm.R8, 1), meet), ruleMaps, 176)
		if err != nil {
			t.Fatal(err)
		}
		// The path that stayed passes where they meet, and leaves its mark.
		if alike > 120 {
			t.Errorf("Linux %s: %d instructions processed where the ways are alike", r.name, alike)
		}
		different, err := verify49(r, program(fork, meet), ruleMaps, 176)
		if err != nil {
			t.Fatal(err)
		}
		if different < 200 {
			t.Errorf("Linux %s: %d instructions processed where the ways differ in a constant", r.name, different)
		}
		unknown := program(anyNumber, asm.JGT.Imm(asm.R7, 5, "meet"), meet)
		ranges, err := verify49(r, unknown, ruleMaps, 176)
		if err != nil {
			t.Fatal(err)
		}
		if ranges > 120 {
			t.Errorf("Linux %s: %d instructions processed where the ways differ in a range", r.name, ranges)
		}
		ranges, err = verify49(r, program(indexed, unknown), ruleMaps, 176)
		if err != nil {
			t.Fatal(err)
		}
		if ranges < 200 {
			t.Errorf("Linux %s: %d instructions processed where the ways differ in a range that counts", r.name, ranges)
		}
	}
}

func TestVerifier49Maps(t *testing.T) {
	good := ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}
	if err := checkMap(&good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*ebpf.MapSpec){
		"LRU hash":             func(m *ebpf.MapSpec) { m.Type = ebpf.LRUHash },
		"map of maps":          func(m *ebpf.MapSpec) { m.Type = ebpf.ArrayOfMaps },
		"ring buffer":          func(m *ebpf.MapSpec) { m.Type = ebpf.RingBuf },
		"mapped array":         func(m *ebpf.MapSpec) { m.Flags = 1 << 10 },
		"array by 8 bytes":     func(m *ebpf.MapSpec) { m.KeySize = 8 },
		"array of nothing":     func(m *ebpf.MapSpec) { m.ValueSize = 0 },
		"array of no elements": func(m *ebpf.MapSpec) { m.MaxEntries = 0 },
		"2 MiB in an array":    func(m *ebpf.MapSpec) { m.ValueSize = 2 << 20 },
		"5 GiB":                func(m *ebpf.MapSpec) { m.ValueSize, m.MaxEntries = 1<<20, 5<<10 },
		"64 KiB a CPU":         func(m *ebpf.MapSpec) { m.Type, m.ValueSize = ebpf.PerCPUArray, 64<<10 },
		"hash by 513 bytes":    func(m *ebpf.MapSpec) { m.Type, m.KeySize = ebpf.Hash, 513 },
		"stacks of 128 frames": func(m *ebpf.MapSpec) { m.Type, m.ValueSize = ebpf.StackTrace, 8*128 },
		"stacks by the half":   func(m *ebpf.MapSpec) { m.Type, m.ValueSize = ebpf.StackTrace, 12 },
	} {
		m := good
		change(&m)
		if checkMap(&m) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
