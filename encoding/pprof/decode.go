// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// decoder makes a profile of ours of one in pprof's format. It goes through the
// data itself, so that beside these there is only what comes out of them.
type decoder struct {
	*tables
	out *profile.Profile

	mappings  []profile.MappingID // by index; NoMapping for those left out
	addresses ids
	value     int   // index of the value that is the count,
	each      int64 // or that many times it
	timeValue int   // index of the CPU time in nanoseconds, -1 if there is none
	dropped   map[string]*dropped

	frames arena[profile.Frame]
	stacks arena[profile.AddressID]
	lines  []line // scratch, of one location; the rest of one sample
	stack  []profile.AddressID
	values []int64
	labels [slots]label
}

// dropped counts samples with a label that has no place.
type dropped struct{ samples, last int }

func (most limits) decode(data []byte) (*profile.Profile, error) {
	t, err := most.readTables(data)
	if err != nil {
		return nil, err
	}
	d := &decoder{tables: t, out: &profile.Profile{}, dropped: map[string]*dropped{}}
	for _, step := range []func([]byte) error{d.findCount, d.addMetadata, d.addMappings, d.addAddresses, d.addSamples} {
		if err := step(data); err != nil {
			return nil, err
		}
		if d.failed != nil {
			return nil, d.failed
		}
	}
	for _, key := range slices.Sorted(maps.Keys(d.dropped)) {
		d.out.Meta.Warn(fmt.Sprintf("the label %s of %d samples was left out", clean(key), d.dropped[key].samples))
	}
	d.out.Count()
	return d.out, nil
}

// isNanoseconds says whether values of a type are CPU time.
func isNanoseconds(name, unit string) bool { return name == "cpu" && unit == "nanoseconds" }

// findCount chooses the value that counts samples: "samples", as we, Go and
// most profilers call it, or perf_to_profile's "cycles_sample"; else the CPU
// time, if the period tells how much of it a sample stands for.
func (d *decoder) findCount([]byte) error {
	d.each, d.timeValue = 1, -1
	periodic := d.period > 0 && isNanoseconds(d.text(d.periodType.name), d.text(d.periodType.unit))
	if periodic {
		d.out.Meta.FrequencyHz = profile.Frequency(math.Round(1e9 / float64(d.period)))
	}
	count, nanoseconds := -1, -1
	var types []string
	for i, t := range d.sampleTypes {
		name, unit := d.text(t.name), d.text(t.unit)
		if count < 0 && unit == "count" && (name == "samples" || name == "sample" || strings.HasSuffix(name, "_sample")) {
			count = i
		}
		if isNanoseconds(name, unit) && nanoseconds < 0 {
			nanoseconds = i
		}
		types = append(types, clean(name+"/"+unit))
	}
	if len(types) == 2 && nanoseconds == 1 {
		d.timeValue = 1 // as Go and we have it
	}
	switch {
	case count >= 0:
		d.value = count
	case nanoseconds >= 0 && periodic:
		d.value, d.each = nanoseconds, d.period
	case len(types) > 0 || d.samples > 0:
		return fmt.Errorf("%w but %.200s", ErrValues, strings.Join(types, ", "))
	}
	return nil
}

func (d *decoder) addMetadata([]byte) error {
	m := &d.out.Meta
	m.DurationNs = d.duration
	if d.time != 0 {
		m.Start = time.Unix(0, d.time).UTC()
	}
	lines := make([]string, len(d.comments))
	for i, at := range d.comments {
		lines[i] = d.text(at)
	}
	readComments(m, lines)
	return nil
}

