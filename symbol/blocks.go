// SPDX-License-Identifier: Apache-2.0

package symbol

import "io"

// blocks reads small pieces here and there of something big, through blocks
// that it keeps: what is near to what was read before costs no system call.
type blocks struct {
	r    io.ReaderAt
	kept [64]block // by the block's number, modulo
}

const blockSize = 4 << 10

type block struct {
	number int64  // 1 for the first
	data   []byte // shorter than blockSize where r ends
}

// from returns what there is from an offset on, up to the end of its block.
func (b *blocks) from(off int64) []byte {
	if off < 0 {
		return nil
	}
	number := off/blockSize + 1
	k := &b.kept[number%int64(len(b.kept))]
	if k.number != number {
		if k.data == nil {
			k.data = make([]byte, blockSize)
		}
		n, _ := b.r.ReadAt(k.data[:blockSize], (number-1)*blockSize) // what is missing shows where it is wanted
		k.number, k.data = number, k.data[:n]
	}
	return k.data[min(off%blockSize, int64(len(k.data))):]
}

// read fills p.
func (b *blocks) read(p []byte, off int64) error {
	_, err := b.ReadAt(p, off)
	return err
}

// ReadAt makes it an io.ReaderAt.
func (b *blocks) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		k := copy(p[n:], b.from(off+int64(n)))
		if k == 0 {
			return n, io.ErrUnexpectedEOF
		}
		n += k
	}
	return len(p), nil
}

// uvarint reads a number of at most 32 bits and says how many bytes it has; 0
// if it is none.
func (b *blocks) uvarint(off int64) (v uint32, n int64) {
	p := b.from(off)
	for shift := 0; shift < 35; shift += 7 {
		if len(p) == 0 {
			if p = b.from(off + n); len(p) == 0 {
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
