// SPDX-License-Identifier: Apache-2.0

// Package speedscope writes profiles for https://www.speedscope.app: a JSON
// file with one sampled profile for each process, or for each host where there
// are several.
//
// The format is specified by
// https://www.speedscope.app/file-format-schema.json. Weights are samples, with
// unit "none", rather than nanoseconds: totals can then be checked against any
// other format, and are exact.
package speedscope

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// MetadataKey is the member of the file that carries the profile.Metadata. The
// schema knows nothing of it but allows it, and speedscope ignores it.
const MetadataKey = "serviceradar-profiler"

// Write writes p as a speedscope file.
func Write(w io.Writer, p *profile.Profile) error {
	e := &encoder{p: p, out: bufio.NewWriter(w), frames: map[frame]int{}}
	e.collect()
	e.file()
	if e.err != nil {
		return e.err
	}
	return e.out.Flush() // which also returns what any write before it met
}

// encoder writes the file member by member, because the stacks of a large
// profile are several times larger as values for encoding/json than as text.
type encoder struct {
	p   *profile.Profile
	out *bufio.Writer
	err error // of making JSON; out keeps its own

	frames    map[frame]int // index in shared.frames
	shared    []frame
	processes []process // by PID
	path      []profile.Step
	scratch   []byte
}

// frame is what speedscope knows of a function. Its file is the source file, or
// the object the function is in where that is not known: speedscope shows it
// beside the name and colors by it. There are no lines: with them, each line of
// a function would be a function to it.
type frame struct {
	name, file string
	kind       profile.FrameKind
}

func frameOf(st *profile.Step) frame {
	return frame{cmp.Or(st.Name, "[unknown]"), cmp.Or(st.File, st.Object), st.Kind}
}

type process struct {
	host    string // in a profile of several
	pid     int
	samples []*profile.Sample
	total   uint64
}

// collect finds the frames and the processes.
func (e *encoder) collect() {
	index := map[profile.Thread]int{}
	for i := range e.p.Samples {
		s := &e.p.Samples[i]
		of := profile.Thread{Host: s.Host, PID: s.PID}
		if len(e.p.Meta.Hosts) > 0 {
			of.PID = 0 // a fleet has too many processes to pick one from
		}
		at, ok := index[of]
		if !ok {
			at = len(e.processes)
			index[of] = at
			e.processes = append(e.processes, process{host: of.Host, pid: of.PID})
		}
		e.processes[at].samples = append(e.processes[at].samples, s)
		e.processes[at].total += s.Count
		e.path = e.p.AppendPath(e.path[:0], s)
		for i := range e.path {
			f := frameOf(&e.path[i])
			if _, ok := e.frames[f]; !ok {
				e.frames[f] = len(e.shared)
				e.shared = append(e.shared, f)
			}
		}
	}
	if len(e.processes) == 0 { // speedscope wants at least one
		var pid int
		if ts := e.p.Meta.Targets; len(ts) > 0 {
			pid = ts[0].PID
		}
		e.processes = []process{{pid: pid}}
	}
	slices.SortFunc(e.processes, func(a, b process) int {
		return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.pid, b.pid))
	})
}

func (e *encoder) file() {
	busiest := 0
	for i := range e.processes {
		if e.processes[i].total > e.processes[busiest].total {
			busiest = i
		}
	}
	m := &e.p.Meta
	e.text(`{"$schema":"https://www.speedscope.app/file-format-schema.json","exporter":`)
	e.value("serviceradar-profiler@" + m.ToolVersion)
	e.text(`,"name":`)
	e.value(e.title())
	e.text(`,"activeProfileIndex":` + strconv.Itoa(busiest))
	e.text(`,"` + MetadataKey + `":`)
	e.value(m)
	e.text(",\n" + `"shared":{"frames":[`)
	for i := range e.shared {
		e.separate(i)
		e.frame(&e.shared[i])
	}
	e.text("]},\n" + `"profiles":[`)
	for i := range e.processes {
		e.separate(i)
		e.profile(&e.processes[i])
	}
	e.text("]}\n")
}

// title is the name of the whole file.
func (e *encoder) title() string {
	m := &e.p.Meta
	title := m.Command()
	if title == "" {
		title = "CPU profile"
	}
	if m.Host != "" {
		title += " on " + m.Host
	}
	if !m.Start.IsZero() {
		title += m.Start.UTC().Format(", 2006-01-02 15:04:05 UTC")
	}
	return title
}

func (e *encoder) frame(f *frame) {
	e.text(`{"name":`)
	e.value(f.name)
	if f.file != "" {
		e.text(`,"file":`)
		e.value(f.file)
	}
	e.text("}")
}

func (e *encoder) profile(pr *process) {
	total := strconv.FormatUint(pr.total, 10)
	e.text(`{"type":"sampled","name":`)
	// speedscope opens with its time order view, but the stacks are merged.
	whose := fmt.Sprintf("%s, PID %d", e.command(pr), pr.pid)
	if len(e.p.Meta.Hosts) > 0 {
		whose = cmp.Or(pr.host, e.p.Meta.Host)
	}
	e.value(fmt.Sprintf("%s (%s samples, not in time order)", whose, total))
	e.text(`,"unit":"none","startValue":0,"endValue":` + total)
	e.text(",\n" + `"samples":[`)
	for i, s := range pr.samples {
		e.separate(i)
		e.stack(s)
	}
	e.text("],\n" + `"weights":[`)
	for i, s := range pr.samples {
		if i > 0 {
			e.text(",")
		}
		e.text(strconv.FormatUint(s.Count, 10))
	}
	e.text("]}")
}

// command is the short name of a process.
func (e *encoder) command(pr *process) string {
	for _, t := range e.p.Meta.Targets {
		if t.PID == pr.pid && t.Title() != "" {
			return t.Title()
		}
	}
	if len(pr.samples) > 0 && pr.samples[0].Comm != "" {
		return pr.samples[0].Comm
	}
	return "[unknown]"
}

// stack writes a sample's frames, root first.
func (e *encoder) stack(s *profile.Sample) {
	e.path = e.p.AppendPath(e.path[:0], s)
	b := append(e.scratch[:0], '[')
	for i := range e.path {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(e.frames[frameOf(&e.path[i])]), 10)
	}
	e.scratch = append(b, ']')
	e.out.Write(e.scratch)
}

// separate begins the i-th element of a list, on a line of its own.
func (e *encoder) separate(i int) {
	if i > 0 {
		e.text(",")
	}
	e.text("\n")
}

func (e *encoder) text(s string) { e.out.WriteString(s) }

// value writes any value as JSON. encoding/json replaces invalid UTF-8.
func (e *encoder) value(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		e.err = cmp.Or(e.err, fmt.Errorf("encode %T: %w", v, err))
		return
	}
	e.out.Write(b)
}
