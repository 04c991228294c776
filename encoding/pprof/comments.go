// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"path"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// readComments fills in the metadata from the lines that comments made of it.
// Those of other tools are kept as they are. The line of the counts is needed
// for what was lost only: the others are in the samples.
func readComments(m *profile.Metadata, lines []string) {
	for _, line := range lines {
		key, value, ok := strings.Cut(line, ": ")
		read := readers[key]
		if !ok || read == nil || !read(m, value) {
			m.Comments = append(m.Comments, line)
		}
	}
}

// readers understand the value of a line by its key; false if they do not.
var readers = map[string]func(m *profile.Metadata, v string) bool{
	"tool":         func(m *profile.Metadata, v string) bool { return cut(v, &m.Tool, &m.ToolVersion) },
	"host":         func(m *profile.Metadata, v string) bool { m.Host = v; return true },
	"kernel":       readKernel,
	"target":       readTarget,
	"event":        readEvent,
	"user stacks":  func(m *profile.Metadata, v string) bool { m.UserStacks = v; return true },
	"stacks ended": readEnd,
	"sampled":      readSampled,
	"first sample": func(m *profile.Metadata, v string) bool {
		d, err := time.ParseDuration(strings.TrimPrefix(v, "after "))
		m.FirstSample = m.Start.Add(d)
		return err == nil
	},
	"symbolized": func(m *profile.Metadata, v string) bool {
		return duration(strings.TrimPrefix(v, "in "), &m.SymbolizeNs)
	},
	"CPU time": func(m *profile.Metadata, v string) bool { return duration(v, &m.CPUTimeNs) },
	"counts":   readCounts,
	"merged":   readMerged,
	"missing":  readMissing,
	"unnamed":  readUnnamed,
	"warning":  func(m *profile.Metadata, v string) bool { m.Warn(v); return true },
}

// cut divides at the first space.
func cut(v string, before, after *string) (ok bool) {
	*before, *after, ok = strings.Cut(v, " ")
	return ok
}

func duration(v string, ns *int64) bool {
	d, err := time.ParseDuration(v)
	if err == nil {
		*ns = int64(d)
	}
	return err == nil
}

func readKernel(m *profile.Metadata, v string) bool {
	i := strings.LastIndexByte(v, ' ')
	if i >= 0 {
		m.Kernel, m.Arch = v[:i], v[i+1:]
	}
	return i >= 0
}

func readTarget(m *profile.Metadata, v string) bool {
	number, command, ok := strings.Cut(strings.TrimPrefix(v, "PID "), " ")
	pid, err := strconv.Atoi(number)
	if !ok || err != nil {
		return false
	}
	t := profile.Target{PID: pid, Command: command}
	if host, rest, ok := quoted(strings.TrimPrefix(command, "on ")); ok && strings.HasPrefix(command, "on ") {
		t.Host, t.Command, command = host, rest, rest
	}
	if i := strings.LastIndex(command, " ("); i >= 0 && strings.HasSuffix(command, ")") {
		t.Command, t.Name = command[:i], command[i+2:len(command)-1]
	} else if command != "" {
		t.Name = path.Base(command)
	}
	m.Targets = append(m.Targets, t)
	return true
}

func readEvent(m *profile.Metadata, v string) bool {
	event, rest, ok := strings.Cut(v, " at ")
	var hz, cpus int
	if n, err := fmt.Sscanf(rest, "%d Hz on %d CPUs", &hz, &cpus); !ok || n != 2 || err != nil {
		return false
	}
	m.Event, m.FrequencyHz, m.CPUs = event, profile.Frequency(hz), cpus
	return true
}

func readEnd(m *profile.Metadata, v string) bool {
	number, end, ok := strings.Cut(v, " ")
	n, err := strconv.ParseUint(number, 10, 63)
	if !ok || err != nil {
		return false
	}
	if m.Ends == nil {
		m.Ends = map[string]uint64{}
	}
	m.Ends[end] = n
	return true
}

func readSampled(m *profile.Metadata, v string) bool {
	how, ended, ok := strings.Cut(v, ", ended: ")
	m.Ended = profile.Ended(ended)
	return ok && duration(how, &m.DurationNs)
}

func readCounts(m *profile.Metadata, v string) bool {
	for field := range strings.FieldsSeq(v) {
		if number, ok := strings.CutPrefix(field, "lost="); ok {
			n, err := strconv.ParseUint(number, 10, 64)
			m.Counts.Lost = min(n, math.MaxInt64)
			return err == nil
		}
	}
	return false
}

// quoted divides behind a quoted host.
func quoted(v string) (host, rest string, ok bool) {
	prefix, err := strconv.QuotedPrefix(v)
	if err != nil {
		return "", "", false
	}
	host, err = strconv.Unquote(prefix)
	rest, ok = strings.CutPrefix(v[len(prefix):], " ")
	return host, rest, ok && err == nil
}

func readMerged(m *profile.Metadata, v string) bool {
	host, rest, ok := quoted(v)
	h := profile.HostPart{Host: host}
	var took string
	n, err := fmt.Sscanf(rest, "samples=%d lost=%d hz=%d cpus=%d sampled=%s", &h.Samples, &h.Lost, &h.FrequencyHz, &h.CPUs, &took)
	if !ok || n != 5 || err != nil || !duration(took, &h.DurationNs) {
		return false
	}
	m.Hosts = append(m.Hosts, h)
	return true
}

func readMissing(m *profile.Metadata, v string) bool {
	host, why, ok := quoted(v)
	if ok {
		m.Hosts = append(m.Hosts, profile.HostPart{Host: host, Missing: why})
	}
	return ok
}

func readUnnamed(m *profile.Metadata, v string) bool {
	parts := strings.Split(v, "; ")
	object, counts, ok := strings.Cut(parts[0], ": samples=")
	u := profile.Unnamed{Object: object}
	n, err := fmt.Sscanf("samples="+counts, "samples=%d self=%d addresses=%d", &u.Samples, &u.Self, &u.Addresses)
	if !ok || n != 3 || err != nil {
		return false
	}
	for _, part := range parts[1:] {
		if s, ok := strings.CutPrefix(part, "path "); ok {
			u.Path = s
		} else if s, ok := strings.CutPrefix(part, "build ID "); ok {
			u.BuildID = profile.BuildID(s)
		} else if s, ok := strings.CutPrefix(part, "remedy: "); ok {
			u.Remedy = s
		} else if reason, why, ok := strings.Cut(part, ": "); ok {
			u.Reason, u.Why = profile.Reason(reason), why
		}
	}
	m.Unnamed = append(m.Unnamed, u)
	return true
}
