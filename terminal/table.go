// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"cmp"
	"io"
	"strings"
)

// Table is columns of a stranger's words, as kubectl has them. It is written
// when it is complete, since each column is as wide as its widest cell.
type Table struct {
	w     io.Writer
	rows  [][]string
	width []int
}

// NewTable begins with the names of the columns.
func NewTable(w io.Writer, head ...string) *Table {
	t := &Table{w: w, width: make([]int, len(head))}
	t.Row(head...)
	return t
}

// Row adds a row; "-" stands for what is not known, but in the last column,
// after which nothing comes.
func (t *Table) Row(cells ...string) {
	row := make([]string, len(cells))
	for i := range cells {
		row[i] = Printable(cells[i])
		if i < len(cells)-1 {
			row[i] = cmp.Or(row[i], "-")
		}
		t.width[i] = max(t.width[i], Width(row[i]))
	}
	t.rows = append(t.rows, row)
}

const gap = "   " // between columns

// Write writes it to where it was made for.
func (t *Table) Write() error {
	var text strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(padded(cell, t.width[i]) + gap)
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(t.w, text.String())
	return err
}
