// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"fmt"
	"math"
	"path"
	"sort"
)

// lineTable is a line number program (6.2): a table of files, and instructions
// that make rows of address, file and line. The rows of a unit are many, and
// few are wanted, so the program is run once and the rows are not kept.
type lineTable struct {
	format
	unit    *unit // whose strings and directory its files have
	budget  *budget
	files   []byte // the tables of directories and files
	program []byte

	minLength  uint64 // of an instruction, in bytes
	lineBase   int64
	lineRange  uint64
	opcodeBase uint8
	arguments  [256]uint8 // of standard opcodes
}

// position is where in the source an instruction comes from.
type position struct {
	file, line uint64
	ok         bool
}

// lineTable reads the table that a unit refers to, into buffer.
func (u *unit) lineTable(buffer *[]byte) (*lineTable, error) {
	s := u.file.line
	if u.lines.form == 0 || s == nil {
		return nil, nil
	}
	off := int64(min(u.lines.n, math.MaxInt64))
	head := cursor{B: s.at(off, 12)}
	n, is64 := length(&head)
	if head.Bad || n > math.MaxInt64 {
		return nil, s.wrong("line table", off)
	}
	b, err := s.load(buffer, off+int64(head.Pos), int64(n), maxLines)
	if err != nil {
		return nil, err
	}
	t := &lineTable{unit: u, budget: u.file.budget}
	t.is64 = is64
	if !t.header(&cursor{B: b}) {
		return nil, s.wrong("header of the line table", off)
	}
	return t, nil
}

func (s *section) wrong(what string, off int64) error {
	if s != nil && s.err != nil {
		return s.err
	}
	return fmt.Errorf("%s at %#x of %s: %w", what, off, s.title(), ErrFormat)
}

func (t *lineTable) header(c *cursor) bool {
	version := c.U16()
	if version < 2 || version > 5 {
		return false
	}
	t.version, t.address = uint8(version), t.unit.address
	if version >= 5 {
		t.address = c.U8()
		c.U8() // size of segment selectors
	}
	n := sectionOffset(c, t.is64)
	if c.Bad || n > uint64(c.Rest()) {
		return false
	}
	t.program = c.B[c.Pos+int(n):]
	c.B = c.B[:c.Pos+int(n)]
	t.minLength = uint64(c.U8())
	if version >= 4 {
		c.U8() // operations of an instruction: 1, where there is no VLIW
	}
	c.U8() // whether rows begin statements, by default
	t.lineBase, t.lineRange, t.opcodeBase = int64(int8(c.U8())), uint64(c.U8()), c.U8()
	for i := 1; i < int(t.opcodeBase); i++ {
		t.arguments[i] = c.U8()
	}
	t.files = c.B[c.Pos:]
	return !c.Bad && t.lineRange != 0 && t.opcodeBase != 0
}

// matcher holds the state of the program and gives the addresses that are
// looked for the rows they lie in: from one row to the next.
type matcher struct {
	addrs  []uint64
	found  []position
	budget *budget

	addr uint64
	position
	next int // of addrs: the first that is not before the last row
	last struct {
		addr uint64
		position
	}
	inside bool // a row came before in this sequence
}

func (m *matcher) reset() {
	m.addr, m.position, m.inside = 0, position{file: 1, line: 1, ok: true}, false
}

// row takes what the state is as a row of the table.
func (m *matcher) row() {
	if m.inside && m.addr > m.last.addr {
		for ; m.next < len(m.addrs) && m.addrs[m.next] < m.addr; m.next++ {
			if p := &m.found[m.next]; !p.ok {
				*p = m.last.position
			}
			m.budget.spend(1)
		}
	} else if !m.inside || m.addr < m.last.addr {
		m.next = sort.Search(len(m.addrs), func(i int) bool { return m.addrs[i] >= m.addr })
	}
	m.last.addr, m.last.position, m.inside = m.addr, m.position, true
}

