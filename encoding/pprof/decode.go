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

	pb "github.com/google/pprof/profile"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// decoder makes a profile of ours of a pprof one, which is valid.
type decoder struct {
	in  *pb.Profile
	out *profile.Profile

	mappings  map[*pb.Mapping]profile.MappingID
	addresses map[*pb.Location]profile.AddressID
	value     int            // index of the value that is the count,
	each      int64          // or that many times it
	time      int            // index of the CPU time in nanoseconds, -1 if there is none
	dropped   map[string]int // labels that have no place, by key
}

func decode(in *pb.Profile) (*profile.Profile, error) {
	d := &decoder{
		in: in, out: &profile.Profile{},
		mappings:  map[*pb.Mapping]profile.MappingID{},
		addresses: make(map[*pb.Location]profile.AddressID, len(in.Location)),
		dropped:   map[string]int{},
	}
	if err := d.findCount(); err != nil {
		return nil, err
	}
	d.addMetadata()
	d.addMappings()
	d.addAddresses()
	if err := d.addSamples(); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(d.dropped)) {
		d.out.Meta.Warn(fmt.Sprintf("the label %s of %d samples was left out", clean(key), d.dropped[key]))
	}
	d.out.Count()
	return d.out, nil
}

// findCount chooses the value that counts samples: "samples", as we, Go and
// most profilers call it, or perf_to_profile's "cycles_sample"; else the CPU
// time, if the period tells how much of it a sample stands for.
func (d *decoder) findCount() error {
	d.each, d.time = 1, -1
	if ts := d.in.SampleType; len(ts) == 2 && *ts[1] == (pb.ValueType{Type: "cpu", Unit: "nanoseconds"}) {
		d.time = 1 // as Go and we have it
	}
	var types []string
	for i, t := range d.in.SampleType {
		if t.Unit == "count" && (t.Type == "samples" || t.Type == "sample" || strings.HasSuffix(t.Type, "_sample")) {
			d.value = i
			return nil
		}
		types = append(types, clean(t.Type+"/"+t.Unit))
	}
	for i, t := range d.in.SampleType {
		if t.Type == "cpu" && t.Unit == "nanoseconds" && d.in.Period > 0 && *d.in.PeriodType == *t {
			d.value, d.each = i, d.in.Period
			return nil
		}
	}
	if len(types) == 0 && len(d.in.Sample) == 0 {
		return nil
	}
	return fmt.Errorf("%w but %.200s", ErrValues, strings.Join(types, ", "))
}

func (d *decoder) addMetadata() {
	m := &d.out.Meta
	m.DurationNs = d.in.DurationNanos
	if d.in.TimeNanos != 0 {
		m.Start = time.Unix(0, d.in.TimeNanos).UTC()
	}
	if t := d.in.PeriodType; t.Type == "cpu" && t.Unit == "nanoseconds" && d.in.Period > 0 {
		m.FrequencyHz = profile.Frequency(math.Round(1e9 / float64(d.in.Period)))
	}
	readComments(m, d.in.Comments)
}

func (d *decoder) addMappings() {
	used := map[*pb.Mapping]bool{}
	for _, l := range d.in.Location {
		used[l.Mapping] = true
	}
	for _, in := range d.in.Mapping {
		if !used[in] && in.Start >= in.Limit { // only there to be first: the executable's
			continue
		}
		d.mappings[in] = profile.MappingID(len(d.out.Mappings))
		d.out.Mappings = append(d.out.Mappings, profile.Mapping{
			Start: profile.Addr(in.Start), Limit: profile.Addr(in.Limit), Offset: int64(min(in.Offset, math.MaxInt64)),
			Path: mappingPath(in), BuildID: readBuildID(in.BuildID), Kind: kind(in),
		})
	}
}

// kind tells by the name that a mapping goes by what is behind it. Kernel
// modules have names in brackets, too, and lie where the kernel does: in the
// upper half of the addresses.
func kind(m *pb.Mapping) profile.MappingKind {
	switch {
	case strings.HasPrefix(m.File, profile.KernelPath): // perf_to_profile appends a symbol
		return profile.MappingKernel
	case m.File == "[vdso]":
		return profile.MappingVDSO
	case m.File == "" || m.File == "[anonymous]" || m.File == "//anon":
		return profile.MappingAnonymous
	case m.File[0] == '[' && m.Start >= 1<<63:
		return profile.MappingKernel
	}
	return profile.MappingObject
}

