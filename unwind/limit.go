// SPDX-License-Identifier: Apache-2.0

package unwind

import "github.com/carverauto/serviceradar-profiler/object"

// Limits, so that a hostile file costs no more than a giant honest one: half a
// second and, for a moment, 150 MB. The biggest honest one seen (libLLVM, 5 MB
// of .eh_frame, a million rows) costs 30 ms and 25 MB.
const (
	maxSource   = 128 << 20 // bytes of one section that are read
	maxSources  = 8         // sections with call frame information; real files have one or two
	maxSegments = 64        // executable ones; linkers make one, sometimes two
	maxRecord   = 1 << 20   // bytes of one record; the biggest seen has 20 KB
	maxCIEs     = 1 << 18   // records; .debug_frame has one for each compilation unit
	maxShapes   = 1 << 12   // different CIEs; real files have a few dozen
	maxRows     = 1 << 22   // of one object: 32 MB
	maxStates   = 32        // depth of DW_CFA_remember_state; compilers need 1
	maxStubs    = 1 << 20   // bytes of one section of stubs
	maxExpand   = 1 << 16   // bytes of stubs that one row is spread over

	// Bytes of call frame information for a row. The fewest seen in 2,400
	// files of a Debian system were 3.9, the mean was 5.3. The format's own
	// limit is about 2; what needs that is cut short.
	bytesPerRow = 3
	// No FDE has less: length, CIE, start, size, augmentation and an instruction.
	bytesPerFunction = 24
	// Rows of one of Go's functions, the one for the gap behind it included; a
	// mean of 5 was seen.
	rowsPerGoFunction = 8
	// Rows of an object for everything but functions and stubs: gaps of each
	// segment, Go's code, the entry point.
	fixedRows = 4 * maxSegments
)

// bound is the most rows for what the sources hold, stubs and gaps included.
func bound(f *object.File, sources []source) int {
	n := int64(fixedRows)
	for i := range sources {
		n += min(sources[i].size, maxSource) / bytesPerRow
	}
	if t, err := f.GoTable(); err == nil && t != nil {
		n += min(t.Count, maxGoFunctions) * rowsPerGoFunction
	}
	for i := range f.Sections() {
		if s := &f.Sections()[i]; isStubs(s) {
			n += min(s.FileSize, maxStubs)/8 + 4
		}
	}
	return int(min(n, maxRows))
}
