// SPDX-License-Identifier: Apache-2.0

package object

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// GoTable is the table, pclntab, by which the Go runtime itself finds functions for its
// tracebacks and garbage collector; so it is in every Go program, stripped or
// not, and has every Go function. Its layout is in runtime/symtab.go (pcHeader,
// functab) and runtime/runtime2.go (_func), and cmd/link/internal/ld/pcln.go
// writes it:
//
//	header   magic, 0, 0, instruction quantum, pointer size, then words:
//	         counts, and offsets of the parts below from the header
//	functab  pairs (entry, offset of _func from functab), sorted by entry,
//	         and after the last pair the end of its function
//	_func    entry, offset of the name in the table of names, …
//
// Since Go 1.18 entries are 32-bit offsets from runtime.text, which is
// somewhere else (gotext.go); before, they are addresses.
//
// What else it says of a function: go:func.*, the compiler's data of functions,
// is not part of the table; see [File.GoModule].
type GoTable struct {
	goHeader
	Text profile.ObjAddr // added to entries; 0 before Go 1.18

	table io.ReaderAt
	size  int64
	at    profile.ObjAddr // of the header, in memory
}

// goHeader is what pcHeader says, with offsets checked to lie in the table.
type goHeader struct {
	Magic     uint32 // of the layout
	Relative  bool   // entries are offsets from runtime.text
	Count     int64  // functions
	Names     int64  // offset of the names
	Functions int64  // offset that _func offsets count from
	Functab   int64  // offset of the pairs
	Width     int    // bytes of one field of functab: 4 or 8
	NameAt    int64  // offset of the name's offset in _func
	PCTab     int64  // offset of the tables of values by PC
	Units     int64  // offset of the tables of a compilation unit's files; 0 before Go 1.16
	Files     int64  // offset of the names of files; 0 before Go 1.16
	Quantum   uint32 // bytes of the smallest instruction
	text      uint64 // runtime.text as the header has it; 0 if it does not (Go 1.26)
}

// Magic numbers of the layouts (internal/abi/symtab.go).
const (
	MagicGo12  = 0xfffffffb
	MagicGo116 = 0xfffffffa
	MagicGo118 = 0xfffffff0
	MagicGo120 = 0xfffffff1
)

const (
	pointerSize    = 8 // on amd64 and arm64
	pclnHeaderSize = 8 + 8*pointerSize
)

var ErrGoTable = errors.New("not a pclntab")

// ParseGoTable checks the header and what it says about the first and last
// function. size is how much there may be: the table's length or more.
func ParseGoTable(r io.ReaderAt, size int64) (*GoTable, error) {
	var b [pclnHeaderSize]byte
	if err := readFull(r, b[:], 0); err != nil {
		return nil, fmt.Errorf("read pclntab header: %w", err)
	}
	if !isGoTable(b[:]) {
		return nil, ErrGoTable
	}
	word := func(i int) int64 { // too big for an int64 is too big for the table
		return int64(min(le.Uint64(b[8+pointerSize*i:]), math.MaxInt64))
	}
	h := goHeader{Magic: le.Uint32(b[:]), Count: word(0), Width: pointerSize, NameAt: pointerSize, Quantum: uint32(b[6])}
	switch h.Magic {
	case MagicGo12: // names and _func count from the header, functab follows the count
		h.Functab = 8 + pointerSize
	case MagicGo116:
		h.Names, h.Units, h.Files, h.PCTab, h.Functions = word(2), word(3), word(4), word(5), word(6)
		h.Functab = h.Functions
	case MagicGo118, MagicGo120:
		h.Relative, h.Width, h.NameAt = true, 4, 4
		h.text, h.Names, h.Units, h.Files, h.PCTab, h.Functions = le.Uint64(b[8+2*pointerSize:]), word(3), word(4), word(5), word(6), word(7)
		h.Functab = h.Functions
	}
	pair := int64(2 * h.Width)
	if h.Names >= size || h.Units >= size || h.Files >= size || h.PCTab >= size || h.Functions >= size || h.Functab >= size || h.Count == 0 || h.Count > (size-h.Functab)/pair {
		return nil, fmt.Errorf("pclntab of %d functions, names at %#x, functab at %#x, in %#x bytes: %w",
			h.Count, h.Names, h.Functab, size, ErrGoTable)
	}
	return &GoTable{goHeader: h, table: r, size: size}, nil
}

// isGoTable recognizes the first 8 bytes.
func isGoTable(b []byte) bool {
	switch le.Uint32(b) {
	case MagicGo12, MagicGo116, MagicGo118, MagicGo120:
		return b[4] == 0 && b[5] == 0 && (b[6] == 1 || b[6] == 2 || b[6] == 4) && b[7] == pointerSize
	}
	return false
}

// Entries returns the entry of the first function and the end of the last, as
// the table has them.
func (t *GoTable) Entries() (first, end uint64, err error) {
	if first, err = t.field(0); err == nil {
		end, err = t.field(2 * t.Count)
	}
	return first, end, err
}

// field reads the i-th field of functab.
func (t *GoTable) field(i int64) (uint64, error) {
	var b [8]byte
	if err := readFull(t.table, b[:t.Width], t.Functab+i*int64(t.Width)); err != nil {
		return 0, fmt.Errorf("read functab: %w", err)
	}
	return le.Uint64(b[:]), nil
}

// ReadAt reads at an offset from the header.
func (t *GoTable) ReadAt(p []byte, off int64) (int, error) { return t.table.ReadAt(p, off) }

// Size is how long the table is at most.
func (t *GoTable) Size() int64 { return t.size }

// Pair reads one pair of functab: where a function begins, and the offset of
// its _func.
func (t *GoTable) Pair(b []byte) (entry profile.ObjAddr, function uint64) {
	if t.Width == 4 {
		return t.Text + profile.ObjAddr(le.Uint32(b)), uint64(le.Uint32(b[4:]))
	}
	return t.Text + profile.ObjAddr(le.Uint64(b)), le.Uint64(b[8:])
}