func mappingPath(m *pb.Mapping) string {
	switch {
	case strings.HasPrefix(m.File, profile.KernelPath):
		return profile.KernelPath
	case kind(m) == profile.MappingAnonymous:
		return ""
	}
	return m.File
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

func (d *decoder) addAddresses() {
	for _, l := range d.in.Location {
		// Callers' addresses lie inside the call in this format: they are looked
		// up as they stand.
		a := profile.Address{Addr: profile.Addr(l.Address), Mapping: profile.NoMapping}
		if id, ok := d.mappings[l.Mapping]; ok {
			a.Mapping = id
		}
		d.addFrames(&a, l.Line)
		d.addresses[l] = profile.AddressID(len(d.out.Addresses))
		d.out.Addresses = append(d.out.Addresses, a)
	}
}

func (d *decoder) addFrames(a *profile.Address, lines []pb.Line) {
	m := d.out.Mapping(a.Mapping)
	unknown := profile.UnknownFrame(m)
	if len(lines) == 0 {
		a.Frames = []profile.Frame{unknown}
		return
	}
	if f := lines[0].Function; len(lines) == 1 && f.Filename == "" && (f.Name == "" || f.Name == unknown.Name || f.Name == "[unknown]") {
		a.ObjAddr = readObjAddr(m, f.SystemName)
		unknown.Name, unknown.SystemName = f.Name, f.SystemName
		a.Frames = []profile.Frame{unknown}
		return
	}
	a.Frames = make([]profile.Frame, len(lines))
	for i, l := range lines {
		f := &a.Frames[i]
		*f = profile.Frame{Name: l.Function.Name, SystemName: l.Function.SystemName, File: l.Function.Filename,
			Line: int(max(0, min(l.Line, math.MaxInt32))), Kind: unknown.Kind}
	}
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

func (d *decoder) addSamples() error {
	d.out.Samples = make([]profile.Sample, len(d.in.Sample))
	total := uint64(0)
	for i, in := range d.in.Sample {
		s := &d.out.Samples[i]
		n := in.Value[d.value]
		if n < 0 {
			return fmt.Errorf("%w but a difference of two profiles", ErrValues)
		}
		s.Count = uint64(n / d.each)
		if total += s.Count; total > math.MaxInt64 {
			return fmt.Errorf("%w: the samples add up to more than 63 bits", ErrFormat)
		}
		if d.time >= 0 && in.Value[d.time] > 0 && in.Value[d.time] != product(s.Count, d.in.Period) {
			s.Time = time.Duration(in.Value[d.time])
		}
		s.Addresses = make([]profile.AddressID, len(in.Location))
		for j, l := range in.Location {
			s.Addresses[j] = d.addresses[l]
		}
		d.addLabels(s, in)
	}
	return nil
}

// addLabels takes from a sample's labels what belongs to a sample of ours. Of
// thread names and numbers there are several spellings; ours come first.
func (d *decoder) addLabels(s *profile.Sample, in *pb.Sample) {
	var used [5]string
	used[0], s.Comm = first(in.Label, labelComm, "thread_name", "thread")
	if key, value := first(in.Label, labelTruncated); value == yes {
		used[1], s.Truncated = key, true
	}
	var pid, tid int64
	used[2], s.Host = first(in.Label, labelHost)
	used[3], pid = first(in.NumLabel, labelPID, "process_id")
	used[4], tid = first(in.NumLabel, labelTID, "thread_id")
	s.PID, s.TID = int(pid), int(tid)
	for key := range in.Label {
		if !slices.Contains(used[:3], key) {
			d.dropped[key]++
		}
	}
	for key := range in.NumLabel {
		if !slices.Contains(used[3:], key) {
			d.dropped[key]++
		}
	}
}

// first returns the first of the keys that is there, and its first value.
func first[V any](labels map[string][]V, keys ...string) (key string, value V) {
	for _, key := range keys {
		if values := labels[key]; len(values) > 0 {
			return key, values[0]
		}
	}
	return "", value
}
