// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"encoding/binary"

	"github.com/carverauto/serviceradar-profiler/object"
)

var le = binary.LittleEndian

type cursor = object.Cursor

// length reads the length at the start of a unit, set or program (7.4): 32
// bits, or an escape and 64, and then offsets in it are 64 bits, too.
func length(c *cursor) (n uint64, is64 bool) {
	n = uint64(c.U32())
	if n == 0xffffffff {
		return c.U64(), true
	}
	if n >= 0xfffffff0 { // reserved
		c.Bad = true
	}
	return n, false
}

// sectionOffset reads an offset into a section.
func sectionOffset(c *cursor, is64 bool) uint64 {
	if is64 {
		return c.U64()
	}
	return uint64(c.U32())
}
