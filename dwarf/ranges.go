// SPDX-License-Identifier: Apache-2.0

package dwarf

import "math"

// workOfRange is what reading one range costs, beside getting past an entry.
const workOfRange = 4

// eachRange calls each with the parts of code that three attributes describe
// (2.17): from DW_AT_low_pc to DW_AT_high_pc, or a list of ranges. Empty parts
// are left out.
func (u *unit) eachRange(low, high, lists value, each func(lo, hi uint64)) {
	if lists.form != 0 {
		if u.version >= 5 {
			u.eachInRnglist(lists, each)
		} else {
			u.eachInRanges(lists.n+u.rangesBase, each)
		}
		return
	}
	lo, ok := u.addr(low)
	if !ok {
		return
	}
	hi := lo + high.n
	if !high.constant() {
		if hi, ok = u.addr(high); !ok {
			return
		}
	}
	if lo < hi {
		each(lo, hi)
	}
}

// eachInRanges reads a list of .debug_ranges (DWARF 4, 2.17.3): pairs of
// addresses relative to a base, which a pair that begins with the largest
// address replaces; (0, 0) ends it.
func (u *unit) eachInRanges(off uint64, each func(lo, hi uint64)) {
	width := int(u.address)
	largest := uint64(math.MaxUint64) >> (64 - 8*width)
	for base := u.base; off <= math.MaxInt64-32 && u.file.budget.spend(workOfRange); off += uint64(2 * width) {
		c := cursor{B: u.ranges.at(int64(off), 2*width)}
		lo, hi := c.Uint(width), c.Uint(width)
		switch {
		case c.Bad || lo == 0 && hi == 0:
			return
		case lo == largest:
			base = hi
		case lo < hi && base+lo < base+hi:
			each(base+lo, base+hi)
		}
	}
}

// eachInRnglist reads a list of .debug_rnglists (2.17.3, 7.25).
func (u *unit) eachInRnglist(v value, each func(lo, hi uint64)) {
	off := v.n
	if v.form == formRnglistx {
		at, ok := u.rnglists.uint(u.rnglistsAt+min(v.n, math.MaxUint32)*uint64(u.offset()), u.offset())
		if !ok {
			return
		}
		off = u.rnglistsAt + at
	}
	base := u.base
	for off <= math.MaxInt64-32 && u.file.budget.spend(workOfRange) {
		c := cursor{B: u.rnglists.at(int64(off), 24)}
		var lo, hi uint64
		ok := true
		switch c.U8() {
		case rleBaseAddressx:
			base, ok = u.indexed(c.ULEB())
		case rleStartxEndx:
			if lo, ok = u.indexed(c.ULEB()); ok {
				hi, ok = u.indexed(c.ULEB())
			}
		case rleStartxLength:
			lo, ok = u.indexed(c.ULEB())
			hi = lo + c.ULEB()
		case rleOffsetPair:
			lo = base + c.ULEB()
			hi = base + c.ULEB()
		case rleBaseAddress:
			base = c.Uint(int(u.address))
		case rleStartEnd:
			lo, hi = c.Uint(int(u.address)), c.Uint(int(u.address))
		case rleStartLength:
			lo = c.Uint(int(u.address))
			hi = lo + c.ULEB()
		default: // the end, or a kind of the future, whose length nobody knows
			return
		}
		if c.Bad || !ok {
			return
		}
		if lo < hi {
			each(lo, hi)
		}
		off += uint64(c.Pos)
	}
}
