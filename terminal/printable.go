// SPDX-License-Identifier: Apache-2.0

// Package terminal is how srprof looks: sessions, hosts and processes in words
// and tables, and progress in lines that change. Most of the words are another
// host's; nothing that is shown steers the terminal.
package terminal

import (
	"fmt"
	"strings"
	"unicode"
)

// Printable keeps a stranger's names from steering the terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// Plural counts: "1 host", "2 hosts".
func Plural(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}
