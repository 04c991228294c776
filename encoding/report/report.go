// SPDX-License-Identifier: Apache-2.0

// Package report writes a profile as text for a terminal: what was sampled,
// the hottest functions, and how good the data is.
//
// The format is for people and may change; scripts should read another one.
package report

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Options of Write.
type Options struct {
	Top   int  // functions shown; 0 means 20, negative all
	Width int  // columns of the terminal, beyond which lines go on below; 0 means a table of 100, and other lines as long as they are
	Color bool // use the terminal's colors
}

// What the zero values of Options mean, and the narrowest table that still has
// room for a few letters of each name.
const (
	defaultTop   = 20
	defaultWidth = 100
	minWidth     = 60
)

// Write writes p as text.
func Write(w io.Writer, p *profile.Profile, o Options) error {
	r := newReporter(w, p, o)
	r.header()
	r.table(p.Functions())
	r.hosts()
	r.quality()
	r.unnamed()
	r.warnings()
	return r.out.Flush() // which also returns what any write before it met
}

// WriteFunctions writes only the table of functions, to be looked at again and
// again.
func WriteFunctions(w io.Writer, p *profile.Profile, o Options) error {
	r := newReporter(w, p, o)
	r.table(p.Functions())
	return r.out.Flush()
}

func newReporter(w io.Writer, p *profile.Profile, o Options) *reporter {
	o.Top = cmp.Or(o.Top, defaultTop)
	broken := o.Width > 0
	o.Width = max(cmp.Or(o.Width, defaultWidth), minWidth)
	r := &reporter{out: bufio.NewWriter(w), p: p, m: &p.Meta, o: o, broken: broken}
	for i := range p.Samples {
		r.samples += p.Samples[i].Count
	}
	return r
}

type reporter struct {
	out     *bufio.Writer
	p       *profile.Profile
	m       *profile.Metadata
	o       Options
	broken  bool // lines are, at the terminal's edge
	samples uint64
}

// line writes a line. All text that is not ours must have come through
// printable.
func (r *reporter) line(format string, args ...any) {
	fmt.Fprintf(r.out, format+"\n", args...)
}

// heading writes a section's title after an empty line.
func (r *reporter) heading(title string) { r.line("\n%s", r.paint(bold, title)) }

// field writes a named value, aligned with the others, unless it is not known.
func (r *reporter) field(name, value string) {
	if value != "" {
		r.hanging(fmt.Sprintf("  %-12s  ", name), fieldIndent, "", value)
	}
}

// fieldIndent is where the values of fields begin.
const fieldIndent = 2 + 12 + 2

// header says what was sampled, where, how long and how.
func (r *reporter) header() {
	m := r.m
	title := printable(cmp.Or(m.Command(), "CPU profile"))
	if len(m.Targets) == 1 && len(m.Hosts) == 0 {
		title += fmt.Sprintf(" (PID %d)", m.Targets[0].PID)
	}
	if m.Host != "" {
		title += " on " + printable(m.Host)
	}
	r.line("%s", r.paint(bold, title))
	if len(m.Targets) > 1 && len(m.Hosts) == 0 {
		for _, t := range m.Targets {
			r.field("target", fmt.Sprintf("PID %d %s", t.PID, printable(t.Command)))
		}
	}
	when := seconds(m.Duration())
	if !m.Start.IsZero() {
		when += " from " + m.Start.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	r.field("duration", when+note(string(m.Ended)))
	if m.FrequencyHz > 0 {
		r.field("frequency", fmt.Sprintf("%d Hz on %s%s", m.FrequencyHz, plural(m.CPUs, "CPU"), note(m.Event)))
	}
	r.field("kernel", strings.TrimSpace(printable(m.Kernel+" "+m.Arch)))
	r.field("tool", strings.TrimSpace(printable(m.Tool+" "+m.ToolVersion)))
}

// quality says how good the data is: the three ways to be imperfect, each
// with its share and what it means, and what else to judge it by.
func (r *reporter) quality() {
	m, c := r.m, r.m.Counts
	r.heading("Quality of the data")
	taken := r.samples + c.Lost
	r.field("samples", fmt.Sprintf("%d of %d taken", r.samples, taken))
	r.share("lost", c.Lost, taken, "taken but not kept, for lack of room")
	r.share("truncated", c.Truncated, r.samples, "stack deeper than the limit, root side missing")
	r.share("unknown", c.Unknown, r.samples, fmt.Sprintf("some frame without a name, in %s the function that ran", percent(r.unknownLeaves(), r.samples)))
	r.field("threads", fmt.Sprint(m.Threads))
	if d := m.Duration(); d > 0 {
		r.field("CPU used", fmt.Sprintf("%.2f CPUs (%s of CPU time in %s)",
			float64(m.CPUTimeNs)/float64(d), seconds(time.Duration(m.CPUTimeNs)), seconds(d)))
	}
	r.field("user stacks", strings.TrimSpace(printable(m.UserStacks)+ends(m.Ends)))
	if !m.FirstSample.IsZero() && !m.Start.IsZero() {
		r.field("first sample", fmt.Sprintf("%v after the start", m.FirstSample.Sub(m.Start).Round(100*time.Microsecond)))
	}
	if m.SymbolizeNs > 0 {
		r.field("symbolized", "in "+time.Duration(m.SymbolizeNs).Round(100*time.Microsecond).String())
	}
}

// unknownLeaves counts the samples whose leaf has no name: what is missing in
// the table above. A nameless frame near the root, as in a stripped libc, makes
// nearly all samples unknown and is little harm.
func (r *reporter) unknownLeaves() uint64 {
	var n uint64
	for i := range r.p.Samples {
		s := &r.p.Samples[i]
		for _, f := range r.p.Frames(s) {
			if f.Unknown {
				n += s.Count
			}
			break
		}
	}
	return n
}

// ends says how the walks of user stacks ended, the most frequent first.
func ends(counts map[string]uint64) string {
	var all uint64
	for _, n := range counts {
		all += n
	}
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var text strings.Builder
	for i, name := range names {
		text.WriteString([]string{": ", ", "}[min(i, 1)])
		text.WriteString(printable(name) + " " + percent(counts[name], all))
	}
	return text.String()
}

// share writes a number of samples and how much of all that is.
func (r *reporter) share(name string, n, of uint64, meaning string) {
	value := fmt.Sprintf("%d (%s)", n, percent(n, of))
	if n == 0 {
		r.field(name, value)
		return
	}
	r.hanging(fmt.Sprintf("  %-12s  ", name), fieldIndent, yellow, value+": "+meaning)
}

func (r *reporter) warnings() {
	if len(r.m.Warnings) == 0 {
		return
	}
	r.heading("Warnings")
	for _, w := range r.m.Warnings {
		r.hanging("  - ", 4, yellow, printable(w))
	}
}

// note is a remark after a value; nothing if there is none.
func note(s string) string {
	if s == "" {
		return ""
	}
	return ", " + printable(s)
}

// percent is n of all, "-" of nothing.
func percent(n, of uint64) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f%%", 100*float64(n)/float64(of))
}

// seconds is a duration as people compare them: always in seconds.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
