// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/carverauto/serviceradar-profiler/object"
)

// file is one ELF file with the sections that matter here. Those it does not
// have are nil.
type file struct {
	object   *object.File
	packed   bool // its sections are parts of a package's
	data     *Data
	budget   *budget
	closers  []io.Closer
	inflated int64 // bytes of compressed sections, as they say

	info, abbrev, line       *section
	str, lineStr, strOffsets *section
	addr, ranges, rnglists   *section
	aranges                  *section

	alt       *file
	altOpened bool
	altErr    error
	openAlt   func(path string, buildID []byte) (*object.File, error)

	root        abbrev // of the last root entry, see rootAbbrev
	rootOff     uint64
	tables      map[tableKey]*abbrevs
	tableWeight int
	last        *unit // see unitAt
	unitOffs    []int64
	unitErr     error
}

// open finds the sections of a file; suffix is ".dwo" for those of split units.
// After an error the file still is to be closed.
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
		s, err := f.section(".debug_" + x.name + suffix)
		if err != nil {
			return f, err
		}
		*x.at = s
	}
	return f, nil
}

func (f *file) section(name string) (*section, error) {
	s := f.object.Section(name)
	if old, ok := strings.CutPrefix(name, ".debug_"); ok && s == nil {
		if s = f.object.Section(".zdebug_" + old); s != nil {
			return f.oldCompressed(s)
		}
	}
	return f.content(s)
}

func (f *file) content(s *object.Section) (*section, error) {
	switch {
	case s == nil || s.FileSize == 0:
		return nil, nil
	case s.Compressed():
		return f.compressed(s)
	}
	return plain(s), nil
}

// own makes close close something else as well.
func (f *file) own(c io.Closer) { f.closers = append(f.closers, c) }

// Close gives back all that was taken for the file.
func (f *file) Close() error {
	var errs []error
	for _, c := range f.closers {
		errs = append(errs, c.Close())
	}
	f.closers = nil
	f.data.inflated -= f.inflated
	f.inflated = 0
	return errors.Join(errs...)
}

// alternate returns the file that has what is common to several; nil if there
// is none, or it cannot be read.
func (f *file) alternate() *file {
	if !f.altOpened {
		f.altOpened = true
		f.alt, f.altErr = f.openAlternate()
	}
	f.data.note(f.altErr)
	return f.alt
}

func (f *file) openAlternate() (*file, error) {
	path, id := f.alternateName()
	if path == "" {
		return nil, fmt.Errorf("no name of the alternate file: %w", ErrFormat)
	}
	if f.openAlt == nil {
		return nil, fmt.Errorf("alternate file %s is not looked for", path)
	}
	o, err := f.openAlt(path, id)
	if err != nil {
		return nil, err
	}
	alt, err := f.data.open(o, "")
	alt.own(o)
	f.own(alt)
	alt.openAlt = nil // it has no other
	return alt, err
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
	c := cursor{B: read(".debug_sup")}
	if c.U16() == 5 && c.U8() == 0 {
		p := c.Text()
		if id = c.Take(c.ULEB()); !c.Bad {
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
