// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// kind is what the kernel knows a register to hold. Packets are not met here.
type kind uint8

const (
	notInit kind = iota
	unknown
	context
	mapPointer
	mapValue
	mapValueOrNull
	mapValueAdjusted // plus something
	framePointer
	stackPointer // framePointer plus imm
	constant
)

func (k kind) String() string {
	return [...]string{"not initialized", "unknown", "context", "map", "map value", "map value or null", "adjusted map value", "frame pointer", "stack", "constant"}[k]
}

// spillable kinds survive on the stack; others come back as unknown.
func (k kind) spillable() bool {
	switch k {
	case mapValue, mapValueOrNull, stackPointer, context, framePointer, mapPointer:
		return true
	}
	return false
}

// isPointer, for what becomes of ranges.
func (k kind) isPointer() bool { return k != unknown && k != constant }

// The ends of ranges: beyond them nothing is known.
const (
	rangeMin = -1
	rangeMax = 1 << 30
)

type register struct {
	kind   kind
	imm    int64         // constant: its value; stackPointer: from the frame's end; unknown: upper bits that are zero, as far as it is kept
	m      *ebpf.MapSpec // of mapPointer and the map values
	id     uint32        // of mapValueOrNull: equal in copies
	min    int64
	max    uint64
	signed bool // the range comes of a signed comparison
}

func (r register) String() string {
	return fmt.Sprintf("%v imm %d [%d, %d]", r.kind, r.imm, r.min, r.max)
}

// forget leaves the range as it is, as the kernel does; most callers go on
// with forgetRange.
func (r *register) forget() { r.kind, r.imm, r.m, r.id = unknown, 0, nil, 0 }

func (r *register) forgetRange() { r.min, r.max = rangeMin, rangeMax }

func (r *register) clipRange() {
	if r.max > rangeMax {
		r.max = rangeMax
	}
	if r.min < rangeMin || r.min > rangeMax {
		r.min = rangeMin
	}
}

const (
	registers  = 11
	frame      = 10 // the register that is the frame pointer
	stackBytes = 512
	slotBytes  = 8
)

// What a byte of the stack holds.
const (
	stackNothing uint8 = iota
	stackSpill
	stackData
)

type state struct {
	regs    [registers]register
	stack   [stackBytes]uint8
	spilled [stackBytes / slotBytes]register
}

func (s *state) begin() {
	*s = state{}
	for n := range s.regs {
		s.regs[n].forgetRange()
	}
	s.regs[1].kind = context
	s.regs[frame].kind = framePointer
}

// proved tells whether what was found good in the old state is good in the
// new one. Once any map value has been accessed at a variable offset, ranges
// count.
func (v *verifier49) proved(old, now *state) bool {
	for n := range old.regs {
		if !v.registerProved(old.regs[n], now.regs[n]) {
			return false
		}
	}
	for b, had := range old.stack {
		if had == stackNothing {
			continue
		}
		if had != now.stack[b] {
			return false
		}
		if b%slotBytes == 0 && old.spilled[b/slotBytes] != now.spilled[b/slotBytes] {
			return false
		}
	}
	return true
}

func (v *verifier49) registerProved(old, now register) bool {
	if old == now || old.kind == notInit {
		return true
	}
	if !v.variable {
		if old.kind == now.kind && old.imm == now.imm && old.m == now.m && old.id == now.id {
			return true
		}
		if old.kind == unknown && now.kind != notInit {
			return true
		}
	}
	return v.release.knowsCopies && old.kind == mapValueOrNull && now.kind == mapValueOrNull && old.m == now.m
}

// known tells whether the rest of the program need not be looked at, and else
// remembers the state.
func (v *verifier49) known(at int) bool {
	if !v.prunes[at] {
		return false
	}
	for n := len(v.visited[at]) - 1; n >= 0; n-- {
		if v.proved(v.visited[at][n], &v.now) {
			return true
		}
	}
	kept := v.now
	v.visited[at] = append(v.visited[at], &kept)
	return false
}
