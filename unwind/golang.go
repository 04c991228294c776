// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"strings"

	"github.com/carverauto/serviceradar-profiler/object"
)

// Go's code has no .eh_frame, and keeps frame pointers on both architectures
// (the runtime's own execution tracer relies on them). So what nobody else
// described in the code of a Go program is Go's; the C code that was linked in
// has descriptions of its own. Where a frame pointer is not the function's own,
// pcsp.go has something better. The price: assembly without descriptions in the
// same section counts as Go's.

// isGo recognizes an object that the Go linker made, or had a part in.
func isGo(f *object.File) bool {
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab", ".go.buildinfo", ".note.go.buildid"} {
		if f.Section(name) != nil {
			return true
		}
	}
	return strings.HasPrefix(string(f.BuildID()), "go:")
}

// goText returns where Go's code may be: .text, and without section headers
// all executable segments.
func goText(f *object.File) []codeRange {
	if !isGo(f) {
		return nil
	}
	if s := f.Section(".text"); s != nil && s.Size <= 1<<40 {
		return []codeRange{{uint64(s.ObjAddr), uint64(s.ObjAddr) + s.Size}}
	}
	for i := range f.Segments() {
		if s := &f.Segments()[i]; s.Executable() && s.MemSize <= 1<<40 && len(f.Sections()) == 0 {
			return []codeRange{{uint64(s.ObjAddr), uint64(s.ObjAddr) + s.MemSize}}
		}
	}
	return nil
}
