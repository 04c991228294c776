// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"slices"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Labels of samples.
const (
	labelComm      = "comm" // of the thread
	labelPID       = "pid"
	labelTID       = "tid"
	labelTruncated = "truncated" // yes, or it is not there
	labelHost      = "host"      // in a profile of several
	yes            = "yes"
)

// label is one of a sample that has a place in ours.
type label struct {
	key, text string
	number    int64
	rank      int // of its spelling; the lowest wins
}

// Places that labels have.
const (
	slotComm = iota
	slotHost
	slotTruncated
	slotPID
	slotTID
	slots
)

// spellings are how labels of a place are called; ours come first.
var spellings = [slots][]string{
	slotComm:      {labelComm, "thread_name", "thread"},
	slotHost:      {labelHost},
	slotTruncated: {labelTruncated},
	slotPID:       {labelPID, "process_id"},
	slotTID:       {labelTID, "thread_id"},
}

// readLabel reads one, and puts it into its place or drops it. Without a value
// it is none.
func (d *decoder) readLabel(data []byte) error {
	const unit = labelNumber + 1
	v, err := numbers(data, unit)
	if err != nil || v[labelText] == 0 && v[labelNumber] == 0 && v[unit] == 0 {
		return err
	}
	l := label{key: d.text(v[labelKey]), text: d.text(v[labelText]), number: int64(v[labelNumber])}
	from, to := slotPID, slots
	if v[labelText] != 0 {
		from, to = slotComm, slotPID
	}
	for slot := from; slot < to; slot++ {
		if l.rank = slices.Index(spellings[slot], l.key) + 1; l.rank == 0 || slot == slotTruncated && l.text != yes {
			continue
		}
		switch there := &d.labels[slot]; {
		case there.rank == 0:
			*there = l
		case l.rank < there.rank:
			d.drop(there.key)
			*there = l
		case l.rank > there.rank:
			d.drop(l.key)
		}
		return nil
	}
	d.drop(l.key)
	return nil
}

// takeLabels gives a sample what its labels are.
func (d *decoder) takeLabels(s *profile.Sample) {
	s.Comm, s.Host = d.labels[slotComm].text, d.labels[slotHost].text
	s.PID, s.TID = int(d.labels[slotPID].number), int(d.labels[slotTID].number)
	s.Truncated = d.labels[slotTruncated].rank != 0
}

// drop counts a sample for a label that it has, once.
func (d *decoder) drop(key string) {
	sample := len(d.out.Samples) + 1
	of := d.dropped[key]
	if of == nil {
		of = &dropped{}
		d.dropped[key] = of
	}
	if of.last != sample {
		of.samples, of.last = of.samples+1, sample
	}
}

// arena gives out slices of large pieces of memory, because there are many.
type arena[T any] struct{ free []T }

func (a *arena[T]) take(n int) []T {
	const piece = 1024
	if n > len(a.free) {
		a.free = make([]T, max(n, piece))
	}
	taken := a.free[:n:n]
	a.free = a.free[n:]
	return taken
}
