// SPDX-License-Identifier: Apache-2.0

package object

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// The headers are decoded here and not by debug/elf: that package says it is
// not hardened against adversarial input, and it builds a few hundred bytes a
// section however many the file claims to have.

const (
	headerSize  = 64 // Elf64_Ehdr
	programSize = 56 // Elf64_Phdr
	sectionSize = 64 // Elf64_Shdr

	// The kernel refuses to run files with more than 64 KiB of program headers.
	maxPrograms = 65536 / programSize
	// Linked files have fewer than 100 sections, relocatable ones many. This bounds the memory for them to 6 MB.
	maxSections = 1 << 16
	// All section names together; a few hundred bytes in practice.
	maxSectionNames = 1 << 20
)

var le = binary.LittleEndian

// header is what is needed of Elf64_Ehdr (gABI chapter 4, "ELF Header").
type header struct {
	phoff, shoff             uint64
	phentsize, shentsize     uint16
	phnum, shnum, namesIndex uint16
}

func (f *File) readHeader() (header, error) {
	var b [headerSize]byte
	if err := readFull(f.reader, b[:], 0); err != nil {
		return header{}, fmt.Errorf("read ELF header: %w", err)
	}
	if string(b[:4]) != elf.ELFMAG {
		return header{}, fmt.Errorf("magic number % x: %w", b[:4], ErrFormat)
	}
	if c, d := elf.Class(b[elf.EI_CLASS]), elf.Data(b[elf.EI_DATA]); c != elf.ELFCLASS64 || d != elf.ELFDATA2LSB {
		return header{}, fmt.Errorf("%v %v: %w", c, d, errors.ErrUnsupported)
	}
	f.kind = elf.Type(le.Uint16(b[16:]))
	f.machine = elf.Machine(le.Uint16(b[18:]))
	f.entry = profile.ObjAddr(le.Uint64(b[24:]))
	if f.kind != elf.ET_EXEC && f.kind != elf.ET_DYN && f.kind != elf.ET_REL {
		return header{}, fmt.Errorf("type %v is not executable: %w", f.kind, ErrFormat)
	}
	return header{
		phoff: le.Uint64(b[32:]), shoff: le.Uint64(b[40:]),
		phentsize: le.Uint16(b[54:]), phnum: le.Uint16(b[56:]),
		shentsize: le.Uint16(b[58:]), shnum: le.Uint16(b[60:]), namesIndex: le.Uint16(b[62:]),
	}, nil
}

func (f *File) readPrograms(h header) error {
	n := int(h.phnum)
	if n == 0 {
		return nil // nothing of it was ever mapped by its headers, but it may have tables
	}
	if n > maxPrograms || h.phentsize != programSize || h.phoff > math.MaxInt64 {
		return fmt.Errorf("%d program headers of %d bytes: %w", n, h.phentsize, ErrFormat)
	}
	b := make([]byte, n*programSize)
	if err := readFull(f.reader, b, int64(h.phoff)); err != nil {
		return fmt.Errorf("read program headers: %w", err)
	}
	for ; len(b) > 0; b = b[programSize:] {
		s := Segment{
			Type:    elf.ProgType(le.Uint32(b)),
			Flags:   elf.ProgFlag(le.Uint32(b[4:])),
			ObjAddr: profile.ObjAddr(le.Uint64(b[16:])),
			MemSize: le.Uint64(b[40:]),
			Align:   le.Uint64(b[48:]),
		}
		off, size := le.Uint64(b[8:]), le.Uint64(b[32:])
		if off > math.MaxInt64 || size > math.MaxInt64-off {
			if s.Type == elf.PT_LOAD {
				return fmt.Errorf("segment at offset %#x of %#x bytes: %w", off, size, ErrFormat)
			}
			continue
		}
		s.Offset, s.FileSize = int64(off), int64(size)
		f.programs = append(f.programs, s)
		if s.Type == elf.PT_LOAD {
			f.segments = append(f.segments, s)
		}
	}
	return nil
}

func (f *File) readSections(h header) {
	if h.shoff == 0 || h.shoff > math.MaxInt64-sectionSize || h.shentsize != sectionSize {
		return
	}
	// Section 0 is never a section; where the header's 16 bits are too few, it
	// has their numbers (gABI, "Extended Section Header").
	var zero [sectionSize]byte
	if readFull(f.reader, zero[:], int64(h.shoff)) != nil {
		return
	}
	n, names := uint64(h.shnum), uint32(h.namesIndex)
	if n == 0 {
		n = le.Uint64(zero[32:])
	}
	if names == uint32(elf.SHN_XINDEX) {
		names = le.Uint32(zero[40:])
	}
	if n == 0 || n > maxSections {
		return
	}
	b := make([]byte, n*sectionSize)
	if readFull(f.reader, b, int64(h.shoff)) != nil {
		return
	}
	sections := make([]Section, 0, n)
	nameAt := make([]uint32, 0, n)
	for ; len(b) > 0; b = b[sectionSize:] {
		sections = append(sections, f.section(b))
		nameAt = append(nameAt, le.Uint32(b))
	}
	f.sections = sections
	if int64(names) < int64(n) {
		nameSections(sections, nameAt, &sections[names])
	}
}

func (f *File) section(b []byte) Section {
	s := Section{
		Type:      elf.SectionType(le.Uint32(b[4:])),
		Flags:     elf.SectionFlag(le.Uint64(b[8:])),
		ObjAddr:   profile.ObjAddr(le.Uint64(b[16:])),
		Size:      le.Uint64(b[32:]),
		Link:      le.Uint32(b[40:]),
		EntrySize: le.Uint64(b[56:]),
		file:      f.reader,
	}
	// What is not in the file reads as empty; what reaches beyond it, up to its end.
	off := le.Uint64(b[24:])
	if size := uint64(f.reader.Size()); s.Type != elf.SHT_NOBITS && s.Type != elf.SHT_NULL && off < size {
		s.Offset, s.FileSize = int64(off), int64(min(s.Size, size-off))
	}
	return s
}

func nameSections(sections []Section, nameAt []uint32, table *Section) {
	if table.FileSize > maxSectionNames {
		return
	}
	b := make([]byte, table.FileSize)
	if readFull(table, b, 0) != nil {
		return
	}
	// The names share one string: a million sections with the same long name
	// cost no more than one.
	all := string(b)
	end := nextZeros(all)
	for i := range sections {
		if at := nameAt[i]; int64(at) < int64(len(all)) {
			sections[i].Name = all[at:end(at)]
		}
	}
}

// nextZeros returns a function that finds the end of the string that starts at
// a position, in constant time: hostile names overlap, so that looking for
// each end would take names × length.
func nextZeros(s string) func(at uint32) uint32 {
	end := make([]uint32, len(s))
	next := uint32(len(s))
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == 0 {
			next = uint32(i)
		}
		end[i] = next
	}
	return func(at uint32) uint32 { return end[at] }
}

// readFull fills p from off, or says why not. A file that ends early is
// malformed, not at its end.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("file ends early: %w", ErrFormat)
	}
	return err
}
