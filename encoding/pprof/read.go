// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Why a profile cannot be read.
var (
	ErrFormat   = errors.New("not a profile in pprof's format")
	ErrDamaged  = errors.New("the compressed data are damaged or cut off")
	ErrTooLarge = errors.New("too large")
	ErrValues   = errors.New("its values are not samples of CPU use")
)

// MaxSize is what Read accepts at most, in bytes, both before and after
// decompression. A profile may come from anywhere: two bytes can stand for a
// message of 150, and gzip makes a gigabyte of a megabyte. Ours have 1 to 10 MB;
// this limit, and those for parts that follow from it, hold 500,000 stacks of 50
// frames, and keep a hostile file from costing more than MemoryPerByte for each
// byte of it: a gigabyte.
const MaxSize = 64 << 20

// MemoryPerByte is how much memory reading may take for a byte of the limit; a
// test has the worst that is known.
const MemoryPerByte = 16

// limits are on what a profile is made of.
type limits struct {
	size     int64 // bytes
	messages int64 // samples, locations, functions, mappings and strings
	fields   int64 // of samples and locations
}

func limitsFor(size int64) limits { return limits{size, size / 64, size / 64 * 6} }

// Read reads a profile that Write wrote, or another tool's as far as it can be
// expressed in our terms: a sample's labels are only its thread, and of several
// values its count. What was left out for that is said in Meta.Warnings.
//
// Names that stand for the lack of one become unknown frames again, and the
// comments that Write made of the metadata become metadata.
func Read(r io.Reader) (*profile.Profile, error) { return ReadUpTo(r, MaxSize) }

// ReadUpTo is Read with another limit than MaxSize.
func ReadUpTo(r io.Reader, size int64) (*profile.Profile, error) {
	most := limitsFor(size)
	data, err := most.readAll(r)
	if err != nil {
		return nil, err
	}
	if data, err = most.uncompressed(data); err != nil {
		return nil, err
	}
	return most.decode(data)
}

func (most limits) readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most.size+1))
	if err == nil && int64(len(data)) > most.size {
		err = fmt.Errorf("more than %d bytes: %w", most.size, ErrTooLarge)
	}
	return data, err
}

// uncompressed undoes gzip, which the format recommends but does not demand.
func (most limits) uncompressed(data []byte) ([]byte, error) {
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
	data, err = most.readAll(z)
	if err != nil && !errors.Is(err, ErrTooLarge) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return data, err
}

// checkMessages counts what the profile is made of, and has t take it in.
func (most limits) checkMessages(data []byte, t *tables) error {
	var messages, fields int64
	count := func(field) error {
		if fields++; fields > most.fields {
			return fmt.Errorf("more than %d fields: %w", most.fields, ErrTooLarge)
		}
		return nil
	}
	return eachField(data, func(f field) error {
		if messages++; messages > most.messages {
			return fmt.Errorf("more than %d messages: %w", most.messages, ErrTooLarge)
		}
		if f.number == fieldSample || f.number == fieldLocation { // others have few parts, or none
			if err := eachField(f.content, count); err != nil {
				return err
			}
		}
		return t.add(f)
	})
}
