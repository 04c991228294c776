// SPDX-License-Identifier: Apache-2.0

package object

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"

	"github.com/carverauto/serviceradar-profiler/profile"
)

const (
	noteGNUBuildID = 3 // NT_GNU_BUILD_ID, of owner "GNU"
	noteGoBuildID  = 4 // ELF_NOTE_GOBUILDID_TAG, of owner "Go" (cmd/link/internal/ld/elf.go)

	maxNotes   = 64 << 10 // bytes of one note segment; a few hundred in practice
	maxGNUID   = 64       // bytes: linkers make 8 to 20, --build-id=0x… may be longer
	maxGoID    = 256      // bytes: four hashes of 20 characters and slashes
	hashedEdge = 4096     // bytes hashed at either end of a file without an ID
)

// findBuildID looks in the notes of segments, which survive stripping, then in
// those of sections, which debug files have instead.
func (f *File) findBuildID() (profile.BuildID, error) {
	var goID profile.BuildID
	look := func(off, size int64, align uint64) profile.BuildID {
		gnu, goes := f.noteIDs(off, size, align)
		if goID == "" {
			goID = goes
		}
		return gnu
	}
	for i, n := 0, 0; i < len(f.programs) && n < maxNotePlaces; i++ {
		if p := &f.programs[i]; p.Type == elf.PT_NOTE {
			n++
			if id := look(p.Offset, p.FileSize, p.Align); id != "" {
				return id, nil
			}
		}
	}
	for i, n := 0, 0; i < len(f.sections) && n < maxNotePlaces; i++ {
		if s := &f.sections[i]; s.Type == elf.SHT_NOTE {
			n++
			if id := look(s.Offset, s.FileSize, 4); id != "" {
				return id, nil
			}
		}
	}
	if goID != "" {
		return goID, nil
	}
	return f.hashID()
}

// maxNotePlaces bounds how many segments, and sections, are searched: real
// files have up to about five.
const maxNotePlaces = 32

// noteIDs reads one sequence of notes.
func (f *File) noteIDs(off, size int64, align uint64) (gnu, goID profile.BuildID) {
	b := make([]byte, min(size, maxNotes, max(0, f.reader.Size()-off)))
	if readFull(f.reader, b, off) != nil {
		return "", ""
	}
	return idsOf(b, align)
}

// NotesBuildID is the GNU build ID among notes that are in no file, such as the
// running kernel's in /sys/kernel/notes; "" if it is not.
func NotesBuildID(notes []byte) profile.BuildID {
	id, _ := idsOf(notes, 4)
	return id
}

// idsOf goes through notes (gABI chapter 5, "Note Section"): sizes of name and
// descriptor, a type, then both padded. Padding is to 4 bytes; in segments
// aligned to 8 (.note.gnu.property) descriptors are padded to 8.
func idsOf(b []byte, align uint64) (gnu, goID profile.BuildID) {
	if align != 8 {
		align = 4
	}
	for len(b) >= 12 {
		nameSize, descSize, kind := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
		desc := padded(12+nameSize, align)
		if desc > uint64(len(b)) || descSize > uint64(len(b))-desc {
			return gnu, goID
		}
		content := b[desc : desc+descSize]
		switch name := string(b[12 : 12+nameSize]); {
		case name == "GNU\x00" && kind == noteGNUBuildID && descSize > 0 && descSize <= maxGNUID:
			return profile.BuildID(hex.EncodeToString(content)), goID
		case name == "Go\x00\x00" && kind == noteGoBuildID && isGoID(content):
			goID = profile.BuildID("go:" + string(content))
		}
		b = b[min(padded(desc+descSize, align), uint64(len(b))):]
	}
	return gnu, goID
}

func padded(n, align uint64) uint64 { return (n + align - 1) &^ (align - 1) }

func isGoID(b []byte) bool {
	if len(b) == 0 || len(b) > maxGoID {
		return false
	}
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// hashID names a file that has no ID by its first and last 4096 bytes and its
// length (big-endian), the way other profilers do: the headers at the front
// and the tables at the end hardly ever survive a rebuild, and reading 8 KB
// takes no longer for a big file. The price: two files that differ only in the
// middle have the same ID.
func (f *File) hashID() (profile.BuildID, error) {
	size := f.reader.Size()
	edge := make([]byte, min(hashedEdge, size))
	h := sha256.New()
	for _, off := range []int64{0, size - int64(len(edge))} {
		if err := readFull(f.reader, edge, off); err != nil {
			return "", err
		}
		h.Write(edge)
	}
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(size)))
	return profile.BuildID("hash:" + hex.EncodeToString(h.Sum(nil)[:16])), nil
}
