// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// comments is the metadata for people; pprof shows it with -comments. Each line
// is a key and what readComments understands again.
func comments(m *profile.Metadata) []string {
	var cs []string
	add := func(format string, args ...any) { cs = append(cs, clean(fmt.Sprintf(format, args...))) }
	add("tool: %s %s", m.Tool, m.ToolVersion)
	add("host: %s", m.Host)
	add("kernel: %s %s", m.Kernel, m.Arch)
	for _, t := range m.Targets {
		add("target: PID %d %s%s%s", t.PID, onHost(&t), t.Command, named(&t))
	}
	add("event: %s at %d Hz on %d CPUs", m.Event, m.FrequencyHz, m.CPUs)
	add("user stacks: %s", m.UserStacks)
	for _, end := range slices.Sorted(maps.Keys(m.Ends)) {
		add("stacks ended: %d %s", m.Ends[end], end)
	}
	add("sampled: %v, ended: %s", m.Duration(), m.Ended)
	if !m.FirstSample.IsZero() {
		add("first sample: after %v", m.FirstSample.Sub(m.Start))
	}
	if m.SymbolizeNs > 0 {
		add("symbolized: in %v", time.Duration(m.SymbolizeNs))
	}
	add("CPU time: %v", time.Duration(m.CPUTimeNs))
	c := m.Counts
	add("counts: samples=%d lost=%d truncated=%d unknown=%d threads=%d",
		c.Samples, c.Lost, c.Truncated, c.Unknown, m.Threads)
	for _, h := range m.Hosts {
		if h.Missing != "" {
			add("missing: %q %s", clean(h.Host), h.Missing)
			continue
		}
		add("merged: %q samples=%d lost=%d hz=%d cpus=%d sampled=%v", clean(h.Host), h.Samples, h.Lost, h.FrequencyHz, h.CPUs, time.Duration(h.DurationNs))
	}
	for i := range m.Unnamed {
		add("unnamed: %s", unnamed(&m.Unnamed[i]))
	}
	for _, w := range m.Warnings {
		add("warning: %s", w)
	}
	for _, c := range m.Comments {
		add("%s", c)
	}
	return cs
}

// unnamed is the code of one object that has no name, in a line.
func unnamed(u *profile.Unnamed) string {
	s := fmt.Sprintf("%s: samples=%d self=%d addresses=%d", plain(u.Object), u.Samples, u.Self, u.Addresses)
	if u.Path != "" {
		s += "; path " + plain(u.Path)
	}
	if u.BuildID != "" {
		s += "; build ID " + plain(string(u.BuildID))
	}
	s += fmt.Sprintf("; %s: %s", plain(string(u.Reason)), plain(u.Why))
	if u.Remedy != "" {
		s += "; remedy: " + plain(u.Remedy)
	}
	return s
}

// onHost says where a target of several hosts is.
func onHost(t *profile.Target) string {
	if t.Host == "" {
		return ""
	}
	return fmt.Sprintf("on %q ", clean(t.Host))
}

// plain keeps what a line is divided at out of its parts.
func plain(s string) string { return strings.ReplaceAll(s, "; ", ", ") }

// named is what a target is called, if that is not its executable's name.
func named(t *profile.Target) string {
	if t.Name == "" || t.Name == path.Base(t.Command) {
		return ""
	}
	return " (" + t.Name + ")"
}

// clean makes a string fit for the format, whose strings are UTF-8, and for
// the terminal that pprof prints it to without looking at it.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case !unicode.IsControl(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return '?'
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}
