// SPDX-License-Identifier: Apache-2.0

package object

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Where the debug information of an object lies that has none itself: other
// files, named in sections that strip, objcopy and dwz leave behind (GDB
// manual, "Separate Debug Files"; DWARF 5, section 7.3.6, has the same idea as
// supplementary files).

// DebugLink names the object's debug file, see [File.DebugLink].
type DebugLink struct {
	Name string // of the file alone, no folders in it
	CRC  uint32 // of the whole file, as [File.CRC] counts
}

// AltLink names the file that several debug files share, see [File.AltLink].
type AltLink struct {
	Path    string // absolute, or from the folder of the file that has the link
	BuildID profile.BuildID
}

// maxLink bounds a link section, in bytes: a path of PATH_MAX, and what follows.
const maxLink = 4096 + 4 + maxGNUID

// DebugLink is what .gnu_debuglink says; the zero value if there is none.
func (f *File) DebugLink() (DebugLink, error) {
	b, err := f.link(".gnu_debuglink")
	if b == nil || err != nil {
		return DebugLink{}, err
	}
	return parseDebugLink(b)
}

// AltLink is what .gnu_debugaltlink says; the zero value if there is none.
func (f *File) AltLink() (AltLink, error) {
	b, err := f.link(".gnu_debugaltlink")
	if b == nil || err != nil {
		return AltLink{}, err
	}
	return parseAltLink(b)
}

// link reads a section with a link; nil if there is none.
func (f *File) link(name string) ([]byte, error) {
	s := f.Section(name)
	if s == nil {
		return nil, nil
	}
	if s.FileSize > maxLink || s.Compressed() {
		return nil, fmt.Errorf("%s of %d bytes: %w", name, s.FileSize, ErrFormat)
	}
	b := make([]byte, s.FileSize)
	if err := readFull(s, b, 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// parseDebugLink: a name, zeros up to a multiple of four, a checksum.
func parseDebugLink(b []byte) (DebugLink, error) {
	name, _, ok := bytes.Cut(b, []byte{0})
	at := int(padded(uint64(len(name)+1), 4))
	if !ok || len(b) < at+4 {
		return DebugLink{}, fmt.Errorf(".gnu_debuglink without a checksum: %w", ErrFormat)
	}
	l := DebugLink{string(name), le.Uint32(b[at:])}
	// A stranger wrote it: it must not choose the folder.
	if l.Name == "" || l.Name == "." || l.Name == ".." || strings.Contains(l.Name, "/") {
		return DebugLink{}, fmt.Errorf(".gnu_debuglink %.40q is not the name of a file: %w", l.Name, ErrFormat)
	}
	return l, nil
}

// parseAltLink: a path, a zero, a build ID.
func parseAltLink(b []byte) (AltLink, error) {
	path, id, ok := bytes.Cut(b, []byte{0})
	if !ok || len(path) == 0 || len(id) == 0 || len(id) > maxGNUID {
		return AltLink{}, fmt.Errorf(".gnu_debugaltlink without a path or build ID: %w", ErrFormat)
	}
	return AltLink{string(path), profile.BuildID(hex.EncodeToString(id))}, nil
}

// maxChecked bounds how much CRC reads, in bytes. It is some seconds; debug
// files without a build ID, which are the only ones that need it, are old or small.
const maxChecked = 1 << 30

// CRC is the checksum that .gnu_debuglink has of the file it names. It reads
// all of the file.
func (f *File) CRC() (uint32, error) {
	if f.Size() > maxChecked {
		return 0, fmt.Errorf("%d bytes are too many to check", f.Size())
	}
	h := crc32.NewIEEE()
	n, err := io.Copy(h, io.NewSectionReader(f.reader, 0, f.Size()))
	if err == nil && n < f.Size() {
		err = fmt.Errorf("file ends early: %w", ErrFormat)
	}
	return h.Sum32(), err
}

// MaxMiniDebug bounds mini debug information when it is decompressed, in
// bytes: that of libraries has some 100 KB, that of a browser 10 MB.
const MaxMiniDebug = 32 << 20

// MiniDebug decompresses .gnu_debugdata, the symbol table that Fedora and its
// like leave in stripped files (GDB manual, "Debugging information in a special
// section"): an ELF file by itself. It is nil if there is none. All of it is in
// memory, so keep it no longer than needed.
func (f *File) MiniDebug() (*File, error) {
	s := f.Section(".gnu_debugdata")
	if s == nil || s.FileSize == 0 {
		return nil, nil
	}
	b, err := unxz(s, s.FileSize, MaxMiniDebug)
	if err != nil {
		return nil, fmt.Errorf("decompress .gnu_debugdata: %w", err)
	}
	mini, err := New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, fmt.Errorf(".gnu_debugdata: %w", err)
	}
	return mini, nil
}
