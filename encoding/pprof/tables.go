// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"encoding/binary"
	"fmt"
)

// tables is what a profile's samples and locations refer to, as it stands in
// the file: texts by their places in the string table, the rest by ID.
type tables struct {
	texts       []string
	sampleTypes []valueType
	periodType  valueType
	mappings    []mappingRecord
	functions   []functionRecord
	comments    []uint64
	time        int64 // ns
	duration    int64 // ns
	period      int64
	samples     int // how many there are
	locations   int

	mostComments            int64
	failed                  error // of the first text that was not there
	mappingIDs, functionIDs ids
}

type valueType struct{ name, unit uint64 }

type mappingRecord struct{ id, start, limit, offset, file, buildID uint64 }

type functionRecord struct{ id, name, systemName, file uint64 }

// field is one of a message (protobuf.dev, "Encoding"): a tag, which is number
// and wire type, and a value, which may be a message again.
type field struct {
	number  uint64
	wire    uint64
	value   uint64 // if it is a varint
	content []byte // if it says how long it is
}

// eachField calls each with a message's fields.
func eachField(data []byte, each func(field) error) error {
	for len(data) > 0 {
		tag, size := binary.Uvarint(data)
		if size <= 0 {
			return ErrFormat
		}
		data = data[size:]
		skip := 0
		f := field{number: tag >> 3, wire: tag & 7}
		switch f.wire {
		case wireVarint:
			if f.value, skip = binary.Uvarint(data); skip <= 0 {
				return ErrFormat
			}
		case wire64:
			skip = 8
		case wireCounted:
			length, size := binary.Uvarint(data)
			if size <= 0 || length > uint64(len(data)-size) {
				return ErrFormat
			}
			skip = size + int(length)
			f.content = data[size:skip]
		case wire32:
			skip = 4
		default:
			return ErrFormat
		}
		if skip > len(data) {
			return ErrFormat
		}
		if err := each(f); err != nil {
			return err
		}
		data = data[skip:]
	}
	return nil
}

// is checks how the value of a known field is written.
func (f field) is(wire uint64) error {
	if f.wire != wire {
		return fmt.Errorf("%w: field %d has wire type %d", ErrFormat, f.number, f.wire)
	}
	return nil
}

// numbers are the values of a message's first fields, by number; each must be a
// varint.
func numbers(data []byte, most uint64) (v [7]uint64, err error) {
	err = eachField(data, func(f field) error {
		if f.number > most {
			return nil
		}
		v[f.number] = f.value
		return f.is(wireVarint)
	})
	return v, err
}

// eachNumber calls do with the numbers of a list, one or packed.
func (f field) eachNumber(do func(uint64) error) error {
	if f.wire == wireVarint {
		return do(f.value)
	}
	if err := f.is(wireCounted); err != nil {
		return err
	}
	for data := f.content; len(data) > 0; {
		v, size := binary.Uvarint(data)
		if size <= 0 {
			return ErrFormat
		}
		if err := do(v); err != nil {
			return err
		}
		data = data[size:]
	}
	return nil
}

// count is how many numbers a list has.
func (f field) count() (n int) {
	if f.wire == wireVarint {
		return 1
	}
	for _, b := range f.content {
		if b < 0x80 { // the last byte of each
			n++
		}
	}
	return n
}

// readTables reads all but samples and locations, which it counts.
func (most limits) readTables(data []byte) (*tables, error) {
	t := &tables{mostComments: most.messages}
	if err := most.checkMessages(data, t); err != nil {
		return nil, err
	}
	if len(t.texts) == 0 || t.texts[0] != "" {
		return nil, fmt.Errorf("%w: its string table does not begin with an empty string", ErrFormat)
	}
	for i := range t.mappings {
		if err := t.mappingIDs.add(t.mappings[i].id, i); err != nil {
			return nil, fmt.Errorf("mapping: %w", err)
		}
	}
	for i := range t.functions {
		if err := t.functionIDs.add(t.functions[i].id, i); err != nil {
			return nil, fmt.Errorf("function: %w", err)
		}
	}
	return t, nil
}

// add takes in a field of the profile.
func (t *tables) add(f field) (err error) {
	switch f.number {
	case fieldSampleType, fieldPeriodType, fieldMapping, fieldFunction, fieldString, fieldSample, fieldLocation:
		err = f.is(wireCounted)
	case fieldTimeNanos, fieldDurationNanos, fieldPeriod:
		err = f.is(wireVarint)
	}
	if err != nil {
		return err
	}
	var v [7]uint64
	switch f.number {
	case fieldSampleType:
		v, err = numbers(f.content, valueTypeUnit)
		t.sampleTypes = append(t.sampleTypes, valueType{v[valueTypeType], v[valueTypeUnit]})
	case fieldPeriodType:
		v, err = numbers(f.content, valueTypeUnit)
		t.periodType = valueType{v[valueTypeType], v[valueTypeUnit]}
	case fieldMapping:
		v, err = numbers(f.content, mappingBuildID)
		t.mappings = append(t.mappings, mappingRecord{v[mappingID], v[mappingStart], v[mappingLimit], v[mappingOffset], v[mappingFile], v[mappingBuildID]})
	case fieldFunction:
		v, err = numbers(f.content, functionFilename)
		t.functions = append(t.functions, functionRecord{v[functionID], v[functionName], v[functionSystemName], v[functionFilename]})
	case fieldString:
		t.texts = append(t.texts, string(f.content))
	case fieldComment:
		err = f.eachNumber(t.addComment)
	case fieldTimeNanos:
		if t.time != 0 {
			return fmt.Errorf("%w: it is several, one after the other", ErrFormat)
		}
		t.time = int64(f.value)
	case fieldDurationNanos:
		t.duration = int64(f.value)
	case fieldPeriod:
		t.period = int64(f.value)
	case fieldSample:
		t.samples++
	case fieldLocation:
		t.locations++
	}
	return err
}

func (t *tables) addComment(at uint64) error {
	if int64(len(t.comments)) >= t.mostComments {
		return fmt.Errorf("more than %d comments: %w", t.mostComments, ErrTooLarge)
	}
	t.comments = append(t.comments, at)
	return nil
}

// text is a string by its place; empty, with an error noted, if there is none.
func (t *tables) text(at uint64) string {
	if at >= uint64(len(t.texts)) {
		if t.failed == nil {
			t.failed = fmt.Errorf("%w: there is no string %d", ErrFormat, at)
		}
		return ""
	}
	return t.texts[at]
}

// ids are indices by ID. As a rule these count up from 1.
type ids struct {
	dense  []int32 // by ID - 1
	sparse map[uint64]int32
}

func (x *ids) add(id uint64, index int) error {
	if _, taken := x.find(id); taken || id == 0 {
		return fmt.Errorf("%w: ID %d", ErrFormat, id)
	}
	if id == uint64(len(x.dense))+1 {
		x.dense = append(x.dense, int32(index))
		return nil
	}
	if x.sparse == nil {
		x.sparse = map[uint64]int32{}
	}
	x.sparse[id] = int32(index)
	return nil
}

func (x *ids) find(id uint64) (index int32, ok bool) {
	if id-1 < uint64(len(x.dense)) {
		return x.dense[id-1], true
	}
	index, ok = x.sparse[id]
	return index, ok
}
