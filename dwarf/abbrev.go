// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"fmt"
	"math"
)

// format is what the size of attributes depends on, besides their form.
type format struct {
	version uint8
	is64    bool
	address uint8 // bytes
}

func (f format) offset() int {
	if f.is64 {
		return 8
	}
	return 4
}

// attr is one attribute as an abbreviation describes it (7.5.3).
type attr struct {
	name, form uint16
	implicit   int64 // the value, of formImplicitConst
}

// abbrev is an abbreviation: the shape of many entries. Most entries are not
// wanted and only have to be got past, so an abbreviation is compiled into
// steps that do this: attributes of known size become one jump.
type abbrev struct {
	code     uint64
	tag      uint16
	children bool
	function bool  // a subprogram or an inlined one: steps read all that place needs
	sibling  bool  // steps read it
	size     int32 // of all attributes; −1 if it varies
	attrs    []attr
	steps    []step
	counts   [2]int32 // of attrs and steps
}

// step is to jump over bytes, over one attribute of varying size, or to read
// one.
type step struct {
	attr // name 0: not wanted; form 0: jump
	jump uint32
}

// abbrevs is one table. All attributes and steps have a slice in common.
type abbrevs struct {
	all    []abbrev
	sparse map[uint64]int32 // index by code; nil where code i+1 is at i, as all compilers have it
	weight int
}

// Bounds of one table. The largest real ones have some thousand abbreviations.
const (
	maxAbbrevs     = 1 << 16
	maxAbbrevAttrs = 1 << 19
	maxAttrs       = 512 // of one
)

func (t *abbrevs) find(code uint64) *abbrev {
	if t.sparse == nil {
		if i := code - 1; i < uint64(len(t.all)) {
			return &t.all[i]
		}
		return nil
	}
	if i, ok := t.sparse[code]; ok {
		return &t.all[i]
	}
	return nil
}

// readAbbrevs reads the table at an offset.
func readAbbrevs(s *section, off uint64, f format) (*abbrevs, error) {
	t := &abbrevs{}
	var a abbrev
	var attrs []attr
	var steps []step
	dense := true
	err := eachAbbrev(s, off, &a, func() bool {
		if len(t.all) >= maxAbbrevs || len(attrs) >= maxAbbrevAttrs {
			return false
		}
		attrs = append(attrs, a.attrs...)
		before := len(steps)
		steps = a.compile(f, steps)
		a.counts = [2]int32{int32(len(a.attrs)), int32(len(steps) - before)}
		t.all = append(t.all, a)
		dense = dense && a.code == uint64(len(t.all))
		return true
	})
	t.weight = len(attrs) + len(steps) + 4*len(t.all)
	for i := range t.all { // only now the slices stay where they are
		a := &t.all[i]
		n, m := a.counts[0], a.counts[1]
		a.attrs, attrs = attrs[:n:n], attrs[n:]
		a.steps, steps = steps[:m:m], steps[m:]
	}
	if !dense {
		t.sparse = make(map[uint64]int32, len(t.all))
		for i := range t.all {
			t.sparse[t.all[i].code] = int32(i)
		}
	}
	return t, err
}

// eachAbbrev decodes the table at an offset into a, one after the other, until
// it ends or each says no. The attributes' memory is used again.
func eachAbbrev(s *section, off uint64, a *abbrev, each func() bool) error {
	if off > math.MaxInt64 {
		off = math.MaxInt64
	}
	pos := int64(off)
	for {
		// One abbreviation seldom has more than 100 bytes; what does not fit is
		// tried again with the most there may be.
		c := cursor{B: s.at(pos, 256)}
		if !a.decode(&c) {
			c = cursor{B: s.at(pos, maxAttrs*16)}
			if !a.decode(&c) {
				return fmt.Errorf("abbreviation at %#x of %s: %w", pos, s.title(), ErrFormat)
			}
		}
		if a.code == 0 || !each() {
			return nil
		}
		pos += int64(c.Pos)
	}
}

