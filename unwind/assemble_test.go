// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"debug/elf"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
)

// A tiny assembler of call frame information and of the object around it, so
// that a test says field by field what it is about.

// bytecode is a sequence of fields.
type bytecode []byte

func (b bytecode) u8(v ...uint8) bytecode { return append(b, v...) }
func (b bytecode) u32(v uint32) bytecode  { return le.AppendUint32(b, v) }
func (b bytecode) u64(v uint64) bytecode  { return le.AppendUint64(b, v) }
func (b bytecode) text(s string) bytecode { return append(append(b, s...), 0) }
func (b bytecode) join(o []byte) bytecode { return append(b, o...) }
func (b bytecode) uleb(v uint64) bytecode {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, uint8(v)|0x80)
	}
	return append(b, uint8(v))
}

func (b bytecode) sleb(v int64) bytecode {
	for ; v < -64 || v > 63; v >>= 7 {
		b = append(b, uint8(v)|0x80)
	}
	return append(b, uint8(v)&0x7f)
}

// Instructions by the names that assemblers have for them.
func (b bytecode) advance(n uint8) bytecode { return b.u8(opAdvanceLoc | n) }
func (b bytecode) defCFA(reg, off uint64) bytecode {
	return b.u8(opDefCFA).uleb(reg).uleb(off)
}
func (b bytecode) cfaOffset(off uint64) bytecode   { return b.u8(opDefCFAOffset).uleb(off) }
func (b bytecode) cfaRegister(reg uint64) bytecode { return b.u8(opDefCFARegister).uleb(reg) }
func (b bytecode) saved(reg uint8, words uint64) bytecode {
	return b.u8(opOffset | reg).uleb(words)
}
func (b bytecode) expression(op uint8, reg int, e ...byte) bytecode {
	b = b.u8(op)
	if reg >= 0 {
		b = b.uleb(uint64(reg))
	}
	return b.uleb(uint64(len(e))).join(e)
}

// section assembles .eh_frame (or .debug_frame) at an object address.
type section struct {
	b     bytecode
	addr  uint64
	debug bool
	wide  bool // 64-bit format
}

// record appends a length and the content, and returns its offset.
func (s *section) record(content bytecode) int {
	at := len(s.b)
	for (len(content)+4)%8 != 0 && !s.wide {
		content = content.u8(opNop)
	}
	if s.wide {
		s.b = s.b.u32(0xffffffff).u64(uint64(len(content)))
	} else {
		s.b = s.b.u32(uint32(len(content)))
	}
	s.b = s.b.join(content)
	return at
}

func (s *section) id(cie bool, at int) bytecode {
	v := uint64(at)
	head := 4
	if s.wide {
		head = 12
	}
	switch {
	case s.debug && cie:
		v = ^uint64(0)
	case !s.debug && !cie:
		v = uint64(len(s.b) + head - at)
	case cie:
		v = 0
	}
	if s.debug && s.wide {
		return bytecode{}.u64(v)
	}
	return bytecode{}.u32(uint32(v))
}

// cie appends a CIE of amd64: RA at CFA − 8, CFA at SP + 8, unless the
// instructions say otherwise.
func (s *section) cie(augmentation string, data []byte, more bytecode) int {
	c := s.id(true, 0).u8(1).text(augmentation).uleb(1).sleb(-8).u8(16)
	if augmentation != "" && augmentation[0] == 'z' {
		c = c.uleb(uint64(len(data))).join(data)
	}
	return s.record(c.defCFA(7, 8).saved(16, 1).join(more))
}

// fde appends an FDE whose addresses are pcrel sdata4.
func (s *section) fde(cie int, start, size uint64, code bytecode) {
	c := s.id(false, cie)
	head := 4
	if s.wide {
		head = 12
	}
	here := s.addr + uint64(len(s.b)+head+len(c))
	s.record(c.u32(uint32(start - here)).u32(uint32(size)).uleb(0).join(code))
}

const (
	textAddr  = 0x1000
	textSize  = 0x1000
	frameAddr = 0x2000
)

type part struct {
	name  string
	addr  uint64
	code  bool
	flags elf.SectionFlag
	b     []byte
}

// build makes an object with one executable segment at textAddr and the given
// sections, which follow each other in the file.
func build(t testing.TB, machine elf.Machine, parts ...part) *object.File {
	t.Helper()
	const header, program, entry = 64, 56, 64
	b := make([]byte, textAddr, 2*textAddr)
	copy(b, elf.ELFMAG+"\x02\x01\x01")
	le.PutUint16(b[16:], uint16(elf.ET_DYN))
	le.PutUint16(b[18:], uint16(machine))
	le.PutUint64(b[32:], header)
	le.PutUint16(b[54:], program)
	le.PutUint16(b[56:], 1)
	le.PutUint16(b[58:], entry)
	le.PutUint16(b[60:], uint16(len(parts)+2))
	le.PutUint16(b[62:], uint16(len(parts)+1))
	p := b[header:]
	le.PutUint32(p, uint32(elf.PT_LOAD))
	le.PutUint32(p[4:], uint32(elf.PF_X|elf.PF_R))
	for i, v := range []uint64{textAddr, textAddr, textAddr, textSize, textSize, textAddr} {
		le.PutUint64(p[8+8*i:], v)
	}
	b = append(b, make([]byte, textSize)...)
	names := []byte{0}
	headers := make([]byte, entry)
	add := func(name string, kind elf.SectionType, flags elf.SectionFlag, addr uint64, content []byte) {
		h := make([]byte, entry)
		le.PutUint32(h, uint32(len(names)))
		names = append(append(names, name...), 0)
		le.PutUint32(h[4:], uint32(kind))
		le.PutUint64(h[8:], uint64(flags))
		le.PutUint64(h[16:], addr)
		le.PutUint64(h[24:], uint64(len(b)))
		le.PutUint64(h[32:], uint64(len(content)))
		b = append(b, content...)
		headers = append(headers, h...)
	}
	for _, p := range parts {
		flags := p.flags
		if p.code {
			flags |= elf.SHF_EXECINSTR
			if p.addr >= textAddr && p.addr < textAddr+textSize { // where the segment is in the file
				copy(b[p.addr:textAddr+textSize], p.b)
			}
		}
		add(p.name, elf.SHT_PROGBITS, flags, p.addr, p.b)
	}
	add(".names", elf.SHT_STRTAB, 0, 0, append(bytes.Clone(names), ".names\x00"...))
	le.PutUint64(b[40:], uint64(len(b)))
	b = append(b, headers...)
	o, err := object.New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func ehFrame(s *section) part { return part{name: ".eh_frame", addr: s.addr, b: s.b} }
