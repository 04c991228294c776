// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"sort"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Row says that a rule holds from an address on, up to the next row. It has 8
// bytes, the same in the kernel.
type Row struct {
	Addr uint32 // relative to the table's Base
	Rule Rule
}

// Table is the unwind table of one executable segment. Its rows are sorted, no
// two neighbors have the same rule, and the first is at 0: every address in
// [Base, Limit) has exactly one rule.
type Table struct {
	Base, Limit profile.ObjAddr
	Rows        []Row
}

// Rule returns the rule of an address; OpNone outside of the table. Of a return
// address give the byte before, see [profile.Address.Lookup].
func (t *Table) Rule(a profile.ObjAddr) Rule {
	if a < t.Base || a >= t.Limit {
		return Rule(OpNone)
	}
	rel := uint32(a - t.Base)
	i := sort.Search(len(t.Rows), func(i int) bool { return t.Rows[i].Addr > rel })
	if i == 0 {
		return Rule(OpNone)
	}
	return t.Rows[i-1].Rule
}

// add appends a row unless it says what the one before does.
func (t *Table) add(r Row) {
	if n := len(t.Rows); n == 0 || t.Rows[n-1].Rule != r.Rule {
		t.Rows = append(t.Rows, r)
	}
}

// codeRange is a range of object addresses.
type codeRange struct{ start, limit uint64 }

// gap fills [start, limit), relative to Base, where no function is described.
func (t *Table) gap(start, limit uint64, gos []codeRange) {
	if start >= limit {
		return
	}
	base := uint64(t.Base)
	for _, g := range gos { // sorted, apart
		from, to := max(g.start, base+start)-base, min(g.limit, base+limit)-base
		if g.start >= base+limit || g.limit <= base+start {
			continue
		}
		if from > start {
			t.add(Row{uint32(start), Rule(OpNone)})
		}
		t.add(Row{uint32(from), Rule(OpFramePointer)})
		start = to
	}
	if start < limit {
		t.add(Row{uint32(start), Rule(OpNone)})
	}
}
