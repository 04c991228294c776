// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"math"
	"strings"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// mapping is one as it is written.
type mapping struct {
	id, start, limit, offset                           uint64
	file                                               uint64 // in the string table
	buildID                                            string
	functions, filenames, lineNumbers, inlineFunctions bool // of its addresses are known
}

// findMappings makes e.mappings, and returns them in the order in which they are
// written: those of the first target's executable first, because pprof names
// the profile after the first mapping's file. An executable that no sample went
// through is one more, an empty range.
func (e *encoder) findMappings() []*mapping {
	main := ""
	if len(e.in.Meta.Targets) > 0 {
		main = e.in.Meta.Targets[0].Command
	}
	e.mappings = make([]*mapping, len(e.in.Mappings))
	var first, rest []*mapping
	for i := range e.in.Mappings {
		in := &e.in.Mappings[i]
		m := &mapping{
			start: uint64(in.Start), limit: uint64(in.Limit), offset: uint64(max(in.Offset, 0)),
			file: e.text(file(in)), buildID: buildID(in.BuildID),
		}
		e.mappings[i] = m
		if in.Kind == profile.MappingObject && main != "" && in.Path == main {
			first = append(first, m)
		} else {
			rest = append(rest, m)
		}
	}
	if len(first) == 0 && main != "" {
		first = []*mapping{{file: e.text(main)}}
	}
	all := append(first, rest...)
	for i, m := range all {
		m.id = uint64(i + 1)
	}
	e.describeMappings()
	return all
}

func (e *encoder) addMapping(in *mapping) {
	m := e.whole.reset()
	m.varint(mappingID, in.id)
	m.varint(mappingStart, in.start)
	m.varint(mappingLimit, in.limit)
	m.varint(mappingOffset, in.offset)
	m.varint(mappingFile, in.file)
	m.varint(mappingBuildID, e.cleanText(in.buildID))
	m.bool(mappingHasFunctions, in.functions)
	m.bool(mappingHasFilenames, in.filenames)
	m.bool(mappingHasLineNumbers, in.lineNumbers)
	m.bool(mappingHasInlineFrames, in.inlineFunctions)
	e.write(fieldMapping, *m)
}

// describeMappings says what is known of each mapping's addresses. pprof looks
// for the file and its names only where it has no functions.
func (e *encoder) describeMappings() {
	for i := range e.in.Addresses {
		a := &e.in.Addresses[i]
		m := e.mapping(a.Mapping)
		if m == nil {
			continue
		}
		for j := range a.Frames {
			m.functions = m.functions || !a.Frames[j].Unknown
			m.filenames = m.filenames || a.Frames[j].File != ""
			m.lineNumbers = m.lineNumbers || a.Frames[j].Line > 0
		}
		m.inlineFunctions = m.inlineFunctions || len(a.Frames) > 1
		if e.in.Mappings[a.Mapping].Kind == profile.MappingKernel {
			m.widen(uint64(a.Lookup()))
		}
	}
}

// widen makes the kernel's mapping contain an address. Modules and BPF programs
// lie far from the kernel's own text, whatever range was found for that.
func (m *mapping) widen(address uint64) {
	if address == math.MaxUint64 {
		return // no half-open range contains it
	}
	if m.limit == 0 {
		m.start, m.limit = address, address+1
		return
	}
	m.start = min(m.start, address)
	m.limit = max(m.limit, address+1)
}

func (e *encoder) mapping(id profile.MappingID) *mapping {
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
