// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"strings"
	"unicode"
)

// wide are the characters that take two columns: East_Asian_Width W and F
// (Unicode Standard Annex #11), as blocks.
var wide = [][2]rune{
	{0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0xa4cf}, {0xa960, 0xa97c}, {0xac00, 0xd7a3}, {0xf900, 0xfaff}, {0xfe30, 0xfe6f},
	{0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd},
}

// Width is how many columns a text takes.
func Width(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me): // drawn over the one before
		return 0
	}
	for _, w := range wide {
		if w[0] <= r && r <= w[1] {
			return 2
		}
	}
	return 1
}

// Cut is as much of a text as goes into so many columns.
func Cut(s string, most int) string {
	n := 0
	for i, r := range s {
		if n += runeWidth(r); n > most {
			return s[:i]
		}
	}
	return s
}

// padded fills a text up to so many columns.
func padded(s string, width int) string {
	return s + strings.Repeat(" ", max(width-Width(s), 0))
}
