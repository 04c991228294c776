// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// pclntab is the table by which the Go runtime itself finds functions for its
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
// Inlined calls are not looked up: an address gets the function it was
// compiled into.
type pclntab struct {
	table io.ReaderAt
	size  int64
	header
	text profile.ObjAddr // added to entries; 0 before Go 1.18
}

// header is what pcHeader says, with offsets checked to lie in the table.
type header struct {
	relative  bool   // entries are offsets from runtime.text
	count     int64  // functions
	names     int64  // offset of the names
	functions int64  // offset that _func offsets count from
	functab   int64  // offset of the pairs
	width     int    // bytes of one field of functab: 4 or 8
	nameAt    int64  // offset of the name's offset in _func
	text      uint64 // runtime.text as the header has it; 0 if it does not (Go 1.26)
}

// Magic numbers of the layouts (internal/abi/symtab.go).
const (
	magicGo12  = 0xfffffffb
	magicGo116 = 0xfffffffa
	magicGo118 = 0xfffffff0
	magicGo120 = 0xfffffff1
)

const (
	pointerSize    = 8 // on amd64 and arm64
	pclnHeaderSize = 8 + 8*pointerSize
)

var errPclntab = errors.New("not a pclntab")

// parsePclntab checks the header and what it says about the first and last
// function. size is how much there may be: the table's length or more.
func parsePclntab(r io.ReaderAt, size int64) (*pclntab, error) {
	var b [pclnHeaderSize]byte
	if err := readFull(r, b[:], 0); err != nil {
		return nil, fmt.Errorf("read pclntab header: %w", err)
	}
	if !isPclntab(b[:]) {
		return nil, errPclntab
	}
	word := func(i int) int64 { // too big for an int64 is too big for the table
		return int64(min(le.Uint64(b[8+pointerSize*i:]), math.MaxInt64))
	}
	h := header{count: word(0), width: pointerSize, nameAt: pointerSize}
	switch le.Uint32(b[:]) {
	case magicGo12: // names and _func count from the header, functab follows the count
		h.functab = 8 + pointerSize
	case magicGo116:
		h.names, h.functions = word(2), word(6)
		h.functab = h.functions
	case magicGo118, magicGo120:
		h.relative, h.width, h.nameAt = true, 4, 4
		h.text, h.names, h.functions = le.Uint64(b[8+2*pointerSize:]), word(3), word(7)
		h.functab = h.functions
	}
	pair := int64(2 * h.width)
	if h.names >= size || h.functions >= size || h.functab >= size || h.count == 0 || h.count > (size-h.functab)/pair {
		return nil, fmt.Errorf("pclntab of %d functions, names at %#x, functab at %#x, in %#x bytes: %w",
			h.count, h.names, h.functab, size, errPclntab)
	}
	return &pclntab{table: r, size: size, header: h}, nil
}

// isPclntab recognizes the first 8 bytes.
func isPclntab(b []byte) bool {
	switch le.Uint32(b) {
	case magicGo12, magicGo116, magicGo118, magicGo120:
		return b[4] == 0 && b[5] == 0 && (b[6] == 1 || b[6] == 2 || b[6] == 4) && b[7] == pointerSize
	}
	return false
}

// entries returns the entry of the first function and the end of the last, as
// the table has them.
func (t *pclntab) entries() (first, end uint64, err error) {
	if first, err = t.field(0); err == nil {
		end, err = t.field(2 * t.count)
	}
	return first, end, err
}

// field reads the i-th field of functab.
func (t *pclntab) field(i int64) (uint64, error) {
	var b [8]byte
	if err := readFull(t.table, b[:t.width], t.functab+i*int64(t.width)); err != nil {
		return 0, fmt.Errorf("read functab: %w", err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

// Find goes through functab and the addresses side by side, both sorted. If
// functab is not, some addresses are not found, but it still ends.
func (t *pclntab) Find(addrs []profile.ObjAddr, found func(i int, s Symbol)) error {
	if len(addrs) == 0 {
		return nil
	}
	scratch := new([maxName]byte)
	next := 0 // index of the first address that is not yet dealt with
	settle := func(start, limit profile.ObjAddr, function uint64) {
		for next < len(addrs) && addrs[next] < start {
			next++
		}
		if next == len(addrs) || addrs[next] >= limit {
			return
		}
		name := t.name(function, scratch)
		for ; next < len(addrs) && addrs[next] < limit; next++ {
			if name != "" {
				found(next, Symbol{Name: name, Start: start, Limit: limit})
			}
		}
	}
	pairs := io.NewSectionReader(t.table, t.functab, t.size-t.functab)
	var start profile.ObjAddr
	var function uint64
	i, pair := int64(0), 2*t.width
	err := chunks(pairs, t.count*int64(pair), pair, func(b []byte) {
		for ; len(b) >= pair && next < len(addrs); b = b[pair:] {
			entry, offset := t.pair(b)
			if i > 0 {
				settle(start, entry, function)
			}
			start, function = entry, offset
			i++
		}
	})
	if err == nil && next < len(addrs) {
		var end uint64
		if _, end, err = t.entries(); err == nil {
			settle(start, t.text+profile.ObjAddr(end), function)
		}
	}
	if err != nil {
		return fmt.Errorf("read functab: %w", err)
	}
	return nil
}

func (t *pclntab) pair(b []byte) (entry profile.ObjAddr, function uint64) {
	if t.width == 4 {
		return t.text + profile.ObjAddr(le.Uint32(b)), uint64(le.Uint32(b[4:]))
	}
	return t.text + profile.ObjAddr(le.Uint64(b)), le.Uint64(b[8:])
}

// name reads the name of the function whose _func is at an offset.
func (t *pclntab) name(function uint64, scratch *[maxName]byte) string {
	if function > uint64(t.size) {
		return ""
	}
	var b [4]byte
	if readFull(t.table, b[:], t.functions+int64(function)+t.nameAt) != nil {
		return ""
	}
	return readName(t.table, t.names+int64(le.Uint32(b[:])), scratch)
}
