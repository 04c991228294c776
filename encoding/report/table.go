// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strconv"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// kernelMark follows the names of kernel functions, as in folded text.
const kernelMark = "_[k]"

// columns is the table's layout: the width of each column.
type columns struct {
	count    int // both sample counts
	function int
	object   int
}

// fixed is the columns that no name changes: both percentages with the indent
// before and the spaces between them and all others.
const fixed = 2 + len("100.00%") + 2 + 2 + len("100.00%") + 2 + 2 + 2

// table writes the hottest functions, those with the most self samples first.
func (r *reporter) table(fs []profile.Function) {
	if r.samples == 0 {
		r.heading("No samples")
		r.line("  %s", r.whyNone())
		return
	}
	shown := fs
	if r.o.Top >= 0 && len(fs) > r.o.Top {
		shown = fs[:r.o.Top]
	}
	title := "Functions by self samples"
	if len(shown) < len(fs) {
		title += fmt.Sprintf(", the first %d of %d", len(shown), len(fs))
	}
	r.heading(title)
	c := r.layout(shown)
	r.line("  %7s  %*s  %7s  %*s  %s  %s", "self %", c.count, "self", "total %", c.count, "total",
		pad("function", c.function), "object")
	for i := range shown {
		r.row(c, &shown[i])
	}
}

func (r *reporter) row(c columns, f *profile.Function) {
	r.line("  %7s  %*d  %7s  %*d  %s  %s",
		percent(f.Self, r.samples), c.count, f.Self,
		percent(f.Total, r.samples), c.count, f.Total,
		r.functionCell(c, f), cut(object(f), c.object))
}

// functionCell is a function's name, padded, the kernel's marked.
func (r *reporter) functionCell(c columns, f *profile.Function) string {
	if f.Kind != profile.FrameKernel {
		return pad(cut(name(f), c.function), c.function)
	}
	return r.paint(cyan, pad(cut(name(f), c.function-len(kernelMark))+kernelMark, c.function))
}

func name(f *profile.Function) string {
	if f.Name == "" {
		return "[unknown]"
	}
	return printable(f.Name)
}

func object(f *profile.Function) string {
	if f.Object == "" {
		return "-" // in no mapping
	}
	return printable(f.Object)
}

// layout fits the columns to the names and the width. Objects get what they
// need up to a quarter of the width; functions get the rest, up to what they
// need.
func (r *reporter) layout(fs []profile.Function) columns {
	c := columns{
		count:    max(len("total"), len(strconv.FormatUint(r.samples, 10))),
		function: len("function"),
		object:   len("object"),
	}
	for i := range fs {
		w := width(name(&fs[i]))
		if fs[i].Kind == profile.FrameKernel {
			w += len(kernelMark)
		}
		c.function = max(c.function, w)
		c.object = max(c.object, width(object(&fs[i])))
	}
	c.object = min(c.object, r.o.Width/4)
	c.function = min(c.function, max(r.o.Width-fixed-2*c.count-c.object, len("function")))
	return c
}

// whyNone is the likely reason for a profile without samples.
func (r *reporter) whyNone() string {
	switch {
	case r.m.Counts.Lost > 0:
		return "Samples were taken, but all of them were lost."
	case r.m.CPUTimeNs > 0:
		return "The target used less CPU time than to be sampled once."
	}
	return "The target did not run: only threads that use a CPU are sampled, not those that wait."
}
