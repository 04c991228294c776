// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// table is a Markdown table.
type table struct {
	title   string
	columns []string
	rows    [][]string
	notes   []string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) print() {
	fmt.Printf("### %s\n\n| %s |\n|%s\n", t.title, strings.Join(t.columns, " | "), "---|"+strings.Repeat("---:|", len(t.columns)-1))
	for _, r := range t.rows {
		fmt.Printf("| %s |\n", strings.Join(r, " | "))
	}
	fmt.Println()
	for _, n := range t.notes {
		fmt.Println(n)
	}
	if len(t.notes) > 0 {
		fmt.Println()
	}
}

// median of several measurements; NaN of none.
func median(v []float64) float64 { return quantile(v, 0.5) }

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	at := q * float64(len(s)-1)
	low, part := math.Modf(at)
	i := int(low)
	if i+1 >= len(s) {
		return s[i]
	}
	return s[i] + part*(s[i+1]-s[i])
}

const missing = "–"

// number formats with digits after the point; – if there is no number.
func number(v float64, digits int, unit string) string {
	switch {
	case math.IsNaN(v):
		return missing
	case math.IsInf(v, 0):
		return "∞"
	}
	return fmt.Sprintf("%.*f%s", digits, v, unit)
}

// times is how many times a is b.
func times(a, b float64) string { return number(a/b, 1, "×") }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
