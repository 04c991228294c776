// SPDX-License-Identifier: Apache-2.0

package object

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Two things about a Go program are in no header: where its pclntab is, and
// where runtime.text is, from which the table's entries count.
//
// The table has a section of its own, .gopclntab, unless the system's linker
// made a position-independent program of it before Go 1.26: then it is
// somewhere in .data.rel.ro, and is found by its first eight bytes.
//
// runtime.text is not the start of .text when C code was linked in. Up to Go
// 1.25 the table's header has it, but as a pointer, and pointers in
// position-independent programs may be written by relocations only. Go 1.26
// removed it. What every version has is runtime.moduledata, the linker's
// summary for the runtime. It is found by its first word, a pointer to the
// pclntab; and recognized by saying of the functions what the table says:
// minpc and maxpc are where the first begins and the last ends, counted from
// text. The runtime checks the same when it starts (moduledataverify1), so
// this holds as long as Go has the table. A name is only ever given on that
// proof; without, there is an error, and .symtab has to do.

// Offsets of fields of runtime.moduledata, the same from Go 1.16 to 1.26:
// pcHeader, five slices of tables, ftab, findfunctab, minpc, maxpc, text.
const (
	moduleMinPC = pointerSize * (1 + 3*5 + 3 + 1)
	moduleMaxPC = moduleMinPC + pointerSize
	moduleText  = moduleMaxPC + pointerSize
)

// moduleWords is how many words are read from text on. gofunc is the 17th in Go
// 1.18 and the 19th since 1.20.
const moduleWords = 24

// maxModules bounds the places that look like a moduledata at first sight.
const maxModules = 16

var ErrNoGoText = errors.New("cannot find where Go's code begins")

// GoTable returns the Go function table; nil without an error if the object is
// not Go's.
func (f *File) GoTable() (*GoTable, error) {
	f.goOnce.Do(func() { f.goTable, f.goErr = f.openGoTable() })
	return f.goTable, f.goErr
}

func (f *File) openGoTable() (*GoTable, error) {
	t, at, err := findGoTable(f)
	if t == nil || err != nil {
		return nil, err
	}
	if err := t.Locate(f, at); err != nil {
		return nil, fmt.Errorf("read Go's function table: %w", err)
	}
	return t, nil
}

// findGoTable also returns where the table is in memory.
func findGoTable(f *File) (*GoTable, profile.ObjAddr, error) {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		if s := f.Section(name); s != nil {
			t, err := ParseGoTable(s, s.FileSize)
			if err != nil {
				return nil, 0, fmt.Errorf("read %s: %w", name, err)
			}
			return t, s.ObjAddr, nil
		}
	}
	if f.Section(".go.buildinfo") == nil && f.Section(".note.go.buildid") == nil {
		return nil, 0, nil
	}
	for _, name := range []string{".data.rel.ro", ".rodata"} {
		if s := f.Section(name); s != nil {
			if t, off := searchGoTable(s); t != nil {
				return t, s.ObjAddr + profile.ObjAddr(off), nil
			}
		}
	}
	return nil, 0, nil
}

// searchGoTable looks for the table inside of a section.
func searchGoTable(s *Section) (found *GoTable, at int64) {
	var off int64
	tries := 0
	Chunks(s, s.FileSize, pointerSize, func(b []byte) {
		for ; len(b) >= pointerSize && found == nil && tries < maxModules; b, off = b[pointerSize:], off+pointerSize {
			if isGoTable(b) {
				tries++
				if t, err := ParseGoTable(io.NewSectionReader(s, off, s.FileSize-off), s.FileSize-off); err == nil {
					found, at = t, off
				}
			}
		}
	})
	return found, at
}

// Locate finds runtime.text, given where the table is in memory.
func (t *GoTable) Locate(f *File, at profile.ObjAddr) error {
	t.at = at
	first, end, err := t.Entries()
	if err != nil {
		return err
	}
	if !t.Relative {
		if !isCode(f, profile.ObjAddr(first), profile.ObjAddr(end)) {
			// A position-independent program of Go 1.17 or older, whose entries
			// are all written by relocations.
			return ErrNoGoText
		}
		return nil
	}
	if t.fits(f, t.text, first, end) {
		t.Text = profile.ObjAddr(t.text)
		return nil
	}
	words, err := t.module(f, first, end)
	if err != nil {
		return err
	}
	t.Text = profile.ObjAddr(words[0])
	return nil
}

// fits says whether the table's functions are code if text is where they begin.
func (t *GoTable) fits(f *File, text, first, end uint64) bool {
	return text != 0 && isCode(f, profile.ObjAddr(text+first), profile.ObjAddr(text+end))
}

