// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// mostHosts is how many hosts are listed: those with the most samples, after
// those that are missing.
const mostHosts = 20

// hosts is what each host gave to a profile of several: one that differs from
// the others is what one looks for in a fleet.
func (r *reporter) hosts() {
	all := slices.SortedStableFunc(slices.Values(r.m.Hosts), func(a, b profile.HostPart) int {
		missing := func(h *profile.HostPart) int { return min(len(h.Missing), 1) }
		return cmp.Or(cmp.Compare(missing(&b), missing(&a)), cmp.Compare(b.Samples, a.Samples))
	})
	if len(all) == 0 {
		return
	}
	var taken uint64 // as they are, where the table's are at one frequency
	width := 4
	shown := all[:min(len(all), mostHosts)]
	for i := range all {
		taken += all[i].Samples
	}
	for i := range shown {
		width = min(max(width, len(printable(shown[i].Host))), 40)
	}
	title := "Hosts by samples"
	if len(shown) < len(all) {
		title += fmt.Sprintf(", the first %d of %d", len(shown), len(all))
	}
	r.heading(title)
	for i := range shown {
		h := &shown[i]
		name := pad(cut(printable(h.Host), width), width)
		if h.Missing != "" {
			r.hanging("  "+name+"  ", 4, yellow, "missing: "+printable(h.Missing))
			continue
		}
		r.line("  %s  %7s  %d samples at %d Hz in %s, %d lost", name, percent(h.Samples, taken), h.Samples, h.FrequencyHz,
			seconds(time.Duration(h.DurationNs)), h.Lost)
	}
}
