// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"bytes"
	"fmt"
	"math"
	"sort"
)

// unit is one unit of .debug_info (7.5.1): its header, and what its root entry
// says about the whole of it.
type unit struct {
	format
	file   *file
	off    int64 // of the header, in .debug_info
	end    int64 // of the next unit
	dies   int64 // of the root entry
	kind   uint8 // before DWARF 5 always unitCompile
	abbrev uint64

	tag              uint16 // of the root entry
	low, high, lists value  // DW_AT_low_pc, DW_AT_high_pc, DW_AT_ranges
	lines            value  // DW_AT_stmt_list
	dir              value  // DW_AT_comp_dir
	dwo              value  // DW_AT_dwo_name: the rest is in another file
	dwoID            uint64
	language         uint64

	// Where indices count from, and the sections they are in. Those of a split
	// unit are partly its skeleton's.
	base       uint64 // address, of range lists
	addrs      *section
	addrBase   uint64
	strOffsets *section
	strBase    uint64
	rnglists   *section
	rnglistsAt uint64
	ranges     *section
	rangesBase uint64 // of split units before DWARF 5
	gnuRanges  uint64 // what DW_AT_GNU_ranges_base says, for the split unit
}

// readHeader decodes the header at an offset.
func (f *file) readHeader(off int64) (*unit, error) {
	c := cursor{B: f.info.at(off, 40)}
	n, is64 := length(&c)
	start := off + int64(c.Pos)
	u := &unit{file: f, off: off, kind: unitCompile, addrs: f.addr, strOffsets: f.strOffsets, rnglists: f.rnglists, ranges: f.ranges}
	version := c.U16()
	u.format = format{version: uint8(min(version, math.MaxUint8)), is64: is64}
	if f.info.err != nil {
		return nil, f.info.err
	}
	if c.Bad || n > uint64(f.info.size-start) {
		return nil, fmt.Errorf("unit at %#x of %s: %d bytes: %w", off, f.info.name, n, ErrFormat)
	}
	u.end = start + int64(n)
	switch {
	case version >= 2 && version <= 4:
		u.abbrev, u.address = sectionOffset(&c, is64), c.U8()
	case version == 5:
		u.kind, u.address, u.abbrev = c.U8(), c.U8(), sectionOffset(&c, is64)
		switch u.kind {
		case unitSkeleton, unitSplitCompile:
			u.dwoID = c.U64()
		case unitType, unitSplitType:
			c.Skip(uint64(8 + u.offset()))
		}
	default: // the next unit can still be found
		u.kind = 0
		return u, nil
	}
	u.dies = off + int64(c.Pos)
	if c.Bad || u.dies > u.end || (u.address != 8 && u.address != 4) {
		return nil, fmt.Errorf("unit at %#x of %s: %w", off, f.info.name, ErrFormat)
	}
	return u, nil
}

// program says whether a unit may have functions with addresses.
func (u *unit) program() bool {
	return u.kind == unitCompile || u.kind == unitSkeleton || u.kind == unitSplitCompile
}

// unit reads the unit at an offset with its root entry.
func (f *file) unit(off int64) (*unit, error) {
	u, err := f.readHeader(off)
	if err != nil || u.kind == 0 {
		return u, err
	}
	if u.version >= 5 { // behind the section's own header, for units that do not say
		u.strBase, u.rnglistsAt, u.addrBase = 8, 12, 8
		if u.is64 {
			u.strBase, u.rnglistsAt, u.addrBase = 16, 20, 16
		}
	}
	for _, n := range []int64{512, 16 << 10} {
		c := cursor{B: f.info.at(u.dies, int(min(n, u.end-u.dies)))}
		code := c.ULEB()
		if c.Bad || code == 0 { // an empty unit
			return u, nil
		}
		a, err := f.rootAbbrev(u.abbrev, code)
		if err != nil {
			return nil, err
		}
		u.tag = a.tag
		for _, x := range a.attrs {
			u.set(x.name, u.value(&c, x))
		}
		if !c.Bad {
			break
		}
		if int64(len(c.B)) == u.end-u.dies || n > 512 {
			return nil, fmt.Errorf("root entry of the unit at %#x of %s: %w", off, f.info.name, ErrFormat)
		}
	}
	u.base, _ = u.addr(u.low)
	return u, nil
}

