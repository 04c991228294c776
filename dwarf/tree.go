// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"fmt"
	"sort"
)

// activation is a function, or a call that was inlined, with code at one of
// the addresses that are looked for.
type activation struct {
	parent   int32 // whom it was inlined into; −1 for a function
	entry    place // of itself, or of the function that was inlined
	callFile uint64
	callLine uint64
}

// tree walks the entries of one unit and finds the innermost activation at each
// of some addresses.
//
// Entries stand in the order of a walk that visits parents first, and are not
// linked: what is not wanted has to be decoded to be got past. GCC says where
// the next sibling is, Clang does not. So functions elsewhere are jumped over
// where that is possible. It may miss a function inside a function (a nested
// one, or a method of a local class), whose code is elsewhere; then the unit is
// walked again, without jumps.
type tree struct {
	unit   *unit
	b      []byte // the unit, from its header on
	table  *abbrevs
	addrs  []uint64 // sorted
	budget *budget

	found  []activation
	inner  []int32 // by address: index into found, −1 for nothing
	levels []int32 // activation that entries of each level are in, −1 for none
}

// maxFound bounds the activations of one unit, to 12 MB. A thousand addresses,
// each in a function of its own and ten inlined ones, make 11,000.
const maxFound = 1 << 18

// maxDepth bounds how deep entries nest. Real ones stay below a hundred.
const maxDepth = 1000

// walk fills found and inner. What it found before an error holds.
func (t *tree) walk() error {
	if err := t.pass(false); err != nil {
		return err
	}
	for _, a := range t.inner {
		if a < 0 {
			return t.pass(true)
		}
	}
	return nil
}

func (t *tree) pass(everything bool) error {
	t.found, t.levels = t.found[:0], append(t.levels[:0], -1)
	for i := range t.inner {
		t.inner[i] = -1
	}
	u := t.unit
	c := cursor{B: t.b, Pos: int(u.dies - u.off)}
	for c.Pos < len(c.B) && t.budget.spend(1) {
		at := c.Pos
		code := c.ULEB()
		if code == 0 {
			if t.levels = t.levels[:len(t.levels)-1]; len(t.levels) <= 1 {
				return nil
			}
			continue
		}
		a := t.table.find(code)
		if a == nil {
			return fmt.Errorf("entry at %#x of %s: no abbreviation %d: %w", u.off+int64(at), u.file.info.name, code, ErrFormat)
		}
		in := t.levels[len(t.levels)-1]
		sibling, jump := 0, false
		switch {
		case a.function:
			in, sibling, jump = t.function(&c, a, at, in)
		case a.size >= 0 && !a.sibling:
			c.Skip(uint64(a.size))
		default:
			sibling = t.other(&c, a)
			jump = !holds(a.tag)
		}
		if c.Bad || len(t.found) >= maxFound {
			return u.file.info.wrong("entry", u.off+int64(at))
		}
		switch {
		case !a.children:
			if len(t.levels) == 1 { // a root without children
				return nil
			}
		case jump && sibling > c.Pos && sibling <= len(c.B) && !everything:
			c.Pos = sibling
		case len(t.levels) > maxDepth:
			return fmt.Errorf("entry at %#x of %s: more than %d levels deep: %w", u.off+int64(at), u.file.info.name, maxDepth, ErrFormat)
		default:
			t.levels = append(t.levels, in)
		}
	}
	return nil
}

// holds says whether functions with code are to be expected inside an entry.
// In types there are, for compilers that say where siblings are, declarations.
func holds(tag uint16) bool {
	switch tag {
	case tagCompileUnit, tagSkeletonUnit, tagPartialUnit, tagNamespace, tagModule, tagLexicalBlock,
		tagTryBlock, tagCatchBlock:
		return true
	}
	return false
}

// other gets past the attributes of an entry and returns where its next sibling
// is, 0 if it does not say.
func (t *tree) other(c *cursor, a *abbrev) (sibling int) {
	for i := range a.steps {
		switch s := &a.steps[i]; {
		case s.name == attrSibling:
			sibling = t.sibling(t.unit.value(c, s.attr))
		case s.name != 0:
			t.unit.pass(c, s.form)
		case s.form != 0:
			t.unit.pass(c, s.form)
		default:
			c.Skip(uint64(s.jump))
		}
	}
	return sibling
}

// sibling is a position in the unit.
func (t *tree) sibling(v value) int {
	if p, ok := t.unit.reference(v); ok && p.file == t.unit.file && p.off >= t.unit.off && p.off < t.unit.end {
		return int(p.off - t.unit.off)
	}
	return 0
}

// function reads a subprogram or an inlined one and notes it where it has code
// at an address. It returns the activation that its children are in, and
// whether they may be jumped over.
func (t *tree) function(c *cursor, a *abbrev, at int, in int32) (inside int32, sibling int, jump bool) {
	u := t.unit
	var low, high, lists, origin, file, line value
	for i := range a.steps {
		s := &a.steps[i]
		switch {
		case s.name == 0 && s.form != 0:
			u.pass(c, s.form)
			continue
		case s.name == 0:
			c.Skip(uint64(s.jump))
			continue
		}
		v := u.value(c, s.attr)
		switch s.name {
		case attrSibling:
			sibling = t.sibling(v)
		case attrLowPC:
			low = v
		case attrHighPC:
			high = v
		case attrRanges:
			lists = v
		case attrAbstractOrigin:
			origin = v
		case attrCallFile:
			file = v
		case attrCallLine:
			line = v
		}
	}
	x := activation{parent: -1, entry: place{u.file, u.off + int64(at)}, callFile: file.n, callLine: line.n}
	if a.tag == tagInlinedSubroutine {
		if in < 0 { // part of a description, not of code
			return -1, sibling, true
		}
		x.parent = in
		x.entry, _ = u.reference(origin)
	}
	if c.Bad || low.form == 0 && lists.form == 0 {
		return x.parent, sibling, true
	}
	id := int32(-1)
	u.eachRange(low, high, lists, func(lo, hi uint64) {
		n := len(t.addrs)
		for i := sort.Search(n, func(i int) bool { return t.addrs[i] >= lo }); i < n && t.addrs[i] < hi; i++ {
			if id < 0 && len(t.found) < maxFound {
				t.found = append(t.found, x)
				id = int32(len(t.found) - 1)
			}
			if id < 0 || !t.budget.spend(1) {
				return
			}
			t.inner[i] = id
		}
	})
	if id < 0 {
		return -1, sibling, true
	}
	return id, sibling, false
}
