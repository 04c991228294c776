// SPDX-License-Identifier: Apache-2.0

// Package folded writes and reads folded stacks, the text that flame graph
// tools accept: one line for each unique stack,
//
//	thread;outermost;…;innermost count
//
// with the host before the thread where the profile is asked for by host,
//
// root first, with a positive integer count and no header, sorted so that two
// files can be compared line by line.
//
// The format has no specification, only readers, and no way to quote. So a
// name is spelled in the way that every known reader takes for one name:
//
//   - flamegraph.pl and difffolded.pl (github.com/brendangregg/FlameGraph)
//     match ^(.*)\s+?(\d+(?:\.\d*)?)$ and then match the stack part again: a
//     second number makes a line a differential one;
//   - speedscope (src/import/bg-flamegraph.ts) matches ^(.*) (\d+)$;
//   - the Firefox profiler matches ([^;]*(?:;[^;]*)*) ([0-9]+);
//   - inferno and flamelens cut at the last space.
package folded

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Annotate says which frames get a suffix that tells whose code they are.
// flamegraph.pl and inferno color by the suffix and hide it, speedscope and
// the Firefox profiler show it as part of the name.
type Annotate uint8

const (
	AnnotateKernel Annotate = iota // _[k] on kernel frames, the default
	AnnotateNone                   // nothing
	AnnotateAll                    // also _[i] on inlined frames and _[j] on code without a file, a JIT's
)

// Options of Write. The zero value is what most readers want.
type Options struct {
	Annotate Annotate
}

// Write writes p as folded stacks. Stacks that are spelled alike are one line,
// whichever thread or process they come from, so the counts of all lines add
// up to the samples of p.
func Write(w io.Writer, p *profile.Profile, o Options) error {
	t := text{
		ids:     map[string]uint32{},
		spelled: map[rawName]uint32{},
		index:   map[string]int{},
	}
	var path []profile.Step
	var suffixes []string
	for i := range p.Samples {
		s := &p.Samples[i]
		if s.Count == 0 {
			continue // readers take positive counts only
		}
		path = p.AppendPath(path[:0], s)
		suffixes = suffixes[:0]
		for j := range path {
			suffixes = append(suffixes, suffix(&path[j], o.Annotate))
		}
		t.add(path, suffixes, s.Count)
	}
	slices.SortFunc(t.lines, t.compare)
	out := bufio.NewWriter(w)
	var b []byte
	for _, l := range t.lines {
		b = append(t.appendFrom(b[:0], l, 0), '\n')
		out.Write(b)
	}
	return out.Flush() // which also returns what any write before it met
}

// suffix is what tells whose code a step is.
func suffix(st *profile.Step, annotate Annotate) string {
	switch {
	case annotate == AnnotateNone || !st.Kind.Code():
	case st.Kind == profile.FrameKernel:
		return "_[k]"
	case annotate != AnnotateAll:
	case st.Inlined:
		return "_[i]"
	case st.Object == profile.AnonymousObject:
		return "_[j]"
	}
	return ""
}

// text is the lines while they are collected. Profiles have many stacks of few
// functions, so a line is kept as 4 bytes a frame, not as its text.
type text struct {
	names   []string           // by ID, as they are written
	ids     map[string]uint32  // by name as it is written
	spelled map[rawName]uint32 // the same IDs by name as it was given

	lines []line
	index map[string]int // line by its frames' IDs
	key   []byte
}

// rawName is what the spelling of a frame depends on.
type rawName struct {
	name   string
	thread bool // or host
	suffix string
}

type line struct {
	frames []uint32 // IDs, root first
	count  uint64
}

// add counts a stack. Names are IDs by their spelling and hold no ';', so equal
// IDs and equal lines are the same thing.
func (t *text) add(path []profile.Step, suffixes []string, count uint64) {
	t.key = t.key[:0]
	for i, st := range path {
		t.key = binary.LittleEndian.AppendUint32(t.key, t.id(st, suffixes[i]))
	}
	if i, ok := t.index[string(t.key)]; ok {
		t.lines[i].count += count
		return
	}
	frames := make([]uint32, len(path))
	for i := range frames {
		frames[i] = binary.LittleEndian.Uint32(t.key[4*i:])
	}
	t.index[string(t.key)] = len(t.lines)
	t.lines = append(t.lines, line{frames, count})
}

func (t *text) id(st profile.Step, suffix string) uint32 {
	raw := rawName{st.Name, !st.Kind.Code(), suffix}
	if id, ok := t.spelled[raw]; ok {
		return id
	}
	name := spell(raw.name) + suffix
	if raw.thread {
		name = spellThread(raw.name)
	}
	id, ok := t.ids[name]
	if !ok {
		id = uint32(len(t.names))
		t.names = append(t.names, name)
		t.ids[name] = id
	}
	t.spelled[raw] = id
	return id
}

// appendFrom appends the line's text from its i-th frame on.
func (t *text) appendFrom(to []byte, l line, i int) []byte {
	for ; i < len(l.frames); i++ {
		if i > 0 {
			to = append(to, ';')
		}
		to = append(to, t.names[l.frames[i]]...)
	}
	to = append(to, ' ')
	return strconv.AppendUint(to, l.count, 10)
}

// compare orders lines by the bytes of their text, as LC_ALL=C sort does,
// mostly without making the text.
func (t *text) compare(a, b line) int {
	n := min(len(a.frames), len(b.frames))
	i := 0
	for i < n && a.frames[i] == b.frames[i] {
		i++
	}
	if i == n { // one stack continues the other; the space before a count is less than ';'
		return len(a.frames) - len(b.frames)
	}
	x, y := t.names[a.frames[i]], t.names[b.frames[i]]
	if !strings.HasPrefix(x, y) && !strings.HasPrefix(y, x) {
		return strings.Compare(x, y)
	}
	return bytes.Compare(t.appendFrom(nil, a, i), t.appendFrom(nil, b, i))
}
