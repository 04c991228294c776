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
	"cmp"
	"fmt"
	"io"
	"math"
	"math/bits"

	pb "github.com/google/pprof/profile"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Write writes p in pprof's format.
func Write(w io.Writer, p *profile.Profile) error {
	out := encode(p)
	if err := out.CheckValid(); err != nil {
		return fmt.Errorf("check pprof profile: %w", err)
	}
	return out.Write(w)
}

// encoder makes a pprof profile of one of ours. IDs in the output are small and
// count up from 1, because speedscope cuts them to 32 bits.
type encoder struct {
	in  *profile.Profile
	out *pb.Profile

	mappings  []*pb.Mapping  // by profile.MappingID
	locations []*pb.Location // by profile.AddressID
	functions map[function]*pb.Function
}

type function struct{ name, systemName, file string }

func encode(p *profile.Profile) *pb.Profile {
	e := &encoder{in: p, functions: map[function]*pb.Function{}}
	cpu := pb.ValueType{Type: "cpu", Unit: "nanoseconds"}
	e.out = &pb.Profile{
		SampleType:        []*pb.ValueType{{Type: "samples", Unit: "count"}, &cpu},
		DefaultSampleType: cpu.Type,
		PeriodType:        &pb.ValueType{Type: cpu.Type, Unit: cpu.Unit},
		Period:            p.Meta.FrequencyHz.Period().Nanoseconds(),
		DurationNanos:     p.Meta.DurationNs,
		Comments:          comments(&p.Meta),
	}
	if !p.Meta.Start.IsZero() {
		e.out.TimeNanos = p.Meta.Start.UnixNano()
	}
	e.addMappings()
	e.addLocations()
	e.addSamples()
	return e.out
}

func (e *encoder) addLocations() {
	e.locations = make([]*pb.Location, len(e.in.Addresses))
	for i := range e.in.Addresses {
		a := &e.in.Addresses[i]
		// Readers look an address up as it stands, and take that of a caller
		// to lie inside its call instruction; Lookup puts it there. The return
		// address itself may belong to the next line, or the next function.
		at := uint64(a.Lookup())
		l := &pb.Location{ID: uint64(i + 1), Address: at}
		if m := e.mapping(a.Mapping); m != nil && m.Start <= at && at < m.Limit {
			l.Mapping = m
		}
		l.Line = e.lines(a)
		e.locations[i] = l
	}
	e.out.Location = e.locations
}

// lines is the frames of an address, innermost first as pprof has them too. An
// address without a name gets a function all the same: speedscope drops
// locations that have none. Its mapping's HasFunctions tells pprof the truth.
func (e *encoder) lines(a *profile.Address) []pb.Line {
	if len(a.Frames) == 0 {
		f := profile.UnknownFrame(e.in.Mapping(a.Mapping))
		return []pb.Line{{Function: e.unknown(a, &f)}}
	}
	if len(a.Frames) == 1 && a.Frames[0].Unknown {
		return []pb.Line{{Function: e.unknown(a, &a.Frames[0])}}
	}
	lines := make([]pb.Line, len(a.Frames))
	for i := range a.Frames {
		lines[i].Function = e.function(&a.Frames[i])
		lines[i].Line = int64(a.Frames[i].Line)
	}
	return lines
}

// unknown is the function of an address without a name. Where the address lies
// in its object is its system name, libfoo.so+0x1234: with the build ID of the
// mapping that is all it takes to name it later, on any machine.
func (e *encoder) unknown(a *profile.Address, f *profile.Frame) *pb.Function {
	if m := e.in.Mapping(a.Mapping); m != nil && a.ObjAddr != 0 {
		named := *f
		named.SystemName = m.Object() + "+" + a.ObjAddr.String()
		f = &named
	}
	return e.function(f)
}

func (e *encoder) function(f *profile.Frame) *pb.Function {
	k := function{clean(f.Name), clean(f.SystemName), clean(f.File)}
	if k.name == "" {
		k.name = "[unknown]"
	}
	if k.systemName == "" {
		k.systemName = k.name
	}
	if kept := e.functions[k]; kept != nil {
		return kept
	}
	added := &pb.Function{ID: uint64(len(e.out.Function) + 1), Name: k.name, SystemName: k.systemName, Filename: k.file}
	e.functions[k] = added
	e.out.Function = append(e.out.Function, added)
	return added
}

func (e *encoder) addSamples() {
	e.out.Sample = make([]*pb.Sample, len(e.in.Samples))
	for i := range e.in.Samples {
		s := &e.in.Samples[i]
		comm := clean(s.Comm)
		if comm == "" { // pprof has no empty labels
			comm = "[unknown]"
		}
		stack := make([]*pb.Location, len(s.Addresses))
		for j, id := range s.Addresses {
			stack[j] = e.locations[id]
		}
		e.out.Sample[i] = &pb.Sample{
			Location: stack,
			Value:    []int64{product(s.Count, 1), cmp.Or(int64(s.Time), product(s.Count, e.out.Period))},
			Label:    map[string][]string{labelComm: {comm}},
			NumLabel: map[string][]int64{},
		}
		if s.PID != 0 || s.Host == "" { // else it was forgotten, or is the same on all hosts
			e.out.Sample[i].NumLabel[labelPID] = []int64{int64(s.PID)}
		}
		if s.TID != 0 || s.Host == "" {
			e.out.Sample[i].NumLabel[labelTID] = []int64{int64(s.TID)}
		}
		if s.Host != "" {
			e.out.Sample[i].Label[labelHost] = []string{cmp.Or(clean(s.Host), "[unknown]")}
		}
		if s.Truncated {
			e.out.Sample[i].Label[labelTruncated] = []string{yes}
		}
	}
}

// Labels of samples.
const (
	labelComm      = "comm" // of the thread
	labelPID       = "pid"
	labelTID       = "tid"
	labelTruncated = "truncated" // yes, or it is not there
	labelHost      = "host"      // in a profile of several
	yes            = "yes"
)

// product is count × each, the largest possible value if that is too much.
func product(count uint64, each int64) int64 {
	high, low := bits.Mul64(count, uint64(max(each, 0)))
	if high != 0 || low > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(low)
}
