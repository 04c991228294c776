// SPDX-License-Identifier: Apache-2.0

// Package dwarf tells from the debug information of an ELF file which calls
// are active at an address: the function, the calls that were inlined into it,
// and where in the source each of them is.
//
// It reads DWARF 2 to 5, as written by GCC, Clang, Go and rustc: whole, split
// into other files (.dwo, .dwp), compressed, or with common parts in an
// alternate file (dwz).
//
// Debug information is large: often ten times the code. A profile asks for some
// hundred addresses, so nothing is built that would serve for all of them. Of
// an index, or of the root entries of units, it is seen which units have the
// addresses; their entries are walked once, their line programs run once, and
// only the names of what was found are read. At most one unit is held at a
// time. The price: a second call of Find reads its units again.
//
// The files belong to the profiled programs, so every byte is hostile until
// checked: wrong ones give errors or less, never a panic. What is kept and what
// is done is bounded: see [budget].
package dwarf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

var (
	// ErrNone says that a file has no debug information.
	ErrNone = errors.New("no debug information")
	// ErrFormat says that debug information breaks the rules of its format.
	ErrFormat = errors.New("not valid DWARF")
	// ErrBudget says that reading was given up, because it took far more work
	// than reading real debug information does.
	ErrBudget = errors.New("given up, it took more work than real debug information does")
)

// Options say how other files are found that debug information is in, too. A
// function that is nil finds nothing. Data closes what they return.
type Options struct {
	// Alternate opens the file with what dwz found to be common to several
	// files: its path, maybe relative to that of the file that refers to it,
	// and its build ID.
	Alternate func(path string, buildID []byte) (*object.File, error)
	// Split opens a .dwo file, by the path that the compiler was told.
	Split func(path string) (*object.File, error)
	// Package opens the .dwp file that has all .dwo files of this one.
	Package func() (*object.File, error)
}

// Call is one call that is active at an address.
type Call struct {
	Name    string // as the linker knows it, else qualified: a::b; "" if unknown
	File    string // path of the source; "" if unknown
	Line    int    // in File, where it is at the moment; 0 if unknown
	Inlined bool   // into the next one
}

// Data is the debug information of one file. It is for one goroutine at a time.
type Data struct {
	main    *file
	options Options
	budget  budget
	problem error // of the search at hand: what could not be opened

	inflated int64 // bytes of compressed sections, as they say

	pack       *pack
	packOpened bool
	packErr    error
	splitFile  *file // of the unit at hand

	unitBuffer, lineBuffer []byte
}

