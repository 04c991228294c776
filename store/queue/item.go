// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A file has, in front of the data of its item:
//
//	4 bytes  magic, with the version of this form
//	1 byte   the kind: 's' or 'r'
//	4 bytes  how long the data is, little endian
//	4 bytes  CRC-32C of all of the above and of the data, little endian
//
// Kind and length are in the name and in the file system too; they are here so
// that what was renamed or cut is noticed.
const (
	magic      = "SRQ\x01"
	headerSize = len(magic) + 1 + 4 + 4
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	letters    = map[Kind]byte{Summary: 's', Result: 'r'}
)

var errDamaged = errors.New("damaged")

func encode(kind Kind, data []byte) []byte {
	b := make([]byte, 0, headerSize+len(data))
	b = append(b, magic...)
	b = append(b, letters[kind])
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, checksum(b, data))
	return append(b, data...)
}

func checksum(front, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(front, castagnoli), castagnoli, data)
}

// decode is the data of an item of that kind.
func decode(b []byte, kind Kind) ([]byte, error) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: no item", errDamaged)
	}
	front, data := b[:headerSize-4], b[headerSize:]
	switch {
	case b[len(magic)] != letters[kind]:
		return nil, fmt.Errorf("%w: an item of another kind", errDamaged)
	case uint64(binary.LittleEndian.Uint32(front[len(magic)+1:])) != uint64(len(data)):
		return nil, fmt.Errorf("%w: %d bytes of data", errDamaged, len(data))
	case binary.LittleEndian.Uint32(b[headerSize-4:]) != checksum(front, data):
		return nil, fmt.Errorf("%w: another checksum", errDamaged)
	}
	return data, nil
}
