// SPDX-License-Identifier: Apache-2.0

// Package object reads ELF files: which one it is (build ID), which parts of
// it lie in memory (segments), how addresses of a process relate to the ones
// its own tables are written in, and where each table is (sections).
//
// Files come from the processes of other people, so every byte is hostile
// until checked: wrong input gives errors, never a panic, and what is kept in
// memory is bounded (headers only: at most about 10 MB, usually 5 KB). Files
// are read with ReadAt and never mapped: a mapped file that somebody truncates
// kills its reader with SIGBUS, a read one gives an error.
//
// Only 64-bit little-endian files are understood: amd64 and arm64 have no
// others, save for the programs of their 32-bit ancestors.
package object

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// ErrFormat says that a file is not ELF, or breaks its rules (System V gABI,
// chapters 4 and 5) where this package has to rely on them.
var ErrFormat = errors.New("not a valid ELF file")

// File is one ELF file. It does not change after New, apart from Close, and is
// safe for concurrent use if its reader is (an os.File is).
type File struct {
	reader   *io.SectionReader
	closer   io.Closer // nil when the reader is somebody else's
	kind     elf.Type
	machine  elf.Machine
	entry    profile.ObjAddr
	programs []Segment // in the order of the file
	segments []Segment // those of type PT_LOAD
	sections []Section
	buildID  profile.BuildID

	goOnce  sync.Once
	goTable *GoTable
	goErr   error
}

// Open reads the headers of an open file and takes ownership of it: Close (or
// an error here) closes it. Anything but a regular file is refused, because
// reading a pipe or a device may block or have effects.
func Open(f *os.File) (*File, error) { return open(f, New) }

// OpenDebug is Open for files with debug information, which nobody runs: they
// may also be relocatable (.o, .dwo, .dwp).
func OpenDebug(f *os.File) (*File, error) { return open(f, NewDebug) }

func open(f *os.File, read func(io.ReaderAt, int64) (*File, error)) (*File, error) {
	o, err := openRegular(f, read)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open object %s: %w", f.Name(), err)
	}
	o.closer = f
	return o, nil
}

func openRegular(f *os.File, read func(io.ReaderAt, int64) (*File, error)) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file: %w", os.ErrInvalid)
	}
	return read(f, info.Size())
}

// New reads the headers of an ELF executable or shared object of size bytes:
// a file, or the image of one in memory such as the vDSO. The reader must stay
// usable as long as the File.
//
// The program headers must be right, since the kernel relied on them to run
// the file. Section headers that make no sense are treated as missing: the
// kernel never looks at them, and tools that strip or pack files break them.
func New(r io.ReaderAt, size int64) (*File, error) {
	f, err := NewDebug(r, size)
	if err == nil && f.kind == elf.ET_REL {
		return nil, fmt.Errorf("type %v is not executable: %w", f.kind, ErrFormat)
	}
	return f, err
}

// NewDebug is New for what OpenDebug opens.
func NewDebug(r io.ReaderAt, size int64) (*File, error) {
	if size < 0 {
		return nil, fmt.Errorf("size %d: %w", size, ErrFormat)
	}
	f := &File{reader: io.NewSectionReader(r, 0, size)}
	h, err := f.readHeader()
	if err != nil {
		return nil, err
	}
	if err := f.readPrograms(h); err != nil {
		return nil, err
	}
	f.readSections(h)
	f.buildID, err = f.findBuildID()
	if err != nil {
		return nil, fmt.Errorf("read build ID: %w", err)
	}
	return f, nil
}

// Close closes the file given to Open. A File from New has nothing to close.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Type is ET_EXEC (linked for fixed addresses) or ET_DYN (shared objects and
// position-independent executables).
func (f *File) Type() elf.Type { return f.kind }

// Machine is the architecture of the code.
func (f *File) Machine() elf.Machine { return f.machine }

// Entry is where execution starts; 0 where it does not, as in most libraries.
func (f *File) Entry() profile.ObjAddr { return f.entry }

// BuildID names the file's content, see [profile.BuildID].
func (f *File) BuildID() profile.BuildID { return f.buildID }

// Size of the file in bytes.
func (f *File) Size() int64 { return f.reader.Size() }

// ReadAt reads at a file offset; it makes File an io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return f.reader.ReadAt(p, off) }
