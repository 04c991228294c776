// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// metadataMerger makes one profile's metadata of several's: sums where things
// add up, all there are of words, and each warning once, with its hosts.
type metadataMerger struct {
	out     Metadata
	merged  int
	parts   map[string]*HostPart
	threads int

	frequencies []Frequency
	warned      []string // sentences in order
	warns       map[string][]string
	unnamed     map[unnamedKey]*Unnamed
	commented   map[string]bool
}

type unnamedKey struct {
	object, path string
	buildID      BuildID
	reason       Reason
}

func newMetadataMerger() metadataMerger {
	return metadataMerger{parts: map[string]*HostPart{}, warns: map[string][]string{}, unnamed: map[unnamedKey]*Unnamed{}, commented: map[string]bool{}}
}

func (m *metadataMerger) part(host string) *HostPart {
	h := m.parts[host]
	if h == nil {
		h = &HostPart{Host: host}
		m.parts[host] = h
	}
	return h
}

func (m *metadataMerger) count(host string, samples uint64) {
	if host != "" { // else it was forgotten
		m.part(host).Samples += samples
	}
}

func (m *metadataMerger) missing(host, why string) { m.part(host).Missing = cmp.Or(why, "not known") }

// add takes in what is told of a profile; one of several hosts tells of each.
func (m *metadataMerger) add(in *Metadata, host string) {
	m.merged++
	parts := in.Hosts
	if len(parts) == 0 {
		parts = []HostPart{{Host: host, Lost: in.Counts.Lost, FrequencyHz: in.FrequencyHz, CPUs: in.CPUs, DurationNs: in.DurationNs}}
	}
	for i := range parts {
		m.addPart(&parts[i])
	}
	for _, t := range in.Targets {
		t.Host = cmp.Or(t.Host, host)
		m.out.Targets = append(m.out.Targets, t)
	}
	m.addWords(in)
	m.addNumbers(in)
	stale := missingWarnings(in.Hosts) // they may come yet
	for _, w := range in.Warnings {
		if !slices.Contains(stale, w) {
			m.warn(w, host)
		}
	}
	for i := range in.Unnamed {
		m.addUnnamed(&in.Unnamed[i])
	}
	for _, c := range in.Comments {
		if !m.commented[c] {
			m.commented[c] = true
			m.out.Comments = append(m.out.Comments, c)
		}
	}
}

// addPart adds what a host has given: one after the other, if it is there
// already, so that times add up.
func (m *metadataMerger) addPart(in *HostPart) {
	h := m.part(in.Host)
	if in.Missing != "" {
		h.Missing = in.Missing
		return
	}
	h.Missing = ""
	h.Lost += in.Lost
	h.DurationNs += in.DurationNs
	h.CPUs = max(h.CPUs, in.CPUs)
	h.FrequencyHz = max(h.FrequencyHz, in.FrequencyHz)
	if in.FrequencyHz > 0 && !slices.Contains(m.frequencies, in.FrequencyHz) {
		m.frequencies = append(m.frequencies, in.FrequencyHz)
	}
}

func (m *metadataMerger) addWords(in *Metadata) {
	o := &m.out
	for _, w := range []struct {
		to  *string
		add string
	}{{&o.Kernel, in.Kernel}, {&o.Arch, in.Arch}, {&o.Event, in.Event}, {&o.UserStacks, in.UserStacks}} {
		if w.add != "" && !slices.Contains(strings.Split(*w.to, ", "), w.add) {
			*w.to = strings.TrimPrefix(*w.to+", "+w.add, ", ")
		}
	}
	if m.merged == 1 {
		o.Tool, o.ToolVersion = in.Tool, in.ToolVersion
		o.Ended = in.Ended
	}
	if in.Ended != o.Ended { // some went on to the end
		o.Ended = EndedDuration
	}
}

func (m *metadataMerger) addNumbers(in *Metadata) {
	o := &m.out
	if o.Start.IsZero() || !in.Start.IsZero() && in.Start.Before(o.Start) {
		o.Start = in.Start
	}
	if o.FirstSample.IsZero() || !in.FirstSample.IsZero() && in.FirstSample.Before(o.FirstSample) {
		o.FirstSample = in.FirstSample
	}
	o.SymbolizeNs = max(o.SymbolizeNs, in.SymbolizeNs)
	o.CPUTimeNs += in.CPUTimeNs
	m.threads += in.Threads
	for end, n := range in.Ends {
		if o.Ends == nil {
			o.Ends = map[string]uint64{}
		}
		o.Ends[end] += n
	}
}

