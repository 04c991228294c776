// SPDX-License-Identifier: Apache-2.0

package unwind

import "encoding/binary"

var le = binary.LittleEndian

// cursor reads numbers from bytes. Past the end it gives zeros and remembers
// that: whoever reads checks once, at the end of what belongs together.
type cursor struct {
	b   []byte
	i   int
	bad bool
}

func (c *cursor) more() bool { return c.i < len(c.b) }

// take returns the next n bytes.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)-c.i) {
		c.bad, c.i = true, len(c.b)
		return nil
	}
	p := c.b[c.i : c.i+int(n)]
	c.i += int(n)
	return p
}

func (c *cursor) u8() uint8 {
	if c.i >= len(c.b) {
		c.bad = true
		return 0
	}
	v := c.b[c.i]
	c.i++
	return v
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

// uleb reads an unsigned LEB128 number (DWARF 5 section 7.6). Bits beyond the
// 64th are lost; nobody honest has them.
func (c *cursor) uleb() uint64 {
	if c.i < len(c.b) && c.b[c.i] < 0x80 { // nearly always one byte
		c.i++
		return uint64(c.b[c.i-1])
	}
	v, _ := c.leb()
	return v
}

// sleb reads a signed LEB128 number.
func (c *cursor) sleb() int64 {
	v, width := c.leb()
	if width < 64 && v>>(width-1)&1 != 0 {
		v |= ^uint64(0) << width
	}
	return int64(v)
}

func (c *cursor) leb() (v uint64, width uint) {
	for {
		b := c.u8()
		v |= uint64(b&0x7f) << width // 0 from a width of 64 on
		width += 7
		if b < 0x80 {
			return v, width
		}
	}
}

// text reads bytes up to a zero.
func (c *cursor) text() []byte {
	start := c.i
	for c.more() {
		if c.b[c.i] == 0 {
			c.i++
			return c.b[start : c.i-1]
		}
		c.i++
	}
	c.bad = true
	return nil
}
