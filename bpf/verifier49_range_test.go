// SPDX-License-Identifier: Apache-2.0

package bpf_test

// Ranges in Linux 4.9 are one pair of bounds, followed through few operations
// and without regard to width: what an unsigned comparison, a mask or a shift
// says. They are no proof; this is what that kernel believes.

// adjustRange says what d op= operand makes of d's range.
func (v *verifier49) adjustRange(d *register, i instruction) {
	low, high := int64(rangeMin), uint64(rangeMax)
	if i.fromRegister() {
		src := &v.now.regs[i.src]
		src.clipRange()
		if !src.kind.isPointer() { // a pointer's range is the one of its offset
			low, high = src.min, src.max
		}
	} else if i.imm > rangeMin && i.imm < rangeMax {
		low, high = int64(i.imm), uint64(i.imm)
	}
	if low == rangeMin && high == rangeMax || v.signsDiffer(d, i, low, high) {
		d.forgetRange()
		return
	}
	if i.operation() != opSubtract {
		if low == rangeMin {
			d.min = rangeMin
		}
		if high == rangeMax {
			d.max = rangeMax
		}
	}
	applyRange(d, i.operation(), low, high)
	d.clipRange()
}

// signsDiffer: of two half-open ranges, one is of signed comparisons and the
// other is not.
func (v *verifier49) signsDiffer(d *register, i instruction, low int64, high uint64) bool {
	if !v.release.knowsSigns || !i.fromRegister() || d.signed == v.now.regs[i.src].signed {
		return false
	}
	return (low == rangeMin) != (high == rangeMax) || (d.min == rangeMin) != (d.max == rangeMax)
}

func applyRange(d *register, op uint8, low int64, high uint64) {
	hasMin, hasMax := d.min != rangeMin, d.max != rangeMax
	switch op {
	case opAdd:
		if hasMin {
			d.min += low
		}
		if hasMax {
			d.max += high
		}
	case opSubtract:
		subtractRange(d, low, high)
	case opMultiply:
		if hasMin {
			d.min *= low
		}
		if hasMax {
			d.max *= high
		}
	case opAnd:
		d.min, d.max = 0, high
		if low < 0 {
			d.min = rangeMin
		}
	case opShiftLeft:
		const most = 30 // log2(rangeMax)
		if low > most {
			d.min = rangeMin
		} else if hasMin {
			d.min <<= uint64(low) & 63
		}
		if high > most {
			d.max = rangeMax
		} else if hasMax {
			d.max <<= high
		}
	case opShiftRight:
		if low < 0 || d.min < 0 {
			d.forgetRange()
		} else {
			d.min = int64(uint64(d.min) >> (high & 63))
		}
		if d.max != rangeMax {
			d.max >>= uint64(low) & 63
		}
	default:
		d.forgetRange()
	}
}

func subtractRange(d *register, low int64, high uint64) {
	if low == rangeMin {
		d.max = rangeMax
	}
	if high == rangeMax {
		d.min = rangeMin
	}
	if d.min != rangeMin {
		d.min -= int64(high)
	}
	if d.max != rangeMax {
		d.max -= uint64(low)
	}
}

// compared says what a comparison of a register with a constant tells of it:
// where it holds (jumped) and where it does not (stayed).
func (v *verifier49) compared(jumped, stayed *register, op uint8, value int64) {
	n := uint64(value)
	switch op {
	case jumpEqual:
		jumped.min, jumped.max = value, n
	case jumpNotEqual:
		stayed.min, stayed.max = value, n
	case jumpGreater, jumpSignedGreater:
		v.begin(jumped, stayed, op, stayed)
		stayed.max = n
		jumped.min = value + 1
	case jumpGreaterOrEqual, jumpSignedOrEqual:
		v.begin(jumped, stayed, op, stayed)
		stayed.max = n - 1
		jumped.min = value
	}
	v.endComparison(jumped, stayed, op)
}

// comparedTo is the same with the constant on the left.
func (v *verifier49) comparedTo(jumped, stayed *register, op uint8, value int64) {
	n := uint64(value)
	switch op {
	case jumpEqual:
		jumped.min, jumped.max = value, n
	case jumpNotEqual:
		stayed.min, stayed.max = value, n
	case jumpGreater, jumpSignedGreater:
		v.begin(jumped, stayed, op, jumped)
		stayed.min = value
		jumped.max = n - 1
	case jumpGreaterOrEqual, jumpSignedOrEqual:
		v.begin(jumped, stayed, op, jumped)
		stayed.min = value + 1
		jumped.max = n
	}
	v.endComparison(jumped, stayed, op)
}

// begin: an unsigned comparison gives the one below a floor of zero. What was
// known by comparisons of the other sign is worth nothing.
func (v *verifier49) begin(jumped, stayed *register, op uint8, below *register) {
	signed := op == jumpSignedGreater || op == jumpSignedOrEqual
	if v.release.knowsSigns {
		for _, r := range []*register{jumped, stayed} {
			if r.signed != signed {
				r.forgetRange()
			}
			r.signed = signed
		}
	}
	if !signed {
		below.min = 0
	}
}

func (v *verifier49) endComparison(jumped, stayed *register, op uint8) {
	jumped.clipRange()
	stayed.clipRange()
	if !v.release.knowsSigns || op == jumpEqual || op == jumpNotEqual {
		return
	}
	for _, r := range []*register{jumped, stayed} {
		if r.kind.isPointer() {
			r.forgetRange()
		}
	}
}
