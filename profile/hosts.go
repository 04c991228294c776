// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// HostPart is what one host gave to a profile of several.
type HostPart struct {
	Host        string    `json:"host"`
	Samples     uint64    `json:"samples"`
	Lost        uint64    `json:"lost"`
	FrequencyHz Frequency `json:"frequency_hz,omitempty"`
	CPUs        int       `json:"cpus,omitempty"`
	DurationNs  int64     `json:"duration_ns"`
	Missing     string    `json:"missing,omitempty"` // why nothing of it is here
}

// ByHost returns p with the host as the first step of each path, for pictures
// and text; it shares all else with p.
func (p *Profile) ByHost() *Profile {
	by := *p
	by.byHost = true
	return &by
}

// AtOneFrequency returns p with the counts that it would have, had all hosts
// sampled at Meta.FrequencyHz, for formats that have counts alone: a sample at
// 99 Hz is worth ten at 999. What is left over of one sample's time goes to the
// next, so that the sum is right. It is p itself where one frequency is all
// there is.
func (p *Profile) AtOneFrequency() *Profile {
	period := uint64(p.Meta.FrequencyHz.Period())
	if period == 0 || !slices.ContainsFunc(p.Samples, func(s Sample) bool { return s.Time != 0 }) {
		return p
	}
	one := *p
	one.Samples = slices.Clone(p.Samples)
	rest := period / 2 // rounds
	for i := range one.Samples {
		s := &one.Samples[i]
		if s.Time == 0 {
			continue
		}
		time := uint64(s.Time) + rest
		s.Count, rest = time/period, time%period
		s.Time = 0
	}
	one.countSamples()
	return &one
}

// TimeOf is the CPU time that a sample stands for.
func (p *Profile) TimeOf(s *Sample) time.Duration {
	if s.Time != 0 {
		return s.Time
	}
	return times(s.Count, p.Meta.FrequencyHz.Period())
}

// hostsTitle is what the hosts of a profile are called together. That some are
// missing must be seen wherever it is read.
func hostsTitle(parts []HostPart) string {
	var names []string
	for i := range parts {
		if parts[i].Missing == "" {
			names = append(names, parts[i].Host)
		}
	}
	const most = 3
	title := strings.Join(names, ", ")
	if len(names) > most {
		title = fmt.Sprintf("%d hosts", len(names))
	}
	if len(names) < len(parts) {
		title = fmt.Sprintf("%d of %d hosts", len(names), len(parts))
	}
	return title
}
