// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/carverauto/serviceradar-profiler/object"
)

var le = binary.LittleEndian

// source is one place with call frame information.
type source struct {
	name  string
	debug bool   // in the form of .debug_frame
	addr  uint64 // object address of its first byte
	size  int64  // bytes, uncompressed
	// A zero length ends the source once so many functions were read: with no
	// section to say where the source ends, only .eh_frame_hdr knows how many
	// there are. In a section it ends nothing: ld -r leaves such in the middle.
	functions int
	open      func() (io.Reader, error)
	text, got uint64 // what textrel and datarel count from; 0 if unknown
}

// findSources returns where call frame information is: sections named
// .eh_frame; without one, what PT_GNU_EH_FRAME leads to; and .debug_frame, for
// code that was built without the first. What .eh_frame says comes first.
func findSources(f *object.File) []source {
	var found []source
	for i := range f.Sections() {
		s := &f.Sections()[i]
		if s.Name == ".eh_frame" && s.FileSize > 0 && s.Type != elf.SHT_NOBITS && len(found) < maxSources {
			found = append(found, sectionSource(s))
		}
	}
	if len(found) == 0 {
		if s, ok := headerSource(f); ok {
			found = append(found, s)
		}
	}
	// Go's describes where SP is but not BP, which mixed stacks need; its code
	// keeps frame pointers instead.
	if s := f.Section(".debug_frame"); s != nil && s.FileSize > 0 && !isGo(f) {
		d := sectionSource(s)
		d.debug = true
		if s.Compressed() {
			d = inflate(d, s)
		}
		if d.open != nil {
			found = append(found, d)
		}
	}
	for i := range found {
		if s := f.Section(".text"); s != nil {
			found[i].text = uint64(s.ObjAddr)
		}
		if s := f.Section(".got.plt"); s != nil {
			found[i].got = uint64(s.ObjAddr)
		} else if s := f.Section(".got"); s != nil {
			found[i].got = uint64(s.ObjAddr)
		}
	}
	return found
}

func sectionSource(s *object.Section) source {
	return source{
		name: s.Name, addr: uint64(s.ObjAddr), size: s.FileSize, functions: math.MaxInt,
		open: func() (io.Reader, error) { return s.Reader(), nil },
	}
}

// inflate reads a compressed section (gABI, "Section Compression": type,
// reserved, size, alignment, then a zlib stream).
func inflate(d source, s *object.Section) source {
	var h [24]byte
	if n, _ := s.ReadAt(h[:], 0); n < len(h) || elf.CompressionType(le.Uint32(h[:])) != elf.COMPRESS_ZLIB {
		d.open = nil
		return d
	}
	d.size = int64(min(le.Uint64(h[8:]), math.MaxInt64))
	d.open = func() (io.Reader, error) {
		r, err := zlib.NewReader(io.NewSectionReader(s, int64(len(h)), s.FileSize-int64(len(h))))
		if err != nil {
			return nil, errors.Join(object.ErrFormat, err)
		}
		return r, nil
	}
	return d
}

// headerSource finds .eh_frame in a file without section headers through
// .eh_frame_hdr (LSB Core section 10.6.2): version, three encodings, a pointer
// to .eh_frame, and how many functions there are.
func headerSource(f *object.File) (source, bool) {
	p, ok := f.Program(elf.PT_GNU_EH_FRAME)
	var b [20]byte
	if !ok || f.ReadObj(b[:], p.ObjAddr) != nil || b[0] != 1 {
		return source{}, false
	}
	header := source{addr: uint64(p.ObjAddr), got: uint64(p.ObjAddr)} // datarel counts from the header here
	c := object.Cursor{B: b[:], Pos: 4}
	at, ok := header.pointer(&c, b[1], 0, 0)
	if !ok || c.Bad {
		return source{}, false
	}
	functions, ok := uint64(0), true
	if b[2] != encodingOmit {
		functions, ok = header.pointer(&c, b[2], 0, 0)
	}
	if !ok || c.Bad {
		functions = 0
	}
	for i := range f.Segments() {
		s := &f.Segments()[i]
		if off := at - uint64(s.ObjAddr); at >= uint64(s.ObjAddr) && off < uint64(s.FileSize) {
			size := s.FileSize - int64(off)
			return source{
				name: "PT_GNU_EH_FRAME", addr: at, size: size, functions: int(min(functions, math.MaxInt32)),
				open: func() (io.Reader, error) { return io.NewSectionReader(f, s.Offset+int64(off), size), nil },
			}, true
		}
	}
	return source{}, false
}

// Pointer encodings (LSB Core section 10.5.1, "DWARF Exception Header
// Encoding"): low four bits the form, the next three what it counts from, the
// highest that the pointer's target holds the value.
const (
	encodingAbsolute = 0x00
	encodingULEB     = 0x01
	encodingU2       = 0x02
	encodingU4       = 0x03
	encodingU8       = 0x04
	encodingSLEB     = 0x09
	encodingS2       = 0x0a
	encodingS4       = 0x0b
	encodingS8       = 0x0c

	encodingPC       = 0x10
	encodingText     = 0x20
	encodingData     = 0x30
	encodingFunction = 0x40
	encodingAligned  = 0x50
	encodingIndirect = 0x80
	encodingOmit     = 0xff
)

// pointer reads an encoded pointer. start is the offset in the source of the
// cursor's first byte; function is what funcrel counts from. False if the
// value cannot be known from the file, or the encoding does not exist.
func (s *source) pointer(c *object.Cursor, encoding uint8, start int64, function uint64) (uint64, bool) {
	here := s.addr + uint64(start) + uint64(c.Pos)
	var base uint64
	switch encoding & 0x70 {
	case 0:
	case encodingPC:
		base = here
	case encodingText:
		base = s.text
	case encodingData:
		base = s.got
	case encodingFunction:
		base = function
	case encodingAligned:
		c.Take(-here & 7)
	default:
		return 0, false
	}
	var v uint64
	switch encoding & 0x0f {
	case encodingAbsolute, encodingU8, encodingS8:
		v = c.U64()
	case encodingULEB:
		v = c.ULEB()
	case encodingU2:
		v = uint64(c.U16())
	case encodingU4:
		v = uint64(c.U32())
	case encodingSLEB:
		v = uint64(c.SLEB())
	case encodingS2:
		v = uint64(int16(c.U16()))
	case encodingS4:
		v = uint64(int32(c.U32()))
	default:
		return 0, false
	}
	return base + v, encoding&encodingIndirect == 0
}
