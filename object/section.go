// SPDX-License-Identifier: Apache-2.0

package object

import (
	"debug/elf"
	"io"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Section is one table of an object (gABI chapter 4, "Sections"). Its content
// stays in the file: read it with ReadAt or Reader.
type Section struct {
	Name      string
	Type      elf.SectionType
	Flags     elf.SectionFlag
	ObjAddr   profile.ObjAddr // where it lies in memory; 0 if it does not
	Size      uint64          // bytes in memory
	Offset    int64           // in the file
	FileSize  int64           // bytes that are in the file: 0 for SHT_NOBITS, less than Size if the file ends early
	Link      uint32          // index of a related section; of a symbol table's names, for one
	EntrySize uint64          // bytes of one entry; 0 unless it is a table of equal entries

	file io.ReaderAt
}

// ReadAt reads at an offset from the section's start.
func (s *Section) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= s.FileSize {
		return 0, io.EOF
	}
	if rest := s.FileSize - off; int64(len(p)) > rest {
		n, err := s.file.ReadAt(p[:rest], s.Offset+off)
		if err == nil {
			err = io.EOF
		}
		return n, err
	}
	return s.file.ReadAt(p, s.Offset+off)
}

// Reader reads the section from its start.
func (s *Section) Reader() *io.SectionReader {
	return io.NewSectionReader(s, 0, s.FileSize)
}

// Compressed says that the content is compressed (gABI, SHF_COMPRESSED); it is
// read as it is in the file.
func (s *Section) Compressed() bool { return s.Flags&elf.SHF_COMPRESSED != 0 }

// Executable says that the section is code.
func (s *Section) Executable() bool { return s.Flags&elf.SHF_EXECINSTR != 0 }

// Contains says whether a lies in the section's memory.
func (s *Section) Contains(a profile.ObjAddr) bool {
	return a >= s.ObjAddr && uint64(a-s.ObjAddr) < s.Size
}

// Sections returns all sections in the order of the file, so that indices in
// ELF tables work; empty where there are no usable section headers. The
// caller does not change them.
func (f *File) Sections() []Section { return f.sections }

// Section returns the first section of a name, nil if there is none.
func (f *File) Section(name string) *Section {
	for i := range f.sections {
		if f.sections[i].Name == name {
			return &f.sections[i]
		}
	}
	return nil
}
