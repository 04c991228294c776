// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"iter"
	"slices"
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

// Draft is a table that is not written out: its rows are put in order while they
// are read. So those of a large object exist once only.
type Draft struct {
	Base, Limit profile.ObjAddr
	most        int // rows at most
	rows        iter.Seq[Row]
}

// Rows are those of the table, in order. They may be read several times, and by
// several goroutines at once.
func (d *Draft) Rows() iter.Seq[Row] { return d.rows }

// Table writes it out.
func (d *Draft) Table() Table {
	return Table{Base: d.Base, Limit: d.Limit, Rows: slices.AppendSeq(make([]Row, 0, d.most), d.rows)}
}

// Draft is the table as one that can be read like others.
func (t *Table) Draft() Draft {
	return Draft{Base: t.Base, Limit: t.Limit, most: len(t.Rows), rows: slices.Values(t.Rows)}
}

// Written writes out all tables of an object.
func Written(drafts []Draft) []Table {
	tables := make([]Table, len(drafts))
	for i := range drafts {
		tables[i] = drafts[i].Table()
	}
	return tables
}

// Drafts are the tables of an object to be read.
func Drafts(tables []Table) []Draft {
	drafts := make([]Draft, len(tables))
	for i := range tables {
		drafts[i] = tables[i].Draft()
	}
	return drafts
}