// Open looks at the sections of a file; ErrNone if it has no debug information.
func Open(f *object.File, o Options) (*Data, error) {
	d := &Data{options: o}
	main, err := d.open(f, "")
	d.main = main
	if err == nil && (main.info == nil || main.abbrev == nil) {
		err = ErrNone
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close gives back what Open and Find took, but not the file given to Open.
func (d *Data) Close() error { return d.main.Close() }

// budget bounds the work of one Find: entries, rows, ranges and the like. It
// is ten times what all units of a program of 100 MB take, and some seconds.
type budget struct{ left int }

const maxWork = 100_000_000

// spend takes work from the budget, and says whether there was enough left.
func (b *budget) spend(n int) bool {
	b.left -= n
	return b.left > 0
}

// Find calls found for each address that it knows something of, with the
// address's index, not necessarily in order, and once at most. The addresses
// are sorted and unique. calls are those active there, innermost first: the
// last one is the function itself, all others are inlined. They are valid until
// found returns. After an error what was found so far still holds.
func (d *Data) Find(addrs []profile.ObjAddr, found func(i int, calls []Call)) error {
	if len(addrs) == 0 {
		return nil
	}
	d.budget.left, d.problem = maxWork, nil
	all := make([]uint64, len(addrs))
	for i, a := range addrs {
		all[i] = uint64(a)
	}
	claims, err := claimsOf(d.main, all)
	s := &search{data: d, addrs: all, left: make([]uint8, len(all)), found: found, first: err}
	s.names.budget, s.names.scopes.walked = &d.budget, &s.tree
	for _, c := range claims {
		s.left[c.addr]++
	}
	for i := 0; i < len(claims) && d.budget.left > 0; {
		n := 1
		for i+n < len(claims) && claims[i+n].unit == claims[i].unit {
			n++
		}
		s.note(s.unit(claims[i : i+n]))
		i += n
	}
	s.note(s.names.err)
	s.note(d.problem)
	if d.budget.left <= 0 {
		s.first = ErrBudget
	}
	d.shrink()
	if s.first != nil {
		return fmt.Errorf("unreadable: %w", s.first)
	}
	return nil
}

// shrink keeps small buffers for the next call of Find.
func (d *Data) shrink() {
	if cap(d.unitBuffer)+cap(d.lineBuffer) > maxKept {
		d.unitBuffer, d.lineBuffer = nil, nil
	}
}

const maxKept = 4 << 20

// search is one call of Find.
type search struct {
	data  *Data
	addrs []uint64
	left  []uint8 // claims of each address that were not yet looked at
	found func(i int, calls []Call)
	names names
	first error

	// Of the unit at hand.
	index []int // of its addresses in addrs
	tree  tree
	rows  []position
	calls []Call
}

const done = 255 // in search.left: found was called

func (s *search) note(err error) {
	if s.first == nil {
		s.first = err
	}
}

// unit looks for the addresses that a unit claims.
func (s *search) unit(claims []claim) error {
	s.index, s.tree.addrs = s.index[:0], s.tree.addrs[:0]
	for _, c := range claims {
		if s.left[c.addr] != done {
			s.left[c.addr]--
			s.index = append(s.index, int(c.addr))
			s.tree.addrs = append(s.tree.addrs, s.addrs[c.addr])
		}
	}
	if len(s.index) == 0 {
		return nil
	}
	u, err := s.data.main.unit(claims[0].unit)
	if err != nil {
		return err
	}
	err = s.walk(u)
	s.rows = slices.Grow(s.rows[:0], len(s.index))[:len(s.index)]
	clear(s.rows)
	lines, lineErr := u.lineTable(&s.data.lineBuffer)
	if lines != nil {
		lineErr = lines.find(s.tree.addrs, s.rows)
	}
	files, nameErr := s.files(lines)
	for i := range s.index {
		s.report(i, files)
	}
	return errors.Join(err, lineErr, nameErr, s.close())
}

// close lets go of the file that the unit was split off into.
func (s *search) close() error {
	f := s.data.splitFile
	if f == nil {
		return nil
	}
	clear(s.names.known)
	s.data.splitFile = nil
	return f.Close()
}

// walk fills the tree for a unit.
func (s *search) walk(u *unit) error {
	t := &s.tree
	t.unit, t.b, t.budget = nil, nil, &s.data.budget
	t.inner = slices.Grow(t.inner[:0], len(s.index))[:len(s.index)]
	t.found = t.found[:0]
	for i := range t.inner {
		t.inner[i] = -1
	}
	if u.dwo.form != 0 {
		return s.data.split(u, t)
	}
	return s.data.read(u, t)
}

// read walks the entries of a unit.
func (d *Data) read(u *unit, t *tree) error {
	if u.dies == 0 {
		return nil
	}
	b, err := u.file.info.load(&d.unitBuffer, u.off, u.end-u.off, maxUnit)
	if err != nil {
		return err
	}
	t.unit, t.b = u, b
	if t.table, err = u.table(); err != nil {
		return err
	}
	u.file.last = u
	return t.walk()
}

// files looks up the paths of all source files that calls are in.
func (s *search) files(lines *lineTable) (map[uint64]string, error) {
	if lines == nil {
		return nil, nil
	}
	want := map[uint64]string{}
	for i, p := range s.rows {
		if p.ok {
			want[p.file] = ""
		}
		for id := s.tree.inner[i]; id >= 0; id = s.tree.found[id].parent {
			if a := &s.tree.found[id]; a.parent >= 0 {
				want[a.callFile] = ""
			}
		}
	}
	return want, lines.names(want)
}

// report gives the calls at the i-th address of the unit to found. Where a unit
// has an address but no function there, another may have both.
func (s *search) report(i int, files map[uint64]string) {
	at := s.index[i]
	id, row := s.tree.inner[i], s.rows[i]
	if id < 0 && (!row.ok || s.left[at] > 0) {
		return
	}
	s.calls = s.calls[:0]
	call := Call{File: files[row.file], Line: int(min(row.line, maxLine))}
	for ; id >= 0; id = s.tree.found[id].parent {
		a := &s.tree.found[id]
		call.Name, call.Inlined = s.names.of(a.entry), a.parent >= 0
		s.calls = append(s.calls, call)
		call = Call{File: files[a.callFile], Line: int(min(a.callLine, maxLine))}
	}
	if len(s.calls) == 0 {
		s.calls = append(s.calls, call)
	}
	s.left[at] = done
	s.found(at, s.calls)
}

// maxLine is what a number of a line may be: a larger one is wrong.
const maxLine = 1<<31 - 1