func (m *metadataMerger) warn(sentence, host string) {
	hosts, known := m.warns[sentence]
	if !known {
		m.warned = append(m.warned, sentence)
	}
	if !slices.Contains(hosts, host) {
		m.warns[sentence] = append(hosts, host)
	}
}

func (m *metadataMerger) addUnnamed(in *Unnamed) {
	k := unnamedKey{in.Object, in.Path, in.BuildID, in.Reason}
	u := m.unnamed[k]
	if u == nil {
		added := *in
		m.unnamed[k] = &added
		return
	}
	u.Samples += in.Samples
	u.Self += in.Self
	u.Addresses = max(u.Addresses, in.Addresses)
}

// finish completes the metadata, of samples that are told apart by so much, and
// rare ones of which have so many frames.
func (m *metadataMerger) finish(forgot detail, depth int) Metadata {
	o := &m.out
	o.Threads = m.threads
	for _, h := range m.parts {
		o.Hosts = append(o.Hosts, *h)
		o.CPUs += h.CPUs
		o.Counts.Lost += h.Lost
		o.DurationNs = max(o.DurationNs, h.DurationNs) // they sampled side by side
	}
	slices.SortFunc(o.Hosts, func(a, b HostPart) int { return cmp.Compare(a.Host, b.Host) })
	o.Host = hostsTitle(o.Hosts)
	m.finishUnnamed()
	o.Warnings = missingWarnings(o.Hosts)
	for _, sentence := range m.warned {
		if on := some(m.warns[sentence]); on != "" {
			sentence += " (" + on + ")"
		}
		o.Warn(sentence)
	}
	slices.SortFunc(m.frequencies, func(a, b Frequency) int { return cmp.Compare(b, a) })
	if len(m.frequencies) > 0 {
		o.FrequencyHz = m.frequencies[0]
	}
	if len(m.frequencies) > 1 {
		o.Warn(fmt.Sprintf("Not all sampled at one frequency: counts are as if all had sampled at %d Hz, as the highest did; pprof has them as they are, and times.", o.FrequencyHz))
	}
	if forgot > keepsThreads {
		o.Warn([]string{"", "Threads of one name were merged, because there are many.", "Threads and processes of one name were merged, because there are many.",
			"The samples of all hosts were merged, because there are many: only the profile of each host says what is whose."}[forgot])
	}
	if depth < wholeStacks {
		o.Warn(fmt.Sprintf("Of rare stacks only the innermost %d frames were kept, because there are many.", depth))
	}
	return *o
}

func (m *metadataMerger) finishUnnamed() {
	for _, u := range m.unnamed {
		m.out.Unnamed = append(m.out.Unnamed, *u)
	}
	slices.SortFunc(m.out.Unnamed, func(a, b Unnamed) int {
		return cmp.Or(cmp.Compare(b.Samples, a.Samples), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.BuildID, b.BuildID), cmp.Compare(a.Reason, b.Reason))
	})
}

// missingWarnings say which hosts are missing, those with one reason together.
func missingWarnings(parts []HostPart) (warnings []string) {
	reasons := map[string][]string{}
	var order []string
	for _, h := range parts {
		if h.Missing == "" {
			continue
		}
		if reasons[h.Missing] == nil {
			order = append(order, h.Missing)
		}
		reasons[h.Missing] = append(reasons[h.Missing], h.Host)
	}
	for _, why := range order {
		verb := "is"
		if len(reasons[why]) > 1 {
			verb = "are"
		}
		warnings = append(warnings, fmt.Sprintf("%s %s missing: %s", some(reasons[why]), verb, why))
	}
	return warnings
}

// some names the first of some hosts.
func some(hosts []string) string {
	const most = 3
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return h == "" })
	if len(hosts) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(hosts[:most], ", "), len(hosts)-most)
	}
	return strings.Join(hosts, ", ")
}
