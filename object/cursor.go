// SPDX-License-Identifier: Apache-2.0

package object

import "bytes"

// Cursor decodes bytes of a file: little-endian numbers and LEB128, the forms
// of DWARF and of what is made like it (DWARF 5, 7.6). After reading beyond the
// end, Bad is set and everything reads as 0; whoever decodes asks once, when it
// matters.
type Cursor struct {
	B   []byte
	Pos int // of the next byte
	Bad bool
}

// Rest is how many bytes are left.
func (c *Cursor) Rest() int { return len(c.B) - c.Pos }

// More says whether any are.
func (c *Cursor) More() bool { return c.Pos < len(c.B) }

// Take returns the next n bytes; nil if there are fewer.
func (c *Cursor) Take(n uint64) []byte {
	if n > uint64(len(c.B)-c.Pos) {
		c.Bad, c.Pos = true, len(c.B)
		return nil
	}
	p := c.B[c.Pos : c.Pos+int(n)]
	c.Pos += int(n)
	return p
}

// Skip passes n bytes.
func (c *Cursor) Skip(n uint64) { c.Take(n) }

// U8 reads a byte.
func (c *Cursor) U8() uint8 {
	if c.Pos >= len(c.B) {
		c.Bad = true
		return 0
	}
	v := c.B[c.Pos]
	c.Pos++
	return v
}

// U16 reads a number of 2 bytes.
func (c *Cursor) U16() uint16 {
	if p := c.Take(2); p != nil {
		return le.Uint16(p)
	}
	return 0
}

// U32 reads a number of 4 bytes.
func (c *Cursor) U32() uint32 {
	if p := c.Take(4); p != nil {
		return le.Uint32(p)
	}
	return 0
}

// U64 reads a number of 8 bytes.
func (c *Cursor) U64() uint64 {
	if p := c.Take(8); p != nil {
		return le.Uint64(p)
	}
	return 0
}

// Uint reads a number of 1 to 8 bytes.
func (c *Cursor) Uint(n int) uint64 {
	var v uint64
	for i, x := range c.Take(uint64(n)) {
		v |= uint64(x) << (8 * i)
	}
	return v
}

// ULEB reads an unsigned LEB128 number. Bits beyond the 64th are dropped;
// nobody honest has them.
func (c *Cursor) ULEB() uint64 {
	if c.Pos < len(c.B) && c.B[c.Pos] < 0x80 { // nearly always one byte
		c.Pos++
		return uint64(c.B[c.Pos-1])
	}
	v, _ := c.leb()
	return v
}

// SLEB reads a signed LEB128 number.
func (c *Cursor) SLEB() int64 {
	v, width := c.leb()
	if width < 64 && v>>(width-1)&1 != 0 {
		v |= ^uint64(0) << width
	}
	return int64(v)
}

func (c *Cursor) leb() (v uint64, width uint) {
	for {
		b := c.U8() // past the end 0, which ends the number
		if c.Bad {
			return 0, 64
		}
		if width < 64 {
			v |= uint64(b&0x7f) << width
		}
		if width += 7; b < 0x80 {
			return v, width
		}
	}
}

// Text reads a string that ends with a zero byte, without it.
func (c *Cursor) Text() []byte {
	n := bytes.IndexByte(c.B[c.Pos:], 0)
	if n < 0 {
		c.Bad, c.Pos = true, len(c.B)
		return nil
	}
	p := c.B[c.Pos : c.Pos+n]
	c.Pos += n + 1
	return p
}
