// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"cmp"
	"io"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Merger makes one profile of several that are read one after the other: at any
// time there is one of them in memory beside what was merged. See
// [profile.Merger].
type Merger struct {
	merger  *profile.Merger
	largest int64
	read    int
}

// NewMerger returns an empty Merger of profiles of at most that many bytes each
// (0: MaxSize), which keeps that many samples in detail (0:
// profile.DefaultMergedSamples).
func NewMerger(largest int64, samples int) *Merger {
	return &Merger{merger: profile.NewMerger(samples), largest: cmp.Or(largest, MaxSize)}
}

// Add reads a profile and takes it in. The host is that of samples which have
// none of their own; empty means the one that the profile tells. After an error
// nothing of the profile was taken in: the host is one for Missing.
func (m *Merger) Add(from io.Reader, host string) error {
	p, err := ReadUpTo(from, m.largest)
	if err == nil {
		err = m.merger.Add(p, host)
	}
	if err == nil {
		m.read++
	}
	return err
}

// Missing notes that a host that is meant gave no profile, and why.
func (m *Merger) Missing(host, why string) { m.merger.Missing(host, why) }

// Read is how many profiles were taken in.
func (m *Merger) Read() int { return m.read }

// Profile returns what was merged. The Merger is used up.
func (m *Merger) Profile() *profile.Profile { return m.merger.Profile() }
