// SPDX-License-Identifier: Apache-2.0

package object

import (
	"fmt"
	"io"
)

// Blocks reads small pieces here and there of something big, through blocks
// that it keeps: what is near to what was read before, or wanted again and
// again, costs no system call. It is not safe for concurrent use.
type Blocks struct {
	r    io.ReaderAt
	size int64
	kept map[int64][]byte // by number; what is shorter than a block ends where r does
	last int64            // the block that was asked for last
	data []byte           // what is in it; nil if there is none yet
}

// maxBlocks are kept; then all are forgotten. (A fixed place for each number
// would be simpler, but two streams of reads may want the same for long.)
const maxBlocks = 64

// NewBlocks reads r in blocks of so many bytes.
func NewBlocks(r io.ReaderAt, size int) *Blocks { return &Blocks{r: r, size: int64(size)} }

// From returns what there is from an offset on, up to the end of its block;
// nothing beyond the end of r, or where it cannot be read.
func (b *Blocks) From(off int64) []byte {
	if off < 0 {
		return nil
	}
	if number := off / b.size; number != b.last || b.data == nil {
		b.last, b.data = number, b.block(number)
	}
	return b.data[min(off%b.size, int64(len(b.data))):]
}

func (b *Blocks) block(number int64) []byte {
	data, ok := b.kept[number]
	if !ok {
		if b.kept == nil || len(b.kept) >= maxBlocks {
			b.kept = map[int64][]byte{}
		}
		data = make([]byte, b.size)
		n, _ := b.r.ReadAt(data, number*b.size) // what is missing shows where it is wanted
		data = data[:n]
		b.kept[number] = data
	}
	return data
}

// ReadAt makes it an io.ReaderAt. A read that is cut short is an error:
// io.ErrUnexpectedEOF.
func (b *Blocks) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		k := copy(p[n:], b.From(off+int64(n)))
		if k == 0 {
			return n, io.ErrUnexpectedEOF
		}
		n += k
	}
	return len(p), nil
}

// Fill is ReadAt for who wants all of p or nothing.
func (b *Blocks) Fill(p []byte, off int64) error {
	_, err := b.ReadAt(p, off)
	return err
}

// Uvarint reads a number of at most 32 bits (encoding/binary's form) and says
// how many bytes it has; 0 if it is none.
func (b *Blocks) Uvarint(off int64) (v uint32, n int64) {
	p := b.From(off)
	for shift := 0; shift < 35; shift += 7 {
		if len(p) == 0 {
			if p = b.From(off + n); len(p) == 0 {
				return 0, 0
			}
		}
		v |= uint32(p[0]&0x7f) << shift
		n++
		if p[0] < 0x80 {
			return v, n
		}
		p = p[1:]
	}
	return 0, 0
}

// chunkSize is how many bytes of a table are read at a time: big enough that
// the system call does not matter, small enough to stay in the CPU's cache.
const chunkSize = 64 << 10

// maxTable bounds the time for one table, in bytes: a sparse file may claim any
// size. It is ten times the largest known (a browser's with all symbols), and
// a few seconds.
const maxTable = 1 << 30

// Chunks reads r from its start to size in pieces whose length is a multiple
// of entry bytes, and calls each with them; a rest shorter than an entry is
// left out. The buffer is used again for the next piece.
func Chunks(r io.ReaderAt, size int64, entry int, each func(b []byte)) error {
	if size > maxTable {
		return fmt.Errorf("table of %d bytes is too big: %w", size, ErrFormat)
	}
	size -= size % int64(entry)
	buffer := make([]byte, min(int64(chunkSize/entry*entry), size))
	for off := int64(0); off < size; {
		b := buffer[:min(int64(len(buffer)), size-off)]
		if err := readFull(r, b, off); err != nil {
			return err
		}
		each(b)
		off += int64(len(b))
	}
	return nil
}
