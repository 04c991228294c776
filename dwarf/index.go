// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"fmt"
	"slices"
	"sort"
)

// claim says that a unit has code at an address.
type claim struct {
	unit int64 // where it begins in .debug_info
	addr int32 // index
}

// maxClaims bounds how many units are asked about one address. More than one
// has it where the linker folded equal functions.
const maxClaims = 4

// index finds the units that claim addresses: by .debug_aranges, a list made
// for this, and for what that does not tell by the root entry of each unit it
// does not mention. GCC makes the list for all units; Clang for none, unless
// asked to.
type index struct {
	addrs  []uint64 // sorted
	claims []claim
	count  []uint8 // claims of each address
	listed []int64 // units that .debug_aranges has
	budget *budget
}

// claimsOf returns claims ordered by unit and address, and what was wrong with
// the tables.
func claimsOf(f *file, addrs []uint64) ([]claim, error) {
	x := &index{addrs: addrs, count: make([]uint8, len(addrs)), budget: f.budget}
	first := x.readAranges(f)
	if slices.Contains(x.count, 0) {
		if err := x.readUnits(f); first == nil {
			first = err
		}
	}
	slices.SortFunc(x.claims, func(a, b claim) int {
		if a.unit != b.unit {
			return int(min(max(a.unit-b.unit, -1), 1))
		}
		return int(a.addr - b.addr)
	})
	return slices.Compact(x.claims), first
}

// claim notes that a unit has [lo, hi).
func (x *index) claim(unit int64, lo, hi uint64) {
	n := len(x.addrs)
	for i := sort.Search(n, func(i int) bool { return x.addrs[i] >= lo }); i < n && x.addrs[i] < hi; i++ {
		if x.count[i] < maxClaims {
			x.claims = append(x.claims, claim{unit, int32(i)})
			x.count[i]++
		}
		if !x.budget.spend(1) {
			return
		}
	}
}

// readAranges reads .debug_aranges (6.1.2): for each unit a header and pairs of
// an address and a length, aligned to twice the size of an address.
func (x *index) readAranges(f *file) error {
	s := f.aranges
	if s == nil {
		return nil
	}
	for off := int64(0); off < s.size; {
		c := cursor{B: s.at(off, 32)}
		n, is64 := length(&c)
		start := off + int64(c.Pos)
		version, unit, width, segment := c.U16(), sectionOffset(&c, is64), int64(c.U8()), c.U8()
		if c.Bad || n > uint64(s.size-start) || len(x.listed) >= maxUnits {
			return fmt.Errorf("set at %#x of %s: %w", off, s.name, ErrFormat)
		}
		pos, end := off+int64(c.Pos), start+int64(n)
		if version == 2 && (width == 4 || width == 8) && segment == 0 && unit < uint64(f.info.size) {
			pair := 2 * width
			pos += (pair - (pos-off)%pair) % pair
			any := x.readPairs(s, pos, end, int64(unit), width)
			if any {
				x.listed = append(x.listed, int64(unit))
			}
		}
		off = end
		if !x.budget.spend(1) {
			return nil
		}
	}
	slices.Sort(x.listed)
	return nil
}

// readPairs reads the pairs of one set and says whether there are any: a set
// without is what some assemblers write for units they know nothing of.
func (x *index) readPairs(s *section, pos, end, unit, width int64) (any bool) {
	for ; pos+2*width <= end && x.budget.spend(1); pos += 2 * width {
		c := cursor{B: s.at(pos, int(2*width))}
		lo, n := c.Uint(int(width)), c.Uint(int(width))
		if c.Bad || lo == 0 && n == 0 {
			break
		}
		any = true
		if lo+n > lo {
			x.claim(unit, lo, lo+n)
		}
	}
	return any
}

// readUnits asks the root entries of the units that are not listed.
func (x *index) readUnits(f *file) error {
	offs, first := f.units()
	for _, off := range offs {
		if _, listed := slices.BinarySearch(x.listed, off); listed {
			continue
		}
		if !x.budget.spend(1) {
			break
		}
		u, err := f.unit(off)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		if u.program() && u.tag != tagPartialUnit {
			u.eachRange(u.low, u.high, u.lists, func(lo, hi uint64) { x.claim(off, lo, hi) })
		}
	}
	return first
}
