// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"io"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// maxUnnamed is how many objects without names the report lists.
const maxUnnamed = 5

// unnamed lists the objects whose code has no name, in short.
func (r *reporter) unnamed() {
	us := r.m.Unnamed
	if len(us) == 0 {
		return
	}
	r.heading("Without a name" + note(leftOut(len(us)-maxUnnamed)))
	us = us[:min(len(us), maxUnnamed)]
	object := len("object")
	for i := range us {
		object = min(max(object, width(printable(us[i].Object))), r.o.Width/4)
	}
	r.line("  %7s  %7s  %s  %s", "samples", "self", pad("object", object), "why -> what to do")
	for i := range us {
		u := &us[i]
		why := printable(u.Why)
		if u.Remedy != "" {
			why += " -> " + printable(u.Remedy)
		}
		head := fmt.Sprintf("  %7s  %7s  ", percent(u.Samples, r.samples), percent(u.Self, r.samples))
		r.hanging(head+pad(cut(printable(u.Object), object), object)+"  ", len(head), "", why)
	}
}

// leftOut is a remark that n objects are not shown.
func leftOut(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("%d more: --explain lists all", n)
}

// Explain writes all that is known of the code of p that has no name: how much
// it is, which object, by build ID, why, and what to do about it.
func Explain(w io.Writer, p *profile.Profile, o Options) error {
	r := newReporter(w, p, o)
	if len(r.m.Unnamed) == 0 {
		r.line("Every frame has a name.")
		return r.out.Flush()
	}
	r.line("%s", r.paint(bold, fmt.Sprintf("Without a name: some frame in %s of %d samples, the function that ran in %s",
		percent(r.m.Counts.Unknown, r.samples), r.samples, percent(r.unknownLeaves(), r.samples))))
	for i := range r.m.Unnamed {
		r.explain(&r.m.Unnamed[i])
	}
	return r.out.Flush()
}

func (r *reporter) explain(u *profile.Unnamed) {
	r.line("\n%s", r.paint(yellow, printable(cmp.Or(u.Path, u.Object))))
	r.field("samples", fmt.Sprintf("%d (%s), %s at %s", u.Samples, percent(u.Samples, r.samples),
		"the function that ran in "+percent(u.Self, r.samples), addresses(u.Addresses)))
	r.field("build ID", printable(string(u.BuildID)))
	r.field("why", printable(u.Why))
	r.field("remedy", printable(u.Remedy))
}

func addresses(n int) string {
	if n == 1 {
		return "1 address"
	}
	return fmt.Sprintf("%d addresses", n)
}
