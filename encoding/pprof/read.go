// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	pb "github.com/google/pprof/profile"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Why a profile cannot be read.
var (
	ErrFormat   = errors.New("not a profile in pprof's format")
	ErrDamaged  = errors.New("the compressed data are damaged or cut off")
	ErrTooLarge = errors.New("too large")
	ErrValues   = errors.New("its values are not samples of CPU use")
)

// What Read accepts at most. A profile may come from anywhere: two bytes can
// stand for a message of 150, and gzip makes a gigabyte of a megabyte. Ours have
// 1 to 10 MB; these limits hold 500,000 stacks of 50 frames, and keep a hostile
// file from costing more than about a gigabyte and a half.
const (
	maxInput    = 64 << 20 // bytes, both before and after decompression
	maxMessages = 1 << 20  // samples, locations, functions, mappings and strings
	maxFields   = 6 << 20  // of samples and locations
)

// Read reads a profile that Write wrote, or another tool's as far as it can be
// expressed in our terms: a sample's labels are only its thread, and of several
// values its count. What was left out for that is said in Meta.Warnings.
//
// Names that stand for the lack of one become unknown frames again, and the
// comments that Write made of the metadata become metadata.
func Read(r io.Reader) (*profile.Profile, error) {
	data, err := readAll(r)
	if err != nil {
		return nil, err
	}
	if data, err = uncompressed(data); err != nil {
		return nil, err
	}
	if err := checkMessages(data); err != nil {
		return nil, err
	}
	in, err := pb.ParseUncompressed(data)
	if err == nil {
		err = in.CheckValid()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return decode(in)
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err == nil && len(data) > maxInput {
		err = fmt.Errorf("more than %d bytes: %w", maxInput, ErrTooLarge)
	}
	return data, err
}

// uncompressed undoes gzip, which the format recommends but does not demand.
func uncompressed(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrFormat)
	}
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	data, err = readAll(z)
	if err != nil && !errors.Is(err, ErrTooLarge) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return data, err
}

// checkMessages counts what the profile is made of, before anything is made of
// it. A profile is one protobuf message (protobuf.dev, "Encoding"): fields, each
// a tag (number and wire type) and a value, which may be a message again.
func checkMessages(data []byte) error {
	messages, fields := 0, 0
	return eachField(data, func(number uint64, content []byte) error {
		if messages++; messages > maxMessages {
			return fmt.Errorf("more than %d messages: %w", maxMessages, ErrTooLarge)
		}
		if number != fieldSample && number != fieldLocation {
			return nil // it has no parts, or few
		}
		return eachField(content, func(uint64, []byte) error {
			if fields++; fields > maxFields {
				return fmt.Errorf("more than %d fields: %w", maxFields, ErrTooLarge)
			}
			return nil
		})
	})
}

// Fields of the profile that are messages of any size, by number in profile.proto.
const (
	fieldSample   = 2
	fieldLocation = 4
)

// eachField calls each with a message's fields; without content but for those
// that say their length.
func eachField(data []byte, each func(number uint64, content []byte) error) error {
	for len(data) > 0 {
		tag, size := binary.Uvarint(data)
		if size <= 0 {
			return ErrFormat
		}
		data = data[size:]
		skip := 0
		var content []byte
		switch tag & 7 {
		case 0: // varint
			if _, skip = binary.Uvarint(data); skip <= 0 {
				return ErrFormat
			}
		case 1: // 64 bits
			skip = 8
		case 2: // as long as it says
			length, size := binary.Uvarint(data)
			if size <= 0 || length > uint64(len(data)-size) {
				return ErrFormat
			}
			skip = size + int(length)
			content = data[size:skip]
		case 5: // 32 bits
			skip = 4
		default:
			return ErrFormat
		}
		if skip > len(data) {
			return ErrFormat
		}
		if err := each(tag>>3, content); err != nil {
			return err
		}
		data = data[skip:]
	}
	return nil
}
