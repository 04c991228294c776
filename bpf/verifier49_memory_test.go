// SPDX-License-Identifier: Apache-2.0

package bpf_test

// access is one of memory.
type access struct {
	base  uint8
	off   int64
	bytes int64
	write bool
	value int // register that is stored or loaded; -1: none
}

func (v *verifier49) load(at int, i instruction) error {
	if err := v.readable(at, i.src); err != nil {
		return err
	}
	if err := v.writable(at, i.dst); err != nil {
		return err
	}
	from := v.now.regs[i.src].kind
	if err := v.memory(at, access{i.src, int64(i.off), i.bytes(), false, int(i.dst)}); err != nil {
		return err
	}
	v.now.regs[i.dst].forgetRange()
	if i.bytes() < 4 {
		return nil
	}
	return v.sameKind(at, from)
}

func (v *verifier49) store(at int, i instruction) error {
	value := -1
	if i.class() == classStore {
		if err := v.readable(at, i.src); err != nil {
			return err
		}
		value = int(i.src)
	} else if i.mode() != modeMemory || i.src != 0 {
		return refuse(at, ruleReserved, "code %#x", i.code)
	}
	if err := v.readable(at, i.dst); err != nil {
		return err
	}
	to := v.now.regs[i.dst].kind
	if i.mode() == modeAdd && i.class() == classStore {
		if i.bytes() < 4 {
			return refuse(at, ruleReserved, "atomic addition of %d bytes", i.bytes())
		}
		if err := v.memory(at, access{i.dst, int64(i.off), i.bytes(), false, -1}); err != nil {
			return err
		}
		value = -1
	}
	if err := v.memory(at, access{i.dst, int64(i.off), i.bytes(), true, value}); err != nil {
		return err
	}
	if value < 0 {
		return nil
	}
	return v.sameKind(at, to)
}

// sameKind: accesses to the context are rewritten, so an instruction that is
// one on one path must be one on all.
func (v *verifier49) sameKind(at int, k kind) error {
	before, seen := v.contexts[at]
	if seen && before != k && (before == context || k == context) {
		return refuse(at, ruleMixed, "%v and %v", before, k)
	}
	if !seen {
		v.contexts[at] = k
	}
	return nil
}

func (v *verifier49) memory(at int, a access) error {
	base := v.now.regs[a.base]
	if base.kind == stackPointer {
		a.off += base.imm
	}
	// Both architectures read at any address fast, so nothing is asked of
	// adjusted pointers.
	if base.kind != mapValueAdjusted && a.off%a.bytes != 0 {
		return refuse(at, ruleAlignment, "%d bytes at %d", a.bytes, a.off)
	}
	var err error
	switch base.kind {
	case mapValue, mapValueAdjusted:
		err = v.mapMemory(at, base, a)
	case context:
		err = v.contextMemory(at, a)
	case framePointer, stackPointer:
		err = v.stackMemory(at, a)
	default:
		err = refuse(at, ruleNoPointer, "r%d is %v", a.base, base)
	}
	if err != nil || a.value < 0 {
		return err
	}
	// A store leaves this mark, too.
	if r := &v.now.regs[a.value]; a.bytes <= 2 && r.kind == unknown {
		r.imm = 64 - a.bytes*8
	}
	return nil
}

func (v *verifier49) mapMemory(at int, base register, a access) error {
	size := int64(base.m.ValueSize)
	off := a.off
	if base.kind == mapValueAdjusted {
		v.variable = true
		if base.min < 0 {
			return refuse(at, ruleMapNegative, "r%d is %v", a.base, base)
		}
		if first := base.min + off; first < 0 || first+a.bytes > size {
			return refuse(at, ruleMapBounds, "%s: from %d, of %d", base.m.Name, first, size)
		}
		if base.max == rangeMax {
			return refuse(at, ruleMapUnbounded, "r%d is %v", a.base, base)
		}
		off += int64(base.max)
	}
	if off < 0 || off+a.bytes > size {
		return refuse(at, ruleMapBounds, "%s: to %d, of %d", base.m.Name, off+a.bytes, size)
	}
	v.loaded(a)
	return nil
}

// contextMemory: struct bpf_perf_event_data is read only, word by word.
func (v *verifier49) contextMemory(at int, a access) error {
	if a.write || a.off < 0 || a.off >= v.context || a.bytes != 8 {
		return refuse(at, ruleContext, "%d bytes at %d, written: %v", a.bytes, a.off, a.write)
	}
	v.loaded(a)
	return nil
}

func (v *verifier49) loaded(a access) {
	if !a.write && a.value >= 0 {
		v.now.regs[a.value].forget()
	}
}

func (v *verifier49) stackMemory(at int, a access) error {
	if a.off >= 0 || a.off < -stackBytes {
		return refuse(at, ruleStack, "%d bytes at %d", a.bytes, a.off)
	}
	if a.write {
		return v.stackWrite(at, a)
	}
	return v.stackRead(at, a)
}

func (v *verifier49) stackWrite(at int, a access) error {
	first := stackBytes + a.off
	slot := &v.now.spilled[first/slotBytes]
	holds := stackData
	if a.value >= 0 && v.now.regs[a.value].kind.spillable() {
		if a.bytes != slotBytes {
			return refuse(at, ruleSpillSize, "%d bytes of r%d", a.bytes, a.value)
		}
		*slot = v.now.regs[a.value]
		holds = stackSpill
	} else {
		*slot = register{}
	}
	for b := range a.bytes {
		v.now.stack[first+b] = holds
	}
	return nil
}

func (v *verifier49) stackRead(at int, a access) error {
	first := stackBytes + a.off
	holds := v.now.stack[first]
	if holds == stackSpill && a.bytes != slotBytes {
		return refuse(at, ruleSpillSize, "%d bytes at %d", a.bytes, a.off)
	}
	for b := range a.bytes {
		if v.now.stack[first+b] != holds || holds == stackNothing {
			return refuse(at, ruleStackRead, "%d bytes at %d", a.bytes, a.off)
		}
	}
	if holds == stackSpill && a.value >= 0 {
		v.now.regs[a.value] = v.now.spilled[first/slotBytes]
		return nil
	}
	v.loaded(a)
	return nil
}
