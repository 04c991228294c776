// SPDX-License-Identifier: Apache-2.0

package object

import (
	"debug/elf"
	"fmt"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Segment is a part of an object that the kernel or the dynamic linker looks
// at (gABI chapter 5, "Program Header").
type Segment struct {
	Type     elf.ProgType
	Flags    elf.ProgFlag
	ObjAddr  profile.ObjAddr
	Offset   int64  // in the file
	FileSize int64  // bytes in the file
	MemSize  uint64 // bytes in memory; those beyond FileSize are zero
	Align    uint64
}

// Executable says that code may run in the segment.
func (s *Segment) Executable() bool { return s.Flags&elf.PF_X != 0 }

// holds says whether the byte at a file offset is part of the segment.
func (s *Segment) holds(off int64) bool {
	return off >= s.Offset && off-s.Offset < s.FileSize
}

// Segments returns those of type PT_LOAD: what is mapped. The caller does not
// change them.
func (f *File) Segments() []Segment { return f.segments }

// Program returns the first program header of a type: PT_GNU_EH_FRAME,
// PT_DYNAMIC and the like.
func (f *File) Program(t elf.ProgType) (Segment, bool) {
	for _, s := range f.programs {
		if s.Type == t {
			return s, true
		}
	}
	return Segment{}, false
}

// ObjAddr translates an address of a process to the object's own. The mapping
// must be one of this object and contain the address; else it returns false.
//
// The file offset connects the two: a mapping says which offset of the file
// lies at an address, and a segment which object address an offset has. The
// kernel maps whole pages, so a mapping may begin before its segment does and
// show a piece of the next one; the segment is therefore chosen by the
// address's own offset, not by where the mapping starts. That makes fixed and
// position-independent, prelinked, and split-text objects one case.
func (f *File) ObjAddr(m *profile.Mapping, a profile.Addr) (profile.ObjAddr, bool) {
	if !m.Contains(a) || m.Offset < 0 {
		return 0, false
	}
	off := m.Offset + int64(a-m.Start)
	if s := f.segmentAt(off); off >= 0 && s != nil {
		return s.ObjAddr + profile.ObjAddr(off-s.Offset), true
	}
	// Not in any segment, so between the end of one and the end of its page.
	bias, ok := f.Bias(m)
	return profile.ObjAddr(uint64(a) - bias), ok
}

// Bias is Addr − ObjAddr for all addresses of a mapping, modulo 2⁶⁴ (it may be
// negative: an object may be mapped below its own addresses). It is 0 for
// ET_EXEC. False if the mapping shows no part of any segment.
//
// Of two executable segments that share all their file pages (only tiny
// programs with sections moved by hand have such) this may take the wrong one
// for lack of an address; ObjAddr does not.
func (f *File) Bias(m *profile.Mapping) (uint64, bool) {
	if m.Offset < 0 || m.Limit <= m.Start {
		return 0, false
	}
	s := f.segmentIn(m)
	if s == nil {
		return 0, false
	}
	// Addr of file offset 0, minus ObjAddr of file offset 0.
	return (uint64(m.Start) - uint64(m.Offset)) - (uint64(s.ObjAddr) - uint64(s.Offset)), true
}

// segmentAt returns the segment that the byte at a file offset belongs to. An
// executable one wins: the last page of data and the first of code may be the
// same page of the file, mapped twice, and what we translate is code.
func (f *File) segmentAt(off int64) *Segment {
	var found *Segment
	for i := range f.segments {
		if s := &f.segments[i]; s.holds(off) {
			if s.Executable() {
				return s
			}
			if found == nil {
				found = s
			}
		}
	}
	return found
}

// segmentIn returns the segment that a mapping shows; an executable one before
// all others. One page of the file may belong to several segments, so having
// bytes in the mapping is not enough: the one whose own pages fit the mapping
// best is what the mapping was made for. For fixed objects there is no doubt:
// they are where they say.
func (f *File) segmentIn(m *profile.Mapping) *Segment {
	limit := uint64(m.Offset) + uint64(m.Limit-m.Start)
	if limit < uint64(m.Offset) {
		limit = ^uint64(0)
	}
	var found *Segment
	var least uint64
	for i := range f.segments {
		s := &f.segments[i]
		low, high := uint64(s.Offset), uint64(s.Offset)+uint64(s.FileSize)
		if high <= uint64(m.Offset) || low >= limit || s.FileSize == 0 {
			continue
		}
		if f.kind == elf.ET_EXEC && uint64(s.ObjAddr)-low != uint64(m.Start)-uint64(m.Offset) {
			continue
		}
		misfit := distance(low&^(page-1), uint64(m.Offset)) + distance((high+page-1)&^(page-1), limit)
		better := misfit < least
		if found != nil && found.Executable() != s.Executable() {
			better = s.Executable()
		}
		if found == nil || better {
			found, least = s, misfit
		}
	}
	return found
}

// page is the smallest page of amd64 and arm64, in bytes; with bigger ones all
// misfits grow alike.
const page = 4096

func distance(a, b uint64) uint64 { return max(a, b) - min(a, b) }

// ReadObj fills p with what the file has for object addresses from a on: the
// state of memory before relocation. What is not in the file is an error.
func (f *File) ReadObj(p []byte, a profile.ObjAddr) error {
	for i := range f.segments {
		s := &f.segments[i]
		if at := uint64(a - s.ObjAddr); a >= s.ObjAddr && at < uint64(s.FileSize) && uint64(len(p)) <= uint64(s.FileSize)-at {
			return readFull(f.reader, p, s.Offset+int64(at))
		}
	}
	return fmt.Errorf("read %d bytes at %v: not in any segment: %w", len(p), a, ErrFormat)
}

// ObjAddrInMemory is ObjAddr for debug files without code, whose headers do not
// say any more what lay where in the file, only in memory. It answers where
// that is enough: the one executable segment must be as long as the mapping,
// in pages, so that it is the mapping's beginning.
func (f *File) ObjAddrInMemory(m *profile.Mapping, a profile.Addr) (profile.ObjAddr, bool) {
	var code *Segment
	for i := range f.segments {
		if s := &f.segments[i]; s.Executable() {
			if code != nil {
				return 0, false
			}
			code = s
		}
	}
	if code == nil || !m.Contains(a) {
		return 0, false
	}
	start := uint64(code.ObjAddr) &^ (page - 1)
	limit := uint64(code.ObjAddr) + code.MemSize
	if limit < start || (limit-start+page-1)&^(page-1) != uint64(m.Limit-m.Start) {
		return 0, false
	}
	if f.kind == elf.ET_EXEC && uint64(m.Start) != start {
		return 0, false
	}
	return profile.ObjAddr(start + uint64(a-m.Start)), true
}