func (d *decoder) addMappings(data []byte) error {
	used := make([]bool, len(d.tables.mappings))
	err := eachField(data, func(f field) error {
		if f.number != fieldLocation {
			return nil
		}
		v, err := numbers(f.content, locationMapping)
		if i, ok := d.mappingIDs.find(v[locationMapping]); ok {
			used[i] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	d.mappings = make([]profile.MappingID, len(d.tables.mappings))
	for i := range d.tables.mappings {
		in := &d.tables.mappings[i]
		m := profile.Mapping{Start: profile.Addr(in.start), Limit: profile.Addr(in.limit), Offset: int64(min(in.offset, math.MaxInt64))}
		file, buildID := d.text(in.file), d.text(in.buildID)
		if !used[i] && in.start >= in.limit { // only there to be first: the executable's
			d.mappings[i] = profile.NoMapping
			continue
		}
		m.Kind = kind(file, in.start)
		m.Path, m.BuildID = mappingPath(file, m.Kind), readBuildID(buildID)
		d.mappings[i] = profile.MappingID(len(d.out.Mappings))
		d.out.Mappings = append(d.out.Mappings, m)
	}
	return nil
}

// kind tells by the name that a mapping goes by what is behind it. Kernel
// modules have names in brackets, too, and lie where the kernel does: in the
// upper half of the addresses.
func kind(file string, start uint64) profile.MappingKind {
	switch {
	case strings.HasPrefix(file, profile.KernelPath): // perf_to_profile appends a symbol
		return profile.MappingKernel
	case file == "[vdso]":
		return profile.MappingVDSO
	case file == "" || file == "[anonymous]" || file == "//anon":
		return profile.MappingAnonymous
	case file[0] == '[' && start >= 1<<63:
		return profile.MappingKernel
	}
	return profile.MappingObject
}

func mappingPath(file string, kind profile.MappingKind) string {
	switch {
	case strings.HasPrefix(file, profile.KernelPath):
		return profile.KernelPath
	case kind == profile.MappingAnonymous:
		return ""
	}
	return file
}

// readBuildID undoes buildID: what is not hex is Go's.
func readBuildID(id string) profile.BuildID {
	if id == "" || strings.Trim(id, "0123456789abcdef") == "" {
		return profile.BuildID(id)
	}
	if lower := strings.ToLower(id); strings.Trim(lower, "0123456789abcdef") == "" {
		return profile.BuildID(lower)
	}
	return profile.BuildID("go:" + id)
}

// line is a frame as it stands in a location.
type line struct{ function, line uint64 }

func (d *decoder) addAddresses(data []byte) error {
	d.out.Addresses = make([]profile.Address, 0, d.tables.locations)
	return eachField(data, func(f field) error {
		if f.number != fieldLocation {
			return nil
		}
		v, err := numbers(f.content, locationAddress)
		if err == nil {
			d.lines, err = d.roomForLines(f.content)
		}
		if err == nil {
			err = eachField(f.content, d.addLine)
		}
		if err == nil {
			err = d.addresses.add(v[locationID], len(d.out.Addresses))
		}
		if err != nil {
			return fmt.Errorf("location: %w", err)
		}
		// Callers' addresses lie inside the call in this format: they are looked
		// up as they stand.
		a := profile.Address{Addr: profile.Addr(v[locationAddress]), Mapping: profile.NoMapping}
		if i, ok := d.mappingIDs.find(v[locationMapping]); ok {
			a.Mapping = d.mappings[i]
		}
		err = d.addFrames(&a)
		d.out.Addresses = append(d.out.Addresses, a)
		return err
	})
}

// roomForLines is where those of a location go: a hostile one may have millions.
func (d *decoder) roomForLines(location []byte) ([]line, error) {
	n := 0
	err := eachField(location, func(f field) error {
		if f.number == locationLine {
			n++
		}
		return nil
	})
	return slices.Grow(d.lines[:0], n), err
}

func (d *decoder) addLine(f field) error {
	if f.number != locationLine {
		return nil
	}
	if err := f.is(wireCounted); err != nil {
		return err
	}
	v, err := numbers(f.content, lineLine)
	d.lines = append(d.lines, line{v[lineFunction], v[lineLine]})
	return err
}

// addFrames makes frames of the lines.
func (d *decoder) addFrames(a *profile.Address) error {
	m := d.out.Mapping(a.Mapping)
	unknown := profile.UnknownFrame(m)
	a.Frames = d.frames.take(max(1, len(d.lines)))
	a.Frames[0] = unknown
	for i, l := range d.lines {
		at, ok := d.functionIDs.find(l.function)
		if !ok {
			return fmt.Errorf("%w: there is no function %d", ErrFormat, l.function)
		}
		in, f := &d.functions[at], &a.Frames[i]
		*f = profile.Frame{Name: d.text(in.name), SystemName: d.text(in.systemName), File: d.text(in.file),
			Line: int(max(0, min(int64(l.line), math.MaxInt32))), Kind: unknown.Kind}
	}
	if f := &a.Frames[0]; len(d.lines) == 1 && f.File == "" && (f.Name == "" || f.Name == unknown.Name || f.Name == "[unknown]") {
		a.ObjAddr = readObjAddr(m, f.SystemName)
		f.Unknown, f.Line = true, 0
	}
	return nil
}

// readObjAddr undoes what encoder.unknown writes; 0 if there is nothing.
func readObjAddr(m *profile.Mapping, systemName string) profile.ObjAddr {
	if m == nil {
		return 0
	}
	digits, ok := strings.CutPrefix(systemName, clean(m.Object())+"+0x")
	if !ok {
		return 0
	}
	at, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		return 0
	}
	return profile.ObjAddr(at)
}

func (d *decoder) addSamples(data []byte) error {
	d.out.Samples = make([]profile.Sample, 0, d.tables.samples)
	total := uint64(0)
	return eachField(data, func(f field) error {
		if f.number != fieldSample {
			return nil
		}
		d.stack, d.values, d.labels = d.stack[:0], d.values[:0], [slots]label{}
		if err := eachField(f.content, d.readSample); err != nil {
			return fmt.Errorf("sample: %w", err)
		}
		if len(d.values) != len(d.sampleTypes) {
			return fmt.Errorf("%w: a sample has %d values of %d types", ErrFormat, len(d.values), len(d.sampleTypes))
		}
		s := profile.Sample{Addresses: d.stacks.take(len(d.stack))}
		copy(s.Addresses, d.stack)
		n := d.values[d.value]
		if n < 0 {
			return fmt.Errorf("%w but a difference of two profiles", ErrValues)
		}
		s.Count = uint64(n / d.each)
		if total += s.Count; total > math.MaxInt64 {
			return fmt.Errorf("%w: the samples add up to more than 63 bits", ErrFormat)
		}
		if d.timeValue >= 0 {
			if took := d.values[d.timeValue]; took > 0 && took != product(s.Count, d.period) {
				s.Time = time.Duration(took)
			}
		}
		d.takeLabels(&s)
		d.out.Samples = append(d.out.Samples, s)
		return nil
	})
}

// readSample takes in a field of a sample.
func (d *decoder) readSample(f field) error {
	switch f.number {
	case sampleLocation:
		d.stack = slices.Grow(d.stack, f.count())
		return f.eachNumber(func(id uint64) error {
			at, ok := d.addresses.find(id)
			if !ok {
				return fmt.Errorf("%w: there is no location %d", ErrFormat, id)
			}
			d.stack = append(d.stack, profile.AddressID(at))
			return nil
		})
	case sampleValue:
		return f.eachNumber(func(v uint64) error {
			if len(d.values) == len(d.sampleTypes) {
				return fmt.Errorf("%w: it has more values than there are types", ErrFormat)
			}
			d.values = append(d.values, int64(v))
			return nil
		})
	case sampleLabel:
		if err := f.is(wireCounted); err != nil {
			return err
		}
		return d.readLabel(f.content)
	}
	return nil
}
