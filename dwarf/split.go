// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"errors"
	"fmt"
	"math"
)

// split walks the entries of a unit of which the file has a skeleton only: its
// ranges, lines and addresses. The rest is in a file of its own (.dwo), or in
// a package of many such (.dwp), and never saw a linker (DWARF 5, 7.3).
// Where it cannot be found the skeleton may know something, too.
func (d *Data) split(u *unit, t *tree) error {
	f, rest, err := d.splitUnit(u)
	if err != nil {
		return errors.Join(err, d.read(u, t))
	}
	d.splitFile = f
	rest.base, rest.addrs, rest.addrBase = u.base, u.addrs, u.addrBase
	rest.ranges, rest.rangesBase = u.ranges, u.gnuRanges
	return d.read(rest, t)
}

// splitUnit finds the unit that belongs to a skeleton, and opens its file.
func (d *Data) splitUnit(u *unit) (*file, *unit, error) {
	if p := d.packaged(); p != nil {
		f, err := p.find(d, u.dwoID)
		if f != nil {
			rest, err := f.split(u.dwoID)
			return f, rest, err
		}
		d.note(err)
	}
	path := join(u.string(u.dir), u.string(u.dwo))
	if d.options.Split == nil {
		return nil, nil, fmt.Errorf("%s is not looked for", path)
	}
	o, err := d.options.Split(path)
	if err != nil {
		return nil, nil, err
	}
	f, err := d.open(o, ".dwo")
	f.own(o)
	var rest *unit
	if err == nil {
		rest, err = f.split(u.dwoID)
	}
	if err != nil {
		d.note(f.Close())
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, rest, nil
}

// split returns the unit of a given ID. Type units have sections of their own
// in a .dwo file, all of one name.
func (f *file) split(id uint64) (*unit, error) {
	u, err := f.identified(id)
	sections := f.object.Sections()
	for i := 0; i < len(sections) && u == nil && !f.packed; i++ {
		s := &sections[i]
		if s.Name != ".debug_info.dwo" || s.FileSize == 0 {
			continue
		}
		var problem error
		if f.info, problem = f.content(s); problem == nil {
			f.unitOffs, f.unitErr, f.last = nil, nil, nil
			u, problem = f.identified(id)
		}
		if err == nil {
			err = problem
		}
	}
	if u != nil {
		return u, nil
	}
	if err == nil {
		err = fmt.Errorf("no unit %#x, it belongs to another build: %w", id, ErrFormat)
	}
	return nil, err
}

// identified looks for a unit in one section; nil if it is not there.
func (f *file) identified(id uint64) (*unit, error) {
	offs, err := f.units()
	for _, off := range offs {
		if !f.budget.spend(1) {
			break
		}
		u, err := f.unit(off)
		if err != nil {
			return nil, err
		}
		if u.program() && u.dwoID == id {
			return u, nil
		}
	}
	return nil, err
}

// pack is a package of split units (.dwp): its sections are those of all units,
// and an index has which part of each belongs to a unit (DWARF 5, 7.3.5;
// before, https://gcc.gnu.org/wiki/DebugFissionDWP).
type pack struct {
	all     *file
	index   *section
	version uint64
	columns []uint64 // which section each column is about
	units   uint64
	slots   uint64
	hashes  uint64 // where the hash table begins
}

// Columns of the index. Version 2, GNU's, has nothing about range lists.
const (
	columnInfo       = 1
	columnAbbrev     = 3
	columnStrOffsets = 6
	columnRnglists   = 8
	maxColumns       = 16
)

// packaged returns the package; nil if there is none, or it cannot be read.
func (d *Data) packaged() *pack {
	if !d.packOpened && d.options.Package != nil {
		d.packOpened = true
		d.pack, d.packErr = d.openPackage()
	}
	d.note(d.packErr)
	return d.pack
}

func (d *Data) openPackage() (*pack, error) {
	o, err := d.options.Package()
	if err != nil {
		return nil, err
	}
	f, err := d.open(o, ".dwo")
	f.own(o)
	d.main.own(f)
	if err != nil {
		return nil, err
	}
	p := &pack{all: f}
	if p.index, err = f.section(".debug_cu_index"); err != nil {
		return nil, err
	}
	if err := p.read(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *pack) read() error {
	c := cursor{B: p.index.at(0, 16+4*maxColumns)}
	p.version = uint64(c.U32()) // of DWARF 5: 2 bytes and padding
	columns := uint64(c.U32())
	p.units, p.slots = uint64(c.U32()), uint64(c.U32())
	if c.Bad || p.version != 2 && p.version != 5 || columns > maxColumns || p.slots&(p.slots-1) != 0 {
		return p.index.wrong("header", 0)
	}
	p.hashes = 16
	p.columns = make([]uint64, columns)
	for i := range p.columns {
		v, ok := p.index.uint(p.hashes+12*p.slots+4*uint64(i), 4)
		if !ok {
			return p.index.wrong("columns", 0)
		}
		p.columns[i] = v
	}
	return nil
}

// find returns the part of the package that belongs to a unit, as a file of its
// own; nil if there is none.
func (p *pack) find(d *Data, id uint64) (*file, error) {
	row, err := p.row(id)
	if row == 0 {
		return nil, err
	}
	f := *p.all
	f.packed = true
	f.closers, f.inflated, f.unitOffs, f.tables, f.last, f.rootOff, f.root = nil, 0, nil, nil, nil, math.MaxUint64, abbrev{}
	for i, column := range p.columns {
		at := p.hashes + 12*p.slots + 4*uint64(len(p.columns))*row + 4*uint64(i)
		off, ok := p.index.uint(at, 4)
		size, ok2 := p.index.uint(at+4*uint64(len(p.columns))*p.units, 4)
		if !ok || !ok2 {
			return nil, p.index.wrong("row", int64(at))
		}
		switch {
		case column == columnInfo:
			f.info = p.all.info.part(off, size)
		case column == columnAbbrev:
			f.abbrev = p.all.abbrev.part(off, size)
		case column == columnStrOffsets:
			f.strOffsets = p.all.strOffsets.part(off, size)
		case column == columnRnglists && p.version == 5:
			f.rnglists = p.all.rnglists.part(off, size)
		}
	}
	if f.info == nil {
		return nil, p.index.wrong("row", int64(row))
	}
	return &f, nil
}

// row looks a unit up in the hash table (7.3.5.3); 0 if it is not there.
func (p *pack) row(id uint64) (uint64, error) {
	mask := p.slots - 1
	step := id>>32&mask | 1
	for n, i := uint64(0), id&mask; n < p.slots && p.all.budget.spend(1); n, i = n+1, (i+step)&mask {
		row, ok := p.index.uint(p.hashes+8*p.slots+4*i, 4)
		if !ok || row > p.units {
			return 0, p.index.wrong("hash table", int64(p.hashes))
		}
		if row == 0 {
			return 0, nil
		}
		if hash, _ := p.index.uint(p.hashes+8*i, 8); hash == id {
			return row, nil
		}
	}
	return 0, nil
}