// GoModule returns words of runtime.moduledata, text the first of them, as they
// are while the program runs. What the others are depends on the version; one
// is gofunc, the address that offsets of funcdata count from. Nil without an
// error before Go 1.18, which has pointers there.
func (f *File) GoModule() ([]profile.ObjAddr, error) {
	t, err := f.GoTable()
	if t == nil || err != nil || !t.Relative {
		return nil, err
	}
	first, end, err := t.Entries()
	if err != nil {
		return nil, err
	}
	words, err := t.module(f, first, end)
	if err != nil {
		return nil, fmt.Errorf("find Go's moduledata: %w", err)
	}
	return words, nil
}

// module finds moduledata and returns its words from text on.
func (t *GoTable) module(f *File, first, end uint64) ([]profile.ObjAddr, error) {
	candidates, err := moduleCandidates(f, t.at)
	if err != nil {
		return nil, err
	}
	words := map[profile.ObjAddr]uint64{}
	for _, m := range candidates {
		for i := range profile.ObjAddr(moduleWords + 2) {
			at := m + moduleMinPC + i*pointerSize
			words[at] = wordAt(f, at)
		}
	}
	err = eachRelative(f, func(where profile.ObjAddr, value uint64) {
		if _, wanted := words[where]; wanted {
			words[where] = value
		}
	})
	if err != nil {
		return nil, err
	}
	for _, m := range candidates {
		text := words[m+moduleText]
		if t.fits(f, text, first, end) && words[m+moduleMinPC] == text+first && words[m+moduleMaxPC] == text+end {
			found := make([]profile.ObjAddr, moduleWords)
			for i := range found {
				found[i] = profile.ObjAddr(words[m+moduleText+profile.ObjAddr(i*pointerSize)])
			}
			return found, nil
		}
	}
	return nil, ErrNoGoText
}

// isCode says whether [start, limit) is part of one executable segment.
func isCode(f *File, start, limit profile.ObjAddr) bool {
	for _, s := range f.Segments() {
		if s.Executable() && start < limit && start >= s.ObjAddr && uint64(limit-s.ObjAddr) <= uint64(s.FileSize) {
			return true
		}
	}
	return false
}

// moduleCandidates returns the addresses of pointers to the table: one is the
// first word of moduledata. Go 1.26 has a section for it; before, it is among
// other data.
func moduleCandidates(f *File, table profile.ObjAddr) ([]profile.ObjAddr, error) {
	if s := f.Section(".go.module"); s != nil {
		return []profile.ObjAddr{s.ObjAddr}, nil
	}
	var found []profile.ObjAddr
	add := func(a profile.ObjAddr) {
		if len(found) < maxModules {
			found = append(found, a)
		}
	}
	for _, name := range []string{".noptrdata", ".data", ".data.rel.ro"} {
		s := f.Section(name)
		if s == nil {
			continue
		}
		at := s.ObjAddr
		err := Chunks(s, s.FileSize, pointerSize, func(b []byte) {
			for ; len(b) >= pointerSize; b, at = b[pointerSize:], at+pointerSize {
				if le.Uint64(b) == uint64(table) {
					add(at)
				}
			}
		})
		if err != nil {
			return nil, fmt.Errorf("search %s: %w", name, err)
		}
	}
	err := eachRelative(f, func(where profile.ObjAddr, value uint64) {
		if value == uint64(table) {
			add(where)
		}
	})
	return found, err
}

func wordAt(f *File, a profile.ObjAddr) uint64 {
	var b [pointerSize]byte
	if f.ReadObj(b[:], a) != nil {
		return 0
	}
	return le.Uint64(b[:])
}

// eachRelative yields the words that the dynamic linker writes knowing nothing
// but the load bias: where, and the object address that will be there. (The
// packed form of the same, SHT_RELR, keeps the value in the word itself.)
func eachRelative(f *File, each func(where profile.ObjAddr, value uint64)) error {
	relative := uint32(elf.R_X86_64_RELATIVE)
	if f.Machine() == elf.EM_AARCH64 {
		relative = uint32(elf.R_AARCH64_RELATIVE)
	}
	for i := range f.Sections() {
		r := &f.Sections()[i]
		if r.Type != elf.SHT_RELA || r.Flags&elf.SHF_ALLOC == 0 || r.EntrySize != relaSize {
			continue
		}
		err := Chunks(r, r.FileSize, relaSize, func(b []byte) {
			for ; len(b) >= relaSize; b = b[relaSize:] {
				if le.Uint32(b[8:]) == relative {
					each(profile.ObjAddr(le.Uint64(b)), le.Uint64(b[16:]))
				}
			}
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", r.Name, err)
		}
	}
	return nil
}

// relaSize is the size of Elf64_Rela (gABI chapter 4, "Relocation").
const relaSize = 24
