// SPDX-License-Identifier: Apache-2.0

// Package spelling finds what a misspelled word was probably meant to be.
package spelling

import "strings"

// Nearest is the known word that is spelled nearly as this one, but for upper and
// lower case, or else the only one that has it as a part; empty if none is. Of
// several that are as near it is the first.
func Nearest(word string, known []string) string {
	word = strings.ToLower(word)
	best, least := "", max(2, len(word)/3)+1
	for _, k := range known {
		if d := Distance(word, strings.ToLower(k), least); d < least && d < len(k) {
			best, least = k, d
		}
	}
	if best != "" {
		return best
	}
	return only(known, func(k string) bool {
		return len(word) > 1 && strings.HasPrefix(strings.ToLower(k), word) || len(word) > 3 && strings.Contains(strings.ToLower(k), word)
	})
}

// only is the one word that is meant, if it is one.
func only(known []string, meant func(string) bool) (one string) {
	for _, k := range known {
		if meant(k) && one != "" {
			return ""
		} else if meant(k) {
			one = k
		}
	}
	return one
}

// Distance is how many letters must be put in, left out or changed to make b
// of a (Levenshtein's), or limit if it is not less.
func Distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return min(row[len(b)], limit)
}