func (a *abbrev) decode(c *cursor) bool {
	a.attrs = a.attrs[:0]
	if a.code = c.ULEB(); a.code == 0 {
		return !c.Bad
	}
	a.tag = uint16(min(c.ULEB(), math.MaxUint16))
	a.children = c.U8() != 0
	for !c.Bad && len(a.attrs) <= maxAttrs {
		name, form := c.ULEB(), c.ULEB()
		if name == 0 && form == 0 {
			return !c.Bad
		}
		x := attr{name: uint16(min(name, math.MaxUint16)), form: uint16(min(form, math.MaxUint16))}
		if form == formImplicitConst {
			x.implicit = c.SLEB()
		}
		a.attrs = append(a.attrs, x)
	}
	return false
}

// compile appends the steps to those of other abbreviations.
func (a *abbrev) compile(f format, steps []step) []step {
	a.function = a.tag == tagSubprogram || a.tag == tagInlinedSubroutine
	a.sibling = false
	var total uint32
	fixed, jumping := true, false
	for _, x := range a.attrs {
		n, known := f.size(x.form)
		fixed = fixed && known
		total += uint32(n)
		switch {
		case a.wants(x.name):
			a.sibling = a.sibling || x.name == attrSibling
			steps, jumping = append(steps, step{attr: x}), false
		case !known:
			steps, jumping = append(steps, step{attr: attr{form: x.form}}), false
		case n == 0:
		case jumping:
			steps[len(steps)-1].jump += uint32(n)
		default:
			steps, jumping = append(steps, step{jump: uint32(n)}), true
		}
	}
	a.size = -1
	if fixed {
		a.size = int32(total)
	}
	return steps
}

// wants says whether an attribute matters while the tree is walked.
func (a *abbrev) wants(name uint16) bool {
	switch name {
	case attrSibling:
		return a.children
	case attrLowPC, attrHighPC, attrRanges:
		return a.function
	case attrAbstractOrigin, attrCallFile, attrCallLine:
		return a.tag == tagInlinedSubroutine
	}
	return false
}

// size is how many bytes an attribute of a form has; false if that varies, or
// the form is not known.
func (f format) size(form uint16) (int, bool) {
	switch form {
	case formFlagPresent, formImplicitConst:
		return 0, true
	case formData1, formFlag, formRef1, formStrx1, formAddrx1:
		return 1, true
	case formData2, formRef2, formStrx2, formAddrx2:
		return 2, true
	case formStrx3, formAddrx3:
		return 3, true
	case formData4, formRef4, formRefSup4, formStrx4, formAddrx4:
		return 4, true
	case formData8, formRef8, formRefSup8, formRefSig8:
		return 8, true
	case formData16:
		return 16, true
	case formAddr:
		return int(f.address), true
	case formStrp, formSecOffset, formLineStrp, formStrpSup, formGNURefAlt, formGNUStrpAlt:
		return f.offset(), true
	case formRefAddr:
		if f.version < 3 { // DWARF 2 had addresses there
			return int(f.address), true
		}
		return f.offset(), true
	}
	return 0, false
}

// pass gets the cursor past an attribute.
func (f format) pass(c *cursor, form uint16) {
	for depth := 0; depth < 8; depth++ {
		if n, ok := f.size(form); ok {
			c.Skip(uint64(n))
			return
		}
		switch form {
		case formSdata, formUdata, formRefUdata, formStrx, formAddrx, formLoclistx, formRnglistx,
			formGNUAddrIndex, formGNUStrIndex:
			c.ULEB()
			return
		case formBlock, formExprloc:
			c.Skip(c.ULEB())
			return
		case formBlock1:
			c.Skip(uint64(c.U8()))
			return
		case formBlock2:
			c.Skip(uint64(c.U16()))
			return
		case formBlock4:
			c.Skip(uint64(c.U32()))
			return
		case formString:
			c.Text()
			return
		case formAddrxOffset:
			c.ULEB()
			c.Skip(4)
			return
		case formIndirect:
			form = uint16(min(c.ULEB(), math.MaxUint16))
			continue
		}
		break
	}
	c.Bad = true // a form of the future: nobody knows where it ends
}
