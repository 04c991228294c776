// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table is columns of a stranger's words, as kubectl has them. It is written
// when it is complete, since each column is as wide as its widest cell.
type table struct {
	w     io.Writer
	rows  [][]string
	width []int
}

func newTable(w io.Writer, head ...string) *table {
	t := &table{w: w, width: make([]int, len(head))}
	t.row(head...)
	return t
}

// row adds a row; "-" stands for what is not known, but in the last column,
// after which nothing comes.
func (t *table) row(cells ...string) {
	row := make([]string, len(cells))
	for i := range cells {
		row[i] = printable(cells[i])
		if i < len(cells)-1 {
			row[i] = cmp.Or(row[i], "-")
		}
		t.width[i] = max(t.width[i], utf8.RuneCountInString(row[i]))
	}
	t.rows = append(t.rows, row)
}

const gap = "   " // between columns

func (t *table) write() error {
	var text strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s%s", t.width[i], cell, gap)
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(t.w, text.String())
	return err
}
