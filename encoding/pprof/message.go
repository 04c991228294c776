// SPDX-License-Identifier: Apache-2.0

package pprof

import "encoding/binary"

// message is a protobuf message as it is written (protobuf.dev, "Encoding"):
// fields, each a tag (number and wire type) and a value. Values that are zero
// are left out, as the format has it, but for those in lists.
type message []byte

// Wire types.
const (
	wireVarint  = 0
	wire64      = 1
	wireCounted = 2 // as long as it says
	wire32      = 5
)

func (m *message) varint(number int, v uint64) {
	if v == 0 {
		return
	}
	*m = binary.AppendUvarint(*m, uint64(number)<<3|wireVarint)
	*m = binary.AppendUvarint(*m, v)
}

func (m *message) bool(number int, v bool) {
	if v {
		m.varint(number, 1)
	}
}

// begin begins a field of so many bytes, which follow.
func (m *message) begin(number, size int) {
	*m = binary.AppendUvarint(*m, uint64(number)<<3|wireCounted)
	*m = binary.AppendUvarint(*m, uint64(size))
}

// put is a field that is a message, or a list of packed numbers.
func (m *message) put(number int, content message) {
	m.begin(number, len(content))
	*m = append(*m, content...)
}

// add appends a number to a packed list.
func (m *message) add(v uint64) { *m = binary.AppendUvarint(*m, v) }

// reset makes room for another one in the same place.
func (m *message) reset() *message {
	*m = (*m)[:0]
	return m
}

// Fields of the format's messages, by number in profile.proto.
const (
	fieldSampleType        = 1
	fieldSample            = 2
	fieldMapping           = 3
	fieldLocation          = 4
	fieldFunction          = 5
	fieldString            = 6
	fieldTimeNanos         = 9
	fieldDurationNanos     = 10
	fieldPeriodType        = 11
	fieldPeriod            = 12
	fieldComment           = 13
	fieldDefaultSampleType = 14

	valueTypeType = 1
	valueTypeUnit = 2

	sampleLocation = 1
	sampleValue    = 2
	sampleLabel    = 3

	labelKey    = 1
	labelText   = 2
	labelNumber = 3

	mappingID              = 1
	mappingStart           = 2
	mappingLimit           = 3
	mappingOffset          = 4
	mappingFile            = 5
	mappingBuildID         = 6
	mappingHasFunctions    = 7
	mappingHasFilenames    = 8
	mappingHasLineNumbers  = 9
	mappingHasInlineFrames = 10

	locationID      = 1
	locationMapping = 2
	locationAddress = 3
	locationLine    = 4

	lineFunction = 1
	lineLine     = 2

	functionID         = 1
	functionName       = 2
	functionSystemName = 3
	functionFilename   = 4
)
