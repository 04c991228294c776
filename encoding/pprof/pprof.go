// SPDX-License-Identifier: Apache-2.0

// Package pprof writes profiles in pprof's format, gzip compressed, for
// go tool pprof and everything else that reads it, and reads them back.
//
// The format is specified by github.com/google/pprof/proto/profile.proto. Each
// sample has two values: its count, and the CPU time it stands for in
// nanoseconds. Sample and period types never depend on the frequency, so that
// profiles of different frequencies can be merged; the nanoseconds are what
// remains comparable.
package pprof

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"io"
	"math"
	"math/bits"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Write writes p in pprof's format, message by message: what it takes is the
// memory of the compressor and of the tables of strings and functions, however
// many samples there are.
func Write(w io.Writer, p *profile.Profile) error {
	z := gzip.NewWriter(w)
	if err := writeUncompressed(z, p); err != nil {
		return err
	}
	return z.Close()
}

// encoder writes a profile. IDs in the output are small and count up from 1,
// because speedscope cuts them to 32 bits.
type encoder struct {
	in  *profile.Profile
	out *bufio.Writer // keeps the first error until it is flushed

	mappings  []*mapping        // by profile.MappingID
	strings   map[string]uint64 // → place in the string table; those that are not clean, too
	texts     []string          // the string table
	functions map[function]uint64
	called    []function // by ID - 1

	whole, part, head message // for one after the other
}

// function is what tells functions apart: texts, by their places in the string
// table.
type function struct{ name, systemName, file uint64 }

func writeUncompressed(w io.Writer, p *profile.Profile) error {
	e := &encoder{in: p, out: bufio.NewWriterSize(w, 32<<10), strings: map[string]uint64{"": 0}, texts: []string{""}, functions: map[function]uint64{}}
	e.addValueType(fieldSampleType, "samples", "count")
	e.addValueType(fieldSampleType, "cpu", "nanoseconds")
	all := e.findMappings()
	e.addSamples()
	for _, m := range all {
		e.addMapping(m)
	}
	e.addLocations()
	for i, f := range e.called {
		e.addFunction(uint64(i+1), f)
	}
	e.addMetadata()
	for _, s := range e.texts { // last, because all before it adds to it
		e.write(fieldString, message(s))
	}
	return e.out.Flush()
}

// write writes a field of the profile.
func (e *encoder) write(number int, content message) {
	e.head.reset().begin(number, len(content))
	e.writeFields(e.head)
	e.writeFields(content)
}

func (e *encoder) writeFields(fields message) {
	_, _ = e.out.Write(fields) // Flush returns the error
}

// text is the place of a string in the string table, where it is clean.
func (e *encoder) text(s string) uint64 {
	at, ok := e.strings[s]
	if !ok {
		at = e.cleanText(clean(s))
		e.strings[s] = at
	}
	return at
}

// cleanText is text of what is clean, as our own words are.
func (e *encoder) cleanText(s string) uint64 {
	at, ok := e.strings[s]
	if !ok {
		at = uint64(len(e.texts))
		e.strings[s] = at
		e.texts = append(e.texts, s)
	}
	return at
}

func (e *encoder) addValueType(number int, name, unit string) {
	m := e.whole.reset()
	m.varint(valueTypeType, e.cleanText(name))
	m.varint(valueTypeUnit, e.cleanText(unit))
	e.write(number, *m)
}

func (e *encoder) addMetadata() {
	e.addValueType(fieldPeriodType, "cpu", "nanoseconds")
	meta := &e.in.Meta
	m := e.whole.reset()
	if !meta.Start.IsZero() {
		m.varint(fieldTimeNanos, uint64(meta.Start.UnixNano()))
	}
	m.varint(fieldDurationNanos, uint64(meta.DurationNs))
	m.varint(fieldPeriod, uint64(meta.FrequencyHz.Period()))
	m.varint(fieldDefaultSampleType, e.cleanText("cpu"))
	lines := e.part.reset()
	for _, line := range comments(meta) {
		lines.add(e.cleanText(line))
	}
	m.put(fieldComment, *lines)
	e.writeFields(*m)
}

