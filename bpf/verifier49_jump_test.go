// SPDX-License-Identifier: Apache-2.0

package bpf_test

func (v *verifier49) jump(at int, i instruction) (int, error) {
	plain := !i.fromRegister() && i.src == 0 && i.dst == 0
	switch i.operation() {
	case jumpCall:
		if !plain || i.off != 0 {
			return 0, refuse(at, ruleReserved, "call of kind %d", i.src)
		}
		return at + 1, v.call(at, i.imm)
	case jumpAlways:
		if !plain || i.imm != 0 {
			return 0, refuse(at, ruleReserved, "code %#x", i.code)
		}
		return at + 1 + int(i.off), nil
	case jumpExit:
		if !plain || i.imm != 0 {
			return 0, refuse(at, ruleReserved, "code %#x", i.code)
		}
		if v.now.regs[0].kind == notInit {
			return 0, refuse(at, ruleIncomplete, "")
		}
		return -1, nil
	}
	return v.branch(at, i)
}

// branch puts the path that jumps aside and goes on with the one that stays.
func (v *verifier49) branch(at int, i instruction) (int, error) {
	if err := v.checkBranch(at, i); err != nil {
		return 0, err
	}
	op := i.operation()
	to := at + 1 + int(i.off)
	d := &v.now.regs[i.dst]
	equality := op == jumpEqual || op == jumpNotEqual
	if !i.fromRegister() && equality && d.kind == constant && d.imm == int64(i.imm) {
		if op == jumpEqual {
			return to, nil
		}
		return at + 1, nil
	}
	v.waiting = append(v.waiting, path{to, v.now})
	if len(v.waiting) > maxWaiting {
		return 0, refuse(at, ruleTooBranchy, "%d", len(v.waiting))
	}
	other := &v.waiting[len(v.waiting)-1].state
	src := &v.now.regs[i.src]
	switch {
	case !i.fromRegister():
		v.compared(&other.regs[i.dst], d, op, int64(i.imm))
	case src.kind == constant:
		v.compared(&other.regs[i.dst], d, op, src.imm)
	case d.kind == constant:
		v.comparedTo(&other.regs[i.src], src, op, d.imm)
	}
	if !i.fromRegister() && i.imm == 0 && equality && d.kind == mapValueOrNull {
		there, none := &v.now, other
		if op == jumpNotEqual {
			there, none = other, &v.now
		}
		v.comparedWithNull(there, i.dst, mapValue)
		v.comparedWithNull(none, i.dst, unknown)
	}
	return at + 1, nil
}

func (v *verifier49) checkBranch(at int, i instruction) error {
	if i.operation() > jumpExit {
		return refuse(at, ruleOperation, "%#x", i.operation())
	}
	if i.fromRegister() {
		if i.imm != 0 {
			return refuse(at, ruleReserved, "code %#x", i.code)
		}
		if err := v.readable(at, i.src); err != nil {
			return err
		}
	} else if i.src != 0 {
		return refuse(at, ruleReserved, "code %#x", i.code)
	}
	return v.readable(at, i.dst)
}

// comparedWithNull makes of a map value or null what it turned out to be. The
// first kernels do so for the one register only.
func (v *verifier49) comparedWithNull(s *state, n uint8, k kind) {
	id := s.regs[n].id
	settle := func(r *register) {
		if r.kind != mapValueOrNull || r.id != id {
			return
		}
		r.kind, r.id = k, 0
		if k == unknown {
			r.forget()
		}
	}
	if !v.release.knowsCopies {
		settle(&s.regs[n])
		return
	}
	for n := range s.regs {
		settle(&s.regs[n])
	}
	for slot := range s.spilled {
		if s.stack[slot*slotBytes] == stackSpill {
			settle(&s.spilled[slot])
		}
	}
}
