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

// addSamples adds the samples. What they have in common they share, because the
// library only reads it: a merged profile has each stack many times, and the
// labels of a thread are larger than the rest of a sample.
func (e *encoder) addSamples() {
	e.out.Sample = make([]*pb.Sample, len(e.in.Samples))
	samples := make([]pb.Sample, len(e.in.Samples))
	values := make([]int64, 2*len(samples))
	stacks := map[*profile.AddressID][]*pb.Location{}
	texts, numbers := map[sampleTexts]map[string][]string{}, map[sampleNumbers]map[string][]int64{}
	for i := range e.in.Samples {
		s := &e.in.Samples[i]
		v := values[2*i : 2*i+2 : 2*i+2]
		v[0], v[1] = product(s.Count, 1), cmp.Or(int64(s.Time), product(s.Count, e.out.Period))
		text := sampleTexts{s.Comm, s.Host, s.Truncated}
		if texts[text] == nil {
			texts[text] = text.labels()
		}
		number := sampleNumbers{s.PID, s.TID, s.Host == ""}
		if numbers[number] == nil {
			numbers[number] = number.labels()
		}
		samples[i] = pb.Sample{Location: e.stack(stacks, s.Addresses), Value: v, Label: texts[text], NumLabel: numbers[number]}
		e.out.Sample[i] = &samples[i]
	}
}

func (e *encoder) stack(known map[*profile.AddressID][]*pb.Location, ids []profile.AddressID) []*pb.Location {
	if len(ids) == 0 {
		return nil
	}
	stack, ok := known[&ids[0]]
	if !ok || len(stack) != len(ids) {
		stack = make([]*pb.Location, len(ids))
		for j, id := range ids {
			stack[j] = e.locations[id]
		}
		known[&ids[0]] = stack
	}
	return stack
}

// sampleTexts is what a sample's labels with text are made of.
type sampleTexts struct {
	comm, host string
	truncated  bool
}

func (t *sampleTexts) labels() map[string][]string {
	labels := map[string][]string{labelComm: {cmp.Or(clean(t.comm), "[unknown]")}} // pprof has no empty labels
	if t.host != "" {
		labels[labelHost] = []string{cmp.Or(clean(t.host), "[unknown]")}
	}
	if t.truncated {
		labels[labelTruncated] = []string{yes}
	}
	return labels
}

// sampleNumbers is what its labels with numbers are made of.
type sampleNumbers struct {
	pid, tid int
	alone    bool // not of several hosts
}

// labels leaves out what was forgotten of a sample of several hosts.
func (n *sampleNumbers) labels() map[string][]int64 {
	labels := map[string][]int64{}
	if n.pid != 0 || n.alone {
		labels[labelPID] = []int64{int64(n.pid)}
	}
	if n.tid != 0 || n.alone {
		labels[labelTID] = []int64{int64(n.tid)}
	}
	return labels
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
