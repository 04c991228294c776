// SPDX-License-Identifier: Apache-2.0

package bpf_test

import "math/bits"

func (v *verifier49) arithmetic(at int, i instruction) error {
	if err := v.checkArithmetic(at, i); err != nil {
		return err
	}
	d := &v.now.regs[i.dst]
	switch i.operation() {
	case opNegate, opSwap: // leave the range as it is
		d.forget()
	case opMove:
		v.move(d, i)
	default:
		v.adjustRange(d, i)
		return v.compute(at, d, i)
	}
	return nil
}

// checkArithmetic looks at what does not depend on values.
func (v *verifier49) checkArithmetic(at int, i instruction) error {
	op, wide := i.operation(), i.class() == classALU64
	switch {
	case op > opSwap:
		return refuse(at, ruleOperation, "%#x", op)
	case op == opNegate && (i.fromRegister() || i.src != 0 || i.off != 0 || i.imm != 0),
		op == opSwap && (i.src != 0 || i.off != 0 || wide || i.imm != 16 && i.imm != 32 && i.imm != 64),
		op != opNegate && op != opSwap && (i.off != 0 || i.fromRegister() && i.imm != 0 || !i.fromRegister() && i.src != 0):
		return refuse(at, ruleReserved, "code %#x", i.code)
	}
	if op != opSwap && i.fromRegister() {
		if err := v.readable(at, i.src); err != nil {
			return err
		}
	}
	if op != opMove {
		if err := v.readable(at, i.dst); err != nil {
			return err
		}
	}
	if err := v.writable(at, i.dst); err != nil {
		return err
	}
	shift := op == opShiftLeft || op == opShiftRight || op == opShiftSign
	switch {
	case (op == opDivide || op == opModulo) && !i.fromRegister() && i.imm == 0:
		return refuse(at, ruleDivision, "")
	case op == opShiftSign && !wide:
		return refuse(at, ruleOperation, "signed shift of 32 bits")
	case shift && !i.fromRegister() && (i.imm < 0 || i.imm >= 32 && !wide || i.imm >= 64):
		return refuse(at, ruleShift, "by %d", i.imm)
	}
	return nil
}

func (v *verifier49) move(d *register, i instruction) {
	wide := i.class() == classALU64
	if i.fromRegister() && wide {
		*d = v.now.regs[i.src]
		return
	}
	signed := d.signed
	*d = register{kind: unknown, signed: signed}
	d.forgetRange()
	if i.fromRegister() { // 32 bits
		return
	}
	value := int64(i.imm)
	if !wide {
		value = int64(uint32(i.imm))
	}
	d.kind, d.imm, d.min, d.max = constant, value, value, uint64(value)
}

// compute says what a register holds after d op= operand. Pointers survive
// the addition to the stack's and to map values only.
func (v *verifier49) compute(at int, d *register, i instruction) error {
	wide, add := i.class() == classALU64, i.operation() == opAdd
	src := v.now.regs[i.src]
	switch {
	case wide && add && d.kind == framePointer && !i.fromRegister():
		d.kind, d.imm = stackPointer, int64(i.imm)
	case wide && add && d.kind == stackPointer && (!i.fromRegister() || src.kind == constant):
		plus := int64(i.imm)
		if i.fromRegister() {
			plus = src.imm
		}
		if plus < -stackBytes && i.fromRegister() || plus > stackBytes && i.fromRegister() {
			return refuse(at, ruleStackVariable, "plus %d", plus)
		}
		d.imm += plus
		if d.imm > 0 || d.imm < -stackBytes {
			return refuse(at, ruleStackVariable, "at %d", d.imm)
		}
	case wide && d.kind == unknown:
		d.imm = zerosAfter(d.imm, src, i)
	case wide && d.kind == constant:
		computeConstant(d, src, i)
	case wide && add && (d.kind == mapValue || d.kind == mapValueAdjusted):
		d.kind = mapValueAdjusted
	default:
		d.forget()
	}
	return nil
}

// zerosAfter is the number of upper bits of an unknown value that are known to
// be zero after an operation. It matters in comparing states alone.
func zerosAfter(zeros int64, src register, i instruction) int64 {
	op := i.operation()
	if i.fromRegister() {
		switch {
		case op != opAdd || zeros == 0 || src.imm <= 0:
			return 0
		case src.kind == unknown:
			return min(zeros, src.imm) - 1
		case src.kind == constant:
			return min(zeros, 63-log2(src.imm)) - 1
		}
		return 0
	}
	operand := log2(int64(i.imm))
	switch {
	case op == opAnd:
		zeros = 63 - operand
	case op == opShiftRight:
		zeros = min(zeros+int64(i.imm), 64)
	case zeros == 0:
	case op == opShiftLeft:
		zeros -= int64(i.imm)
	case op == opMultiply:
		zeros -= operand + 1
	case op == opAdd:
		zeros = min(zeros, 63-operand) - 1
	default:
		zeros = 0
	}
	return max(zeros, 0)
}

// computeConstant: a sum of constants is one, all else is not.
func computeConstant(d *register, src register, i instruction) {
	op := i.operation()
	switch {
	case i.fromRegister() && src.kind == unknown:
		zeros := int64(0)
		if src.imm > 0 && d.imm != 0 {
			own := 63 - log2(d.imm)
			switch op {
			case opAdd:
				zeros = min(src.imm, own) - 1
			case opAnd:
				zeros = max(src.imm, own)
			case opOr:
				zeros = min(src.imm, own)
			}
		}
		d.forget()
		d.imm = zeros
	case op == opAdd && !i.fromRegister():
		d.imm += int64(i.imm)
	case op == opAdd && src.kind == constant:
		d.imm += src.imm
	default:
		d.forget()
	}
}

func log2(n int64) int64 { return int64(bits.Len64(uint64(n))) - 1 }
