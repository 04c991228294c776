// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"bytes"
	"encoding/binary"
)

var le = binary.LittleEndian

// cursor decodes a piece of a section. After reading beyond its end, bad is
// set and everything reads as 0; whoever decodes asks once, when it matters.
type cursor struct {
	b   []byte
	pos int
	bad bool
}

func (c *cursor) rest() int { return len(c.b) - c.pos }

// take returns the next n bytes; nil if there are fewer.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)-c.pos) {
		c.bad, c.pos = true, len(c.b)
		return nil
	}
	p := c.b[c.pos : c.pos+int(n)]
	c.pos += int(n)
	return p
}

func (c *cursor) skip(n uint64) { c.take(n) }

func (c *cursor) u8() uint8 {
	if p := c.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if p := c.take(2); p != nil {
		return le.Uint16(p)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if p := c.take(4); p != nil {
		return le.Uint32(p)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if p := c.take(8); p != nil {
		return le.Uint64(p)
	}
	return 0
}

// uint reads a little-endian number of 1 to 8 bytes.
func (c *cursor) uint(n int) uint64 {
	var v uint64
	for i, x := range c.take(uint64(n)) {
		v |= uint64(x) << (8 * i)
	}
	return v
}

// uleb reads an unsigned LEB128 (7.6). Bits beyond the 64th are dropped.
func (c *cursor) uleb() uint64 {
	if c.pos < len(c.b) {
		if x := c.b[c.pos]; x < 0x80 {
			c.pos++
			return uint64(x)
		}
	}
	return c.longULEB()
}

func (c *cursor) longULEB() uint64 {
	var v uint64
	for shift := uint(0); c.pos < len(c.b); shift += 7 {
		x := c.b[c.pos]
		c.pos++
		if shift < 64 {
			v |= uint64(x&0x7f) << shift
		}
		if x < 0x80 {
			return v
		}
	}
	c.bad = true
	return 0
}

func (c *cursor) sleb() int64 {
	var v int64
	for shift := uint(0); c.pos < len(c.b); {
		x := c.b[c.pos]
		c.pos++
		if shift < 64 {
			v |= int64(x&0x7f) << shift
		}
		shift += 7
		if x < 0x80 {
			if shift < 64 && x&0x40 != 0 {
				v |= -1 << shift
			}
			return v
		}
	}
	c.bad = true
	return 0
}

// text reads a string that ends with a zero byte, without it.
func (c *cursor) text() []byte {
	n := bytes.IndexByte(c.b[c.pos:], 0)
	if n < 0 {
		c.bad, c.pos = true, len(c.b)
		return nil
	}
	p := c.b[c.pos : c.pos+n]
	c.pos += n + 1
	return p
}

// length reads the length at the start of a unit, set or program (7.4): 32
// bits, or an escape and 64, and then offsets in it are 64 bits, too.
func (c *cursor) length() (n uint64, is64 bool) {
	n = uint64(c.u32())
	if n == 0xffffffff {
		return c.u64(), true
	}
	if n >= 0xfffffff0 { // reserved
		c.bad = true
	}
	return n, false
}

// offset reads an offset into a section.
func (c *cursor) offset(is64 bool) uint64 {
	if is64 {
		return c.u64()
	}
	return uint64(c.u32())
}