// find runs the program. found, as long as addrs, gets positions where there
// are some.
func (t *lineTable) find(addrs []uint64, found []position) error {
	m := &matcher{addrs: addrs, found: found, budget: t.budget}
	m.reset()
	constAdvance := uint64(255-t.opcodeBase) / t.lineRange * t.minLength
	c := cursor{B: t.program}
	for c.Pos < len(c.B) && !c.Bad && t.budget.spend(1) {
		op := c.U8()
		if op >= t.opcodeBase {
			op -= t.opcodeBase
			m.addr += uint64(op) / t.lineRange * t.minLength
			m.line += uint64(t.lineBase) + uint64(op)%t.lineRange
			m.row()
			continue
		}
		switch op {
		case 0:
			t.extended(&c, m)
		case lnsCopy:
			m.row()
		case lnsAdvancePC:
			m.addr += c.ULEB() * t.minLength
		case lnsAdvanceLine:
			m.line += uint64(c.SLEB())
		case lnsSetFile:
			m.file = c.ULEB()
		case lnsConstAddPC:
			m.addr += constAdvance
		case lnsFixedAdvancePC:
			m.addr += uint64(c.U16())
		default: // of no matter here, or unknown; the header says how long it is
			for range t.arguments[op] {
				c.ULEB()
			}
		}
	}
	if c.Bad {
		return t.unit.file.line.wrong("line table", int64(t.unit.lines.n))
	}
	return nil
}

// extended runs an opcode that states its own length.
func (t *lineTable) extended(c *cursor, m *matcher) {
	n := c.ULEB()
	x := cursor{B: c.Take(n)}
	switch x.U8() {
	case lneEndSequence:
		m.row()
		m.reset()
	case lneSetAddress:
		m.addr = x.Uint(min(x.Rest(), 8))
	}
}

// names looks up the paths of the files whose numbers are the keys of want.
func (t *lineTable) names(want map[uint64]string) error {
	c := cursor{B: t.files}
	dirs := []value{t.unit.dir}
	room := maxPaths
	each := func(i uint64, name value, dir uint64) {
		if _, ok := want[i]; !ok || room < 0 {
			return
		}
		s := t.unit.string(name)
		if dir > 0 && dir < uint64(len(dirs)) {
			s = join(t.unit.string(dirs[dir]), s)
		}
		want[i] = join(t.unit.string(dirs[0]), s)
		room -= len(want[i])
	}
	if t.version < 5 {
		t.oldNames(&c, &dirs, each)
	} else {
		// The first directory is the compiler's again. A relative one must not
		// be put before itself.
		t.entries(&c, func(i uint64, name value, _ uint64) {
			if i > 0 {
				dirs = append(dirs, name)
			} else if t.unit.dir.form == 0 {
				dirs[0] = name
			}
		}, maxDirs)
		t.entries(&c, each, maxFiles)
	}
	if c.Bad {
		return t.unit.file.line.wrong("files of the line table", int64(t.unit.lines.n))
	}
	return nil
}

// Bounds of one table: directories, files, and bytes of the paths that are
// looked up.
const (
	maxDirs  = 1 << 16
	maxFiles = 1 << 20
	maxPaths = 4 << 20
)

// oldNames reads the tables of DWARF 2 to 4: strings, and in that of files
// numbers after each; both are counted from 1.
func (t *lineTable) oldNames(c *cursor, dirs *[]value, each func(i uint64, name value, dir uint64)) {
	for !c.Bad && len(*dirs) < maxDirs {
		dir := c.Text()
		if len(dir) == 0 {
			break
		}
		*dirs = append(*dirs, value{form: formString, text: dir})
	}
	for i := uint64(1); !c.Bad && i < maxFiles; i++ {
		name := c.Text()
		if len(name) == 0 {
			break
		}
		dir := c.ULEB()
		c.ULEB() // when it was changed
		c.ULEB() // how long it is
		each(i, value{form: formString, text: name}, dir)
	}
}

// entries reads one table of DWARF 5, which says itself what it has of each
// directory or file (6.2.4.1).
func (t *lineTable) entries(c *cursor, each func(i uint64, name value, dir uint64), limit uint64) {
	formats := make([]attr, c.U8())
	if len(formats) > maxDirectoryFormats {
		c.Bad = true
	}
	for i := range formats {
		formats[i].name, formats[i].form = uint16(min(c.ULEB(), math.MaxUint16)), uint16(min(c.ULEB(), math.MaxUint16))
	}
	n := c.ULEB()
	if n > limit {
		c.Bad = true
	}
	for i := uint64(0); i < n && !c.Bad && t.budget.spend(1); i++ {
		var name value
		var dir uint64
		for _, x := range formats {
			switch x.name {
			case lnctPath:
				name = t.value(c, x)
			case lnctDirectoryIndex:
				dir = t.value(c, x).n
			default:
				t.pass(c, x.form)
			}
		}
		if !c.Bad {
			each(i, name, dir)
		}
	}
}

// join puts a directory before a path, unless that begins at the root.
func join(dir, name string) string {
	if name == "" || path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(dir, name)
}
