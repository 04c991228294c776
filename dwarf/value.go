// SPDX-License-Identifier: Apache-2.0

package dwarf

import "math"

// value is what an attribute has, not yet looked up: strings and addresses may
// be in other sections, and which part of those may be an attribute yet to come.
type value struct {
	form uint16 // 0: there is no such attribute
	n    uint64
	add  uint32 // of formAddrxOffset
	text []byte // of formString
}

func (f format) value(c *cursor, a attr) value {
	form := a.form
	for depth := 0; form == formIndirect && depth < 8; depth++ {
		form = uint16(min(c.ULEB(), math.MaxUint16))
	}
	v := value{form: form}
	switch form {
	case formImplicitConst:
		v.n = uint64(a.implicit)
	case formFlagPresent:
		v.n = 1
	case formString:
		v.text = c.Text()
	case formSdata:
		v.n = uint64(c.SLEB())
	case formUdata, formRefUdata, formStrx, formAddrx, formRnglistx, formGNUAddrIndex, formGNUStrIndex:
		v.n = c.ULEB()
	case formAddrxOffset:
		v.n, v.add = c.ULEB(), c.U32()
	default:
		if n, ok := f.size(form); ok && n <= 8 {
			v.n = c.Uint(n)
		} else {
			f.pass(c, form)
		}
	}
	return v
}

// constant says whether a value is a number, and not an address: that of
// DW_AT_high_pc may be either (2.17.2).
func (v value) constant() bool {
	switch v.form {
	case formData1, formData2, formData4, formData8, formUdata, formSdata, formImplicitConst:
		return true
	}
	return false
}

// string looks up the text of an attribute; "" if there is none.
func (u *unit) string(v value) string {
	switch v.form {
	case formString:
		return string(v.text[:min(len(v.text), maxString)])
	case formStrp:
		return u.file.str.text(v.n)
	case formLineStrp:
		return u.file.lineStr.text(v.n)
	case formStrpSup, formGNUStrpAlt:
		if alt := u.file.alternate(); alt != nil {
			return alt.str.text(v.n)
		}
	case formStrx, formStrx1, formStrx2, formStrx3, formStrx4, formGNUStrIndex:
		width := uint64(u.offset())
		if v.n > math.MaxUint32 {
			return ""
		}
		if at, ok := u.strOffsets.uint(u.strBase+v.n*width, int(width)); ok {
			return u.file.str.text(at)
		}
	}
	return ""
}

// addr looks up an address.
func (u *unit) addr(v value) (uint64, bool) {
	switch v.form {
	case formAddr:
		return v.n, true
	case formAddrx, formAddrx1, formAddrx2, formAddrx3, formAddrx4, formGNUAddrIndex, formAddrxOffset:
		a, ok := u.indexed(v.n)
		return a + uint64(v.add), ok
	}
	return 0, false
}

// indexed reads an address of .debug_addr.
func (u *unit) indexed(i uint64) (uint64, bool) {
	if i > math.MaxUint32 {
		return 0, false
	}
	return u.addrs.uint(u.addrBase+i*uint64(u.format.address), int(u.format.address))
}

// place is where an entry is: in the .debug_info of a file.
type place struct {
	file *file
	off  int64
}

// reference looks up an entry that another refers to.
func (u *unit) reference(v value) (place, bool) {
	off, f := v.n, u.file
	switch v.form {
	case formRef1, formRef2, formRef4, formRef8, formRefUdata:
		if off > uint64(u.end-u.off) {
			return place{}, false
		}
		off += uint64(u.off)
	case formRefAddr:
	case formGNURefAlt, formRefSup4, formRefSup8:
		f = f.alternate()
	default: // signatures are of types, and functions are not in type units
		return place{}, false
	}
	if f == nil || off > math.MaxInt64 {
		return place{}, false
	}
	return place{f, int64(off)}, true
}