func (e *encoder) addLocations() {
	for i := range e.in.Addresses {
		a := &e.in.Addresses[i]
		// Readers look an address up as it stands, and take that of a caller
		// to lie inside its call instruction; Lookup puts it there. The return
		// address itself may belong to the next line, or the next function.
		at := uint64(a.Lookup())
		m := e.whole.reset()
		m.varint(locationID, uint64(i+1))
		if in := e.mapping(a.Mapping); in != nil && in.start <= at && at < in.limit {
			m.varint(locationMapping, in.id)
		}
		m.varint(locationAddress, at)
		e.putLines(m, a)
		e.write(fieldLocation, *m)
	}
}

// putLines puts the frames of an address, innermost first as pprof has them
// too. An address without a name gets a function all the same: speedscope drops
// locations that have none. Its mapping's has_functions tells pprof the truth.
func (e *encoder) putLines(to *message, a *profile.Address) {
	put := func(function uint64, line int) {
		m := e.part.reset()
		m.varint(lineFunction, function)
		m.varint(lineLine, uint64(line))
		to.put(locationLine, *m)
	}
	switch {
	case len(a.Frames) == 0:
		f := profile.UnknownFrame(e.in.Mapping(a.Mapping))
		put(e.unknown(a, &f), 0)
	case len(a.Frames) == 1 && a.Frames[0].Unknown:
		put(e.unknown(a, &a.Frames[0]), 0)
	default:
		for i := range a.Frames {
			put(e.function(&a.Frames[i]), a.Frames[i].Line)
		}
	}
}

// unknown is the function of an address without a name. Where the address lies
// in its object is its system name, libfoo.so+0x1234: with the build ID of the
// mapping that is all it takes to name it later, on any machine.
func (e *encoder) unknown(a *profile.Address, f *profile.Frame) uint64 {
	if m := e.in.Mapping(a.Mapping); m != nil && a.ObjAddr != 0 {
		named := *f
		named.SystemName = m.Object() + "+" + a.ObjAddr.String()
		f = &named
	}
	return e.function(f)
}

// function is the ID of a frame's function.
func (e *encoder) function(f *profile.Frame) uint64 {
	k := function{e.text(f.Name), e.text(f.SystemName), e.text(f.File)}
	if k.name == 0 {
		k.name = e.cleanText("[unknown]")
	}
	if k.systemName == 0 {
		k.systemName = k.name
	}
	id, ok := e.functions[k]
	if !ok {
		e.called = append(e.called, k)
		id = uint64(len(e.called))
		e.functions[k] = id
	}
	return id
}

func (e *encoder) addFunction(id uint64, f function) {
	m := e.whole.reset()
	m.varint(functionID, id)
	m.varint(functionName, f.name)
	m.varint(functionSystemName, f.systemName)
	m.varint(functionFilename, f.file)
	e.write(fieldFunction, *m)
}

func (e *encoder) addSamples() {
	period := e.in.Meta.FrequencyHz.Period().Nanoseconds()
	for i := range e.in.Samples {
		s := &e.in.Samples[i]
		m, list := e.whole.reset(), e.part.reset()
		for _, id := range s.Addresses {
			list.add(uint64(id) + 1)
		}
		if len(s.Addresses) > 0 {
			m.put(sampleLocation, *list)
		}
		list = e.part.reset()
		list.add(uint64(product(s.Count, 1)))
		list.add(uint64(cmp.Or(int64(s.Time), product(s.Count, period))))
		m.put(sampleValue, *list)
		e.putLabels(m, s)
		e.write(fieldSample, *m)
	}
}

// putLabels leaves out what was forgotten of a sample of several hosts.
func (e *encoder) putLabels(to *message, s *profile.Sample) {
	put := func(key string, text uint64, number int) {
		m := e.part.reset()
		m.varint(labelKey, e.cleanText(key))
		m.varint(labelText, text)
		m.varint(labelNumber, uint64(number))
		to.put(sampleLabel, *m)
	}
	name := func(s string) uint64 { return e.text(cmp.Or(s, "[unknown]")) } // pprof has no empty labels
	put(labelComm, name(s.Comm), 0)
	if s.Host != "" {
		put(labelHost, name(s.Host), 0)
	}
	if s.Truncated {
		put(labelTruncated, e.cleanText(yes), 0)
	}
	if s.PID != 0 || s.Host == "" {
		put(labelPID, 0, s.PID)
	}
	if s.TID != 0 || s.Host == "" {
		put(labelTID, 0, s.TID)
	}
}

// product is count × each, the largest possible value if that is too much.
func product(count uint64, each int64) int64 {
	high, low := bits.Mul64(count, uint64(max(each, 0)))
	if high != 0 || low > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(low)
}
