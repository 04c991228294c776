// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"bytes"
	"strings"

	"github.com/carverauto/serviceradar-profiler/object"
)

// file is one ELF file with the sections that matter here. Those it does not
// have are nil.
type file struct {
	object *object.File
	budget *budget

	info, abbrev, line       *section
	str, lineStr, strOffsets *section
	addr, ranges, rnglists   *section
	aranges                  *section

	alt       *file
	altOpened bool
	openAlt   func(path string, buildID []byte) (*object.File, error)
	data      *Data

	root        abbrev // of the last root entry, see rootAbbrev
	rootOff     uint64
	tables      map[tableKey]*abbrevs
	tableWeight int
	last        *unit // see unitAt
	unitOffs    []int64
	unitErr     error
}

// open finds the sections of a file; suffix is ".dwo" for those of split units.
func (d *Data) open(o *object.File, suffix string) (*file, error) {
	f := &file{object: o, budget: &d.budget, openAlt: d.options.Alternate, data: d}
	for _, x := range []struct {
		at   **section
		name string
	}{
		{&f.info, "info"}, {&f.abbrev, "abbrev"}, {&f.line, "line"},
		{&f.str, "str"}, {&f.lineStr, "line_str"}, {&f.strOffsets, "str_offsets"},
		{&f.addr, "addr"}, {&f.ranges, "ranges"}, {&f.rnglists, "rnglists"}, {&f.aranges, "aranges"},
	} {
		s, err := d.section(o, x.name+suffix)
		if err != nil {
			return nil, err
		}
		*x.at = s
	}
	return f, nil
}

func (d *Data) section(o *object.File, name string) (*section, error) {
	s := o.Section(".debug_" + name)
	if s == nil {
		if s = o.Section(".zdebug_" + name); s != nil {
			return d.oldCompressed(s)
		}
	}
	switch {
	case s == nil || s.FileSize == 0:
		return nil, nil
	case s.Compressed():
		return d.compressed(s)
	}
	return plain(s), nil
}

// alternate returns the file that has what is common to several; nil if there
// is none, or it cannot be read.
func (f *file) alternate() *file {
	if f.altOpened || f.openAlt == nil {
		return f.alt
	}
	f.altOpened = true
	path, id := f.alternateName()
	if path == "" {
		return nil
	}
	o, err := f.openAlt(path, id)
	if err != nil {
		f.data.note(err)
		return nil
	}
	f.data.opened = append(f.data.opened, o)
	alt, err := f.data.open(o, "")
	if err != nil {
		f.data.note(err)
		return nil
	}
	alt.openAlt = nil // it has no other
	f.alt = alt
	return alt
}

// alternateName reads what names the alternate file: .gnu_debugaltlink of dwz
// (a path and a build ID), or .debug_sup of DWARF 5 (7.3.6).
func (f *file) alternateName() (path string, id []byte) {
	read := func(name string) []byte {
		if s := f.object.Section(name); s != nil && s.FileSize < 64<<10 {
			return plain(s).at(0, int(s.FileSize))
		}
		return nil
	}
	if p, rest, ok := bytes.Cut(read(".gnu_debugaltlink"), []byte{0}); ok {
		return string(p), rest
	}
	c := cursor{b: read(".debug_sup")}
	if c.u16() == 5 && c.u8() == 0 {
		p := c.text()
		if id = c.take(c.uleb()); !c.bad {
			return strings.Clone(string(p)), id
		}
	}
	return "", nil
}

func (d *Data) note(err error) {
	if d.problem == nil {
		d.problem = err
	}
}

// split walks the entries of a unit whose skeleton this is.
func (d *Data) split(u *unit, t *tree) error { return d.read(u, t) }
