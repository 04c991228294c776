// SPDX-License-Identifier: Apache-2.0

package otel_test

import (
	"debug/elf"
	"fmt"

	"go.opentelemetry.io/ebpf-profiler/nativeunwind/elfunwindinfo"
	"go.opentelemetry.io/ebpf-profiler/nativeunwind/stackdeltatypes"
	"go.opentelemetry.io/ebpf-profiler/support"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// span is code for which one reader has one rule, in the words of
// [unwind.Rule.Text]: "none" where it knows of no function.
type span struct {
	start, limit uint64
	rule         string
}

// none is what both say of code that nobody described. Their reader has one
// word for that and for rules that it cannot express, see the explained kinds.
const none = "none"

// ours are our rows; of PLT rules, what they say of each address.
func ours(o *object.File) ([]span, error) {
	tables, _, err := unwind.Build(o)
	var all []span
	for i := range tables {
		t := &tables[i]
		for k, r := range t.Rows {
			start, limit := uint64(t.Base)+uint64(r.Addr), uint64(t.Limit)
			if k+1 < len(t.Rows) {
				limit = uint64(t.Base) + uint64(t.Rows[k+1].Addr)
			}
			all = appendSpan(all, start, limit, r.Rule.Text(o.Machine()))
		}
	}
	return all, err
}

// theirs are the rows of the OpenTelemetry profiler, between our first address
// and our last.
func theirs(path string, machine elf.Machine, first, last uint64) ([]span, error) {
	var d stackdeltatypes.IntervalData
	if err := elfunwindinfo.Extract(path, &d); err != nil {
		return nil, err
	}
	say := amd64Text
	if machine == elf.EM_AARCH64 {
		say = arm64Text
	}
	var all []span
	at, rule := first, none
	for i := range d.Deltas {
		delta := &d.Deltas[i]
		if delta.Address >= last {
			break
		}
		if delta.Address > at {
			all = appendSpan(all, at, delta.Address, rule)
			at = delta.Address
		}
		rule = say(&delta.Info)
	}
	return appendSpan(all, at, last, rule), nil
}

// appendSpan spreads the one rule that depends on the address: a stub of 16
// bytes has pushed a word at its byte 11.
func appendSpan(all []span, start, limit uint64, rule string) []span {
	const plt, pushed = "CFA=PLT", 11
	if rule != plt {
		return append(all, span{start, limit, rule})
	}
	for start < limit {
		next, said := start&^15+pushed, "CFA=SP+8"
		if start&15 >= pushed {
			next, said = start&^15+16, "CFA=SP+16"
		}
		next = min(next, limit)
		all = append(all, span{start, next, said})
		start = next
	}
	return all
}

// command says what is no equation.
func command(u *stackdeltatypes.UnwindInfo) string {
	switch u.Param {
	case support.UnwindCommandStop:
		return "root"
	case support.UnwindCommandPLT:
		return "CFA=PLT"
	case support.UnwindCommandSignal:
		return "signal"
	case support.UnwindCommandFramePointer:
		return "frame pointer"
	}
	return none
}

// amd64Text says in our words what native_stack_trace.ebpf.c does with a row.
// The return address is always the word below the CFA.
func amd64Text(u *stackdeltatypes.UnwindInfo) string {
	var s string
	before, after := stackdeltatypes.UnpackDerefParam(u.Param)
	switch u.Opcode {
	case support.UnwindOpcodeCommand:
		return command(u)
	case support.UnwindOpcodeBaseSP:
		s = fmt.Sprintf("CFA=SP%+d", u.Param)
	case support.UnwindOpcodeBaseFP:
		s = fmt.Sprintf("CFA=BP%+d", u.Param)
	case support.UnwindOpcodeBaseReg: // the register's number in 4 bits, the offset's double above them
		s = fmt.Sprintf("CFA=R%d%+d", u.Param&15, u.Param>>4*8)
	case support.UnwindOpcodeBaseSP | support.UnwindOpcodeFlagDeref:
		s = fmt.Sprintf("CFA=*(SP%+d)%+d", before, after)
	case support.UnwindOpcodeBaseFP | support.UnwindOpcodeFlagDeref:
		s = fmt.Sprintf("CFA=*(BP%+d)", before)
		if after != 0 {
			s += fmt.Sprintf("%+d", after)
		}
	default:
		return fmt.Sprintf("opcode %d", u.Opcode)
	}
	switch {
	case u.FPOpcode == support.UnwindOpcodeCommand:
		return s
	case u.FPOpcode == support.UnwindOpcodeBaseCFA:
		return s + fmt.Sprintf(" BP=*(CFA%+d)", u.FPParam)
	case u.FPOpcode == support.UnwindOpcodeBaseFP && u.Opcode == support.UnwindOpcodeBaseFP:
		return s + fmt.Sprintf(" BP=*(CFA%+d)", u.FPParam-u.Param)
	case u.FPOpcode == support.UnwindOpcodeBaseFP && u.FPParam == 0:
		return s + " BP=*(BP)"
	}
	return s + fmt.Sprintf(" frame pointer's opcode %d", u.FPOpcode)
}

// arm64Text leaves the frame pointer out, of which their rows say nothing: they
// take it from the word below the return address.
func arm64Text(u *stackdeltatypes.UnwindInfo) string {
	var s string
	switch u.Opcode {
	case support.UnwindOpcodeCommand:
		if u.Param == support.UnwindCommandInvalid && u.FPOpcode == support.UnwindOpcodeBaseLR {
			return none // the frame base is what they cannot express
		}
		return command(u)
	case support.UnwindOpcodeBaseSP:
		s = fmt.Sprintf("CFA=SP%+d", u.Param)
	case support.UnwindOpcodeBaseFP:
		s = fmt.Sprintf("CFA=FP%+d", u.Param)
	default:
		return fmt.Sprintf("opcode %d", u.Opcode)
	}
	if u.FPOpcode == support.UnwindOpcodeBaseLR {
		return s
	}
	return s + fmt.Sprintf(" RA=*(CFA%+d)", u.FPParam-u.Param)
}
