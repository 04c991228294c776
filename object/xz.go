// SPDX-License-Identifier: Apache-2.0

package object

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// Of the .xz format ("The .xz File Format", version 1.2.0) this reads what xz
// makes when it is not told otherwise: one stream, of blocks that have LZMA2
// as their only filter. The library could read the whole, but takes whatever
// memory a block says it wants for its dictionary, up to 4 GiB. So it is given
// the blocks one by one, with the memory that their content is known to need:
// the index at the end has their sizes.

const (
	xzMagic  = "\xfd7zXZ\x00"
	xzEnd    = "YZ"
	xzHeader = 12 // bytes, the footer as well
	maxIndex = 64 << 10

	lzma2 = 0x21 // its filter ID
)

var errXZ = errors.New("not valid xz data")

// xzBlock is one record of the index.
type xzBlock struct {
	off, size, content int64 // size without padding
}

// unxz decompresses r, of size bytes, if it has no more than limit bytes of
// content. All that it allocates is the content and at most as much again.
func unxz(r io.ReaderAt, size, limit int64) ([]byte, error) {
	var head, foot [xzHeader]byte
	if size < 2*xzHeader || readFull(r, head[:], 0) != nil || readFull(r, foot[:], size-xzHeader) != nil {
		return nil, fmt.Errorf("too short: %w", errXZ)
	}
	flags := head[6:8]
	if string(head[:6]) != xzMagic || crc32.ChecksumIEEE(flags) != le.Uint32(head[8:]) || flags[0] != 0 || flags[1] > 15 ||
		string(foot[10:]) != xzEnd || string(foot[8:10]) != string(flags) || crc32.ChecksumIEEE(foot[4:10]) != le.Uint32(foot[:]) {
		return nil, fmt.Errorf("header or footer: %w", errXZ)
	}
	indexSize := (int64(le.Uint32(foot[4:])) + 1) * 4
	if indexSize > maxIndex || indexSize > size-2*xzHeader {
		return nil, fmt.Errorf("index of %d bytes: %w", indexSize, errXZ)
	}
	index := make([]byte, indexSize)
	if err := readFull(r, index, size-xzHeader-indexSize); err != nil {
		return nil, err
	}
	blocks, err := parseIndex(index, size-2*xzHeader-indexSize)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, b := range blocks {
		if total += b.content; total > limit {
			return nil, fmt.Errorf("more than %d bytes when decompressed", limit)
		}
	}
	all := make([]byte, total)
	for rest := all; len(blocks) > 0; blocks = blocks[1:] {
		b := blocks[0]
		if err := b.decompress(rest[:b.content], r, flags[1]); err != nil {
			return nil, err
		}
		rest = rest[b.content:]
	}
	return all, nil
}

// parseIndex returns the blocks, which fill size bytes.
func parseIndex(b []byte, size int64) ([]xzBlock, error) {
	bad := fmt.Errorf("index: %w", errXZ)
	body := b[:len(b)-4]
	if crc32.ChecksumIEEE(body) != le.Uint32(b[len(b)-4:]) || body[0] != 0 {
		return nil, bad
	}
	n, body, ok := number(body[1:])
	if !ok || n > int64(len(body)) {
		return nil, bad
	}
	blocks := make([]xzBlock, n)
	off := int64(xzHeader)
	for i := range blocks {
		x := xzBlock{off: off}
		var ok1, ok2 bool
		x.size, body, ok1 = number(body)
		x.content, body, ok2 = number(body)
		if !ok1 || !ok2 || x.size > size-(off-xzHeader) || x.content < 0 {
			return nil, bad
		}
		off += int64(padded(uint64(x.size), 4))
		blocks[i] = x
	}
	if off-xzHeader != size {
		return nil, bad
	}
	return blocks, nil
}

// number decodes a number of variable length: seven bits a byte, as LEB128.
func number(b []byte) (n int64, rest []byte, ok bool) {
	u, used := binary.Uvarint(b)
	if used <= 0 || u > 1<<62 {
		return 0, nil, false
	}
	return int64(u), b[used:], true
}

// decompress fills out with the content of a block.
func (x xzBlock) decompress(out []byte, r io.ReaderAt, check byte) error {
	header, dictionary, err := x.readHeader(r)
	if err != nil {
		return err
	}
	body := bufio.NewReader(io.NewSectionReader(r, x.off+header, x.size-header))
	// It never needs more of a dictionary than there is content.
	room := max(lzma.MinDictCap, min(dictionary, int64(len(out))))
	z, err := lzma.Reader2Config{DictCap: int(room)}.NewReader2(body)
	if err != nil {
		return fmt.Errorf("%w: %w", errXZ, err)
	}
	if _, err := io.ReadFull(z, out); err != nil {
		return fmt.Errorf("%w: %w", errXZ, err)
	}
	if n, err := z.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("block has more than its index says: %w", errXZ)
	}
	return x.check(out, r, check)
}

// readHeader reads a block's header, and returns its size and that of the
// dictionary.
func (x xzBlock) readHeader(r io.ReaderAt) (size, dictionary int64, err error) {
	bad := fmt.Errorf("block header: %w", errXZ)
	var room [1024]byte
	if err := readFull(r, room[:1], x.off); err != nil {
		return 0, 0, err
	}
	size = (int64(room[0]) + 1) * 4
	if room[0] == 0 || size > x.size {
		return 0, 0, bad
	}
	b := room[:size]
	if err := readFull(r, b, x.off); err != nil {
		return 0, 0, err
	}
	if crc32.ChecksumIEEE(b[:size-4]) != le.Uint32(b[size-4:]) {
		return 0, 0, bad
	}
	flags, b := b[1], b[2:size-4]
	ok := flags&^0xc0 == 0                   // one filter, nothing unknown
	for _, has := range []byte{0x40, 0x80} { // sizes, which the index has too
		if ok && flags&has != 0 {
			_, b, ok = number(b)
		}
	}
	if !ok || len(b) < 3 || b[0] != lzma2 || b[1] != 1 || b[2] > 40 {
		return 0, 0, bad
	}
	if b[2] == 40 {
		return size, 1<<32 - 1, nil
	}
	return size, (2 | int64(b[2]&1)) << (b[2]/2 + 11), nil
}

var ecma = crc64.MakeTable(crc64.ECMA)

// check compares the checksum at the end of a block, after the padding: 4 and
// 8 bytes are the kinds in use; others are left alone.
func (x xzBlock) check(out []byte, r io.ReaderAt, kind byte) error {
	var b [8]byte
	var good bool
	end := x.off + int64(padded(uint64(x.size), 4))
	switch kind {
	case 1:
		good = readFull(r, b[:4], end-4) == nil && le.Uint32(b[:]) == crc32.ChecksumIEEE(out)
	case 4:
		good = readFull(r, b[:], end-8) == nil && le.Uint64(b[:]) == crc64.Checksum(out, ecma)
	default:
		return nil
	}
	if !good {
		return fmt.Errorf("checksum: %w", errXZ)
	}
	return nil
}