func (u *unit) set(name uint16, v value) {
	switch name {
	case attrLowPC:
		u.low = v
	case attrHighPC:
		u.high = v
	case attrRanges:
		u.lists = v
	case attrStmtList:
		u.lines = v
	case attrCompDir:
		v.text = bytes.Clone(v.text)
		u.dir = v
	case attrDwoName, attrGNUDwoName:
		v.text = bytes.Clone(v.text)
		u.dwo = v
	case attrGNUDwoID:
		u.dwoID = v.n
	case attrLanguage:
		u.language = v.n
	case attrStrOffsetsBase:
		u.strBase = v.n
	case attrAddrBase, attrGNUAddrBase:
		u.addrBase = v.n
	case attrRnglistsBase:
		u.rnglistsAt = v.n
	case attrGNURangesBase:
		u.gnuRanges = v.n
	}
}

// rootAbbrev finds the abbreviation of a root entry without reading, let alone
// keeping, more of the table than is before it. It is valid until the next call.
func (f *file) rootAbbrev(off, code uint64) (*abbrev, error) {
	a := &f.root
	if f.rootOff == off && a.code == code {
		return a, nil
	}
	n := 0
	f.rootOff = off
	err := eachAbbrev(f.abbrev, off, a, func() bool { n++; return a.code != code && n < maxAbbrevs })
	f.budget.spend(n)
	if err == nil && a.code != code {
		err = fmt.Errorf("no abbreviation %d at %#x of %s: %w", code, off, f.abbrev.title(), ErrFormat)
	}
	if err != nil {
		a.code = 0
	}
	return a, err
}

// table returns the abbreviations of a unit. Compilers share tables between
// units (LLVM's link-time optimization, dwz), so a few are kept.
func (u *unit) table() (*abbrevs, error) {
	f := u.file
	key := tableKey{u.abbrev, u.format}
	if t := f.tables[key]; t != nil {
		return t, nil
	}
	t, err := readAbbrevs(f.abbrev, u.abbrev, u.format)
	if err != nil {
		return nil, err
	}
	f.budget.spend(t.weight)
	if f.tables == nil || f.tableWeight+t.weight > maxTables {
		f.tables, f.tableWeight = map[tableKey]*abbrevs{}, 0
	}
	f.tables[key] = t
	f.tableWeight += t.weight
	return t, nil
}

type tableKey struct {
	off uint64
	format
}

// maxTables bounds the tables that are kept, in attributes and steps of 24
// bytes or less.
const maxTables = 64 << 10

// unitAt returns the unit that an offset in .debug_info lies in.
func (f *file) unitAt(off int64) (*unit, error) {
	if u := f.last; u != nil && off >= u.dies && off < u.end {
		return u, nil
	}
	offs, err := f.units()
	i := sort.Search(len(offs), func(i int) bool { return offs[i] > off })
	if i == 0 {
		if err == nil {
			err = fmt.Errorf("nothing at %#x of %s: %w", off, f.info.title(), ErrFormat)
		}
		return nil, err
	}
	u, err := f.unit(offs[i-1])
	if err != nil {
		return nil, err
	}
	if off < u.dies || off >= u.end {
		return nil, fmt.Errorf("reference to %#x of %s, between units: %w", off, f.info.title(), ErrFormat)
	}
	f.last = u
	return u, nil
}

// units returns where units begin. After an error those before it hold.
func (f *file) units() ([]int64, error) {
	if f.unitOffs != nil || f.info == nil {
		return f.unitOffs, f.unitErr
	}
	for off := int64(0); off < f.info.size; {
		u, err := f.readHeader(off)
		if err == nil && len(f.unitOffs) >= maxUnits {
			err = fmt.Errorf("more than %d units: %w", maxUnits, ErrFormat)
		}
		if err != nil {
			f.unitErr = err
			break
		}
		f.unitOffs = append(f.unitOffs, off)
		off = u.end
		f.budget.spend(1)
	}
	return f.unitOffs, f.unitErr
}

// maxUnits bounds the list of units, to 8 MB. Chromium has some 30,000.
const maxUnits = 1 << 20
