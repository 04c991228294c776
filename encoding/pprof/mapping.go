// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"math"
	"strings"

	pb "github.com/google/pprof/profile"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// addMappings adds all mappings, those of the first target's executable first:
// pprof names the profile after the first mapping's file. An executable that no
// sample went through is added as an empty range.
func (e *encoder) addMappings() {
	main := ""
	if len(e.in.Meta.Targets) > 0 {
		main = e.in.Meta.Targets[0].Command
	}
	e.mappings = make([]*pb.Mapping, len(e.in.Mappings))
	var first, rest []*pb.Mapping
	for i := range e.in.Mappings {
		in := &e.in.Mappings[i]
		m := &pb.Mapping{
			Start:   uint64(in.Start),
			Limit:   uint64(in.Limit),
			Offset:  uint64(max(in.Offset, 0)),
			File:    file(in),
			BuildID: buildID(in.BuildID),
		}
		e.mappings[i] = m
		if in.Kind == profile.MappingObject && main != "" && in.Path == main {
			first = append(first, m)
		} else {
			rest = append(rest, m)
		}
	}
	if len(first) == 0 && main != "" {
		first = []*pb.Mapping{{File: clean(main)}}
	}
	e.out.Mapping = append(first, rest...)
	for i, m := range e.out.Mapping {
		m.ID = uint64(i + 1)
	}
	e.describeMappings()
}

// describeMappings says what is known of each mapping's addresses. pprof looks
// for the file and its names only where HasFunctions is false.
func (e *encoder) describeMappings() {
	for i := range e.in.Addresses {
		a := &e.in.Addresses[i]
		m := e.mapping(a.Mapping)
		if m == nil {
			continue
		}
		for j := range a.Frames {
			m.HasFunctions = m.HasFunctions || !a.Frames[j].Unknown
			m.HasFilenames = m.HasFilenames || a.Frames[j].File != ""
			m.HasLineNumbers = m.HasLineNumbers || a.Frames[j].Line > 0
		}
		m.HasInlineFrames = m.HasInlineFrames || len(a.Frames) > 1
		if e.in.Mappings[a.Mapping].Kind == profile.MappingKernel {
			widen(m, uint64(a.Lookup()))
		}
	}
}

// widen makes the kernel's mapping contain an address. Modules and BPF programs
// lie far from the kernel's own text, whatever range was found for that.
func widen(m *pb.Mapping, address uint64) {
	if address == math.MaxUint64 {
		return // no half-open range contains it
	}
	if m.Limit == 0 {
		m.Start, m.Limit = address, address+1
		return
	}
	m.Start = min(m.Start, address)
	m.Limit = max(m.Limit, address+1)
}

func (e *encoder) mapping(id profile.MappingID) *pb.Mapping {
	if id < 0 || int(id) >= len(e.mappings) {
		return nil
	}
	return e.mappings[id]
}

// file is the name pprof knows a mapping by. It searches the disk for all but
// those in brackets.
func file(m *profile.Mapping) string {
	switch {
	case m.Kind == profile.MappingKernel && m.Object() == "[kernel]":
		return profile.KernelPath
	case m.Kind == profile.MappingObject && m.Path != "":
		return clean(m.Path)
	}
	return m.Object()
}

// buildID is the build ID as pprof compares it with a file's: the GNU build ID
// in hex, or Go's. A hash of the file is no build ID to pprof, which would
// refuse the very file; and since the name comes from the target's file and
// pprof makes paths of it, anything else that it should not contain is refused.
func buildID(id profile.BuildID) string {
	goID, isGo := strings.CutPrefix(string(id), "go:")
	for _, c := range []byte(goID) {
		hex := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		base64 := hex || 'g' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '_' || c == '/'
		if !hex && !(isGo && base64) {
			return ""
		}
	}
	return goID
}
