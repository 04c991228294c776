// SPDX-License-Identifier: Apache-2.0

// Package flame draws flame graphs: a profile's call tree, where a box is a
// function reached by one path, its width the samples in it and above it its
// callees.
//
// [WriteSVG] makes a picture that also works as a tool: one file, no network,
// readable where scripts do not run. [WriteHTML] makes a page for work on big
// profiles: a canvas, a table of functions, how good the data is.
//
// Names come from the profiled process, so they are a stranger's data. Two
// steps keep them harmless, always in this order: [printable] makes a name
// that every reader can see as it is (no control characters, no bidirectional
// overrides, bounded length), then the writer of the format escapes it for
// where it stands. No name is ever part of a script, an attribute's name or a
// style.
package flame

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Longest names, in characters, with the middle left out beyond: what a
// person reads in a tooltip, and what still makes a search useful.
const (
	titleLimit   = 400  // the tooltip of a frame in the SVG
	nameLimit    = 1500 // a name in the page's data
	headingLimit = 60   // command and host in headings
)

// heading says whose profile this is: "redis-server on web-01".
func heading(m *profile.Metadata) string {
	command := "profile"
	if c := m.Command(); c != "" {
		command = printable(c, headingLimit)
	}
	if m.Host == "" {
		return command
	}
	return command + " on " + printable(m.Host, headingLimit)
}

// quality says in one line what was sampled and how good it is. The ways to
// be imperfect are named when there is something to say.
func quality(m *profile.Metadata, c profile.Counts) string {
	parts := []string{grouped(c.Samples) + " samples"}
	if m.FrequencyHz > 0 {
		parts[0] += fmt.Sprintf(" at %d Hz", m.FrequencyHz)
	}
	if m.DurationNs > 0 {
		parts[0] += " in " + seconds(m.Duration())
	}
	if m.CPUs > 0 {
		parts = append(parts, grouped(uint64(m.CPUs))+" CPUs")
	}
	imperfect := func(n uint64, of uint64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s (%s)", grouped(n), what, percent(n, of)))
		}
	}
	imperfect(c.Lost, c.Samples+c.Lost, "lost")
	imperfect(c.Truncated, c.Samples, "truncated")
	imperfect(c.Unknown, c.Samples, "with unknown frames")
	if m.Ended != "" && m.Ended != profile.EndedDuration {
		parts = append(parts, printable(string(m.Ended), headingLimit))
	}
	return strings.Join(parts, " · ")
}

// counts is how good the data is. The samples are summed up here rather than
// believed: a profile that nobody counted yet must not draw a wrong heading.
func counts(p *profile.Profile) profile.Counts {
	c := p.Meta.Counts
	c.Samples = 0
	for i := range p.Samples {
		c.Samples += p.Samples[i].Count
	}
	return c
}

// seconds as people say them: 2.50 s, 30.0 s, 600 s.
func seconds(d time.Duration) string {
	s := d.Seconds()
	switch {
	case s < 10:
		return fmt.Sprintf("%.2f s", s)
	case s < 100:
		return fmt.Sprintf("%.1f s", s)
	}
	return fmt.Sprintf("%.0f s", s)
}

// percent of a whole, two digits after the point, as hover texts have it.
func percent(n, of uint64) string {
	if of == 0 {
		return "0.00%"
	}
	return strconv.FormatFloat(100*float64(n)/float64(of), 'f', 2, 64) + "%"
}

// grouped writes 1234567 as 1,234,567.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
