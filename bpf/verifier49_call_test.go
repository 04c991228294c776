// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// argument is what a helper asks of one.
type argument uint8

const (
	none argument = iota
	anything
	aContext
	aMap
	aKey       // on the stack, as long as the map's keys
	aValue     // on the stack, as long as the map's values
	aStack     // on the stack, written
	aRawStack  // on the stack; the helper writes
	aStackSize // of the argument before; a constant
)

type helper struct {
	arguments [5]argument
	returns   kind // notInit: nothing
	gpl       bool
}

// helpers are those of perf events' programs in Linux 4.9
// (kernel/trace/bpf_trace.c, tp_prog_func_proto), in the order of their
// numbers.
var helpers = map[asm.BuiltinFunc]helper{
	asm.FnMapLookupElem:          {[5]argument{aMap, aKey}, mapValueOrNull, false},
	asm.FnMapUpdateElem:          {[5]argument{aMap, aKey, aValue, anything}, unknown, false},
	asm.FnMapDeleteElem:          {[5]argument{aMap, aKey}, unknown, false},
	asm.FnProbeRead:              {[5]argument{aRawStack, aStackSize, anything}, unknown, true},
	asm.FnKtimeGetNs:             {[5]argument{}, unknown, true},
	asm.FnTracePrintk:            {[5]argument{aStack, aStackSize}, unknown, true},
	asm.FnGetPrandomU32:          {[5]argument{}, unknown, false},
	asm.FnGetSmpProcessorId:      {[5]argument{}, unknown, false},
	asm.FnTailCall:               {[5]argument{aContext, aMap, anything}, notInit, false},
	asm.FnGetCurrentPidTgid:      {[5]argument{}, unknown, false},
	asm.FnGetCurrentUidGid:       {[5]argument{}, unknown, false},
	asm.FnGetCurrentComm:         {[5]argument{aRawStack, aStackSize}, unknown, false},
	asm.FnPerfEventRead:          {[5]argument{aMap, anything}, unknown, false},
	asm.FnPerfEventOutput:        {[5]argument{aContext, aMap, anything, aStack, aStackSize}, unknown, true},
	asm.FnGetStackid:             {[5]argument{aContext, aMap, anything}, unknown, true},
	asm.FnGetCurrentTask:         {[5]argument{}, unknown, true},
	asm.FnProbeWriteUser:         {[5]argument{anything, aStack, aStackSize}, unknown, true},
	asm.FnCurrentTaskUnderCgroup: {[5]argument{aMap, anything}, unknown, false},
}

// passed is what a call's arguments said so far.
type passed struct {
	m     *ebpf.MapSpec
	raw   bool
	at    uint8 // register that the helper writes through
	bytes int64
}

func (v *verifier49) call(at int, number int32) error {
	fn := asm.BuiltinFunc(number)
	h, ok := helpers[fn]
	if !ok {
		return refuse(at, ruleHelper, "%v", fn)
	}
	var p passed
	for n, a := range h.arguments {
		if a == none {
			break
		}
		if err := v.argument(at, uint8(n+1), a, &p); err != nil {
			return err
		}
	}
	for b := range p.bytes {
		if err := v.memory(at, access{p.at, b, 1, true, -1}); err != nil {
			return err
		}
	}
	for n := range 6 {
		r := &v.now.regs[n]
		r.kind, r.imm, r.m = notInit, 0, nil
	}
	r := &v.now.regs[0]
	r.kind = h.returns
	if v.release.forgetsResults {
		r.forgetRange()
	}
	if h.returns == mapValueOrNull {
		r.min, r.max, r.m = 0, 0, p.m
		if v.release.knowsCopies {
			v.ids++
			r.id = v.ids
		}
	}
	return checkHelperMap(at, fn, p.m)
}

func (v *verifier49) argument(at int, n uint8, a argument, p *passed) error {
	if err := v.readable(at, n); err != nil {
		return err
	}
	r := v.now.regs[n]
	want := map[argument]kind{
		aContext: context, aMap: mapPointer, aKey: stackPointer, aValue: stackPointer,
		aStack: stackPointer, aRawStack: stackPointer, aStackSize: constant,
	}
	null := (a == aStack || a == aRawStack) && r.kind == constant && r.imm == 0 // looked at with the size
	if a != anything && r.kind != want[a] && !null {
		return refuse(at, ruleArgument, "r%d is %v, not %v", n, r, want[a])
	}
	switch a {
	case aMap:
		p.m = r.m
	case aKey:
		return v.helperMemory(at, n, int64(p.m.KeySize), nil)
	case aValue:
		return v.helperMemory(at, n, int64(p.m.ValueSize), nil)
	case aStack, aRawStack:
		p.raw = a == aRawStack
	case aStackSize:
		return v.helperMemory(at, n-1, r.imm, p)
	}
	return nil
}

// helperMemory checks what a helper reads or writes through register n: the
// stack, and nothing else.
func (v *verifier49) helperMemory(at int, n uint8, bytes int64, p *passed) error {
	r := v.now.regs[n]
	if r.kind != stackPointer {
		return refuse(at, ruleArgument, "r%d is %v, not stack", n, r)
	}
	bytes = int64(int32(bytes))
	if r.imm >= 0 || r.imm < -stackBytes || r.imm+bytes > 0 || bytes <= 0 {
		return refuse(at, ruleStack, "%d bytes at %d", bytes, r.imm)
	}
	if p != nil && p.raw {
		p.at, p.bytes = n, bytes
		return nil
	}
	for b := range bytes {
		if v.now.stack[stackBytes+r.imm+b] != stackData {
			return refuse(at, ruleStackRead, "%d bytes at %d, byte %d", bytes, r.imm, b)
		}
	}
	return nil
}

// checkHelperMap: some maps are for one helper only, and some helpers for one
// kind of map.
func checkHelperMap(at int, fn asm.BuiltinFunc, m *ebpf.MapSpec) error {
	if m == nil {
		return nil
	}
	pairs := []struct {
		kind    ebpf.MapType
		helpers []asm.BuiltinFunc
	}{
		{ebpf.ProgramArray, []asm.BuiltinFunc{asm.FnTailCall}},
		{ebpf.PerfEventArray, []asm.BuiltinFunc{asm.FnPerfEventRead, asm.FnPerfEventOutput}},
		{ebpf.StackTrace, []asm.BuiltinFunc{asm.FnGetStackid}},
		{ebpf.CGroupArray, []asm.BuiltinFunc{asm.FnCurrentTaskUnderCgroup}},
	}
	for _, p := range pairs {
		fits := false
		for _, f := range p.helpers {
			fits = fits || f == fn
		}
		if fits != (m.Type == p.kind) {
			return refuse(at, ruleHelperMap, "%v and %v", fn, m.Type)
		}
	}
	return nil
}
