// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable returns name as it can be shown anywhere: what does not print
// (control and format characters, among them those that turn the direction of
// the text around, and bytes that are not UTF-8) is written as Go would quote
// it, so that it is seen instead of obeyed; a name of more than limit
// characters loses its middle. The result holds only characters that XML
// allows.
func printable(name string, limit int) string {
	if name == "" {
		return "[unknown]"
	}
	if len(name) <= limit && plain(name) {
		return name
	}
	// A long name is cut before it is looked at: what is left on each side is
	// enough for limit characters of four bytes.
	head, tail := name, ""
	if len(name) > 8*limit {
		head, tail = name[:4*limit], name[len(name)-4*limit:]
	}
	rs := []rune(quoted(head))
	if tail != "" {
		rs = append(rs, []rune(quoted(tail))...)
	}
	if len(rs) <= limit {
		return string(rs)
	}
	keep := limit / 4 // of the end: in a long C++ name it is the method
	return string(rs[:limit-1-keep]) + "…" + string(rs[len(rs)-keep:])
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func quoted(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case !strconv.IsPrint(r):
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	return b.String()
}

// fit cuts a label to a number of columns of a monospaced font; empty when
// there is no room for three of its characters, which is all one can read.
func fit(name string, columns int) string {
	if columns < 4 && columns < len(name) {
		return ""
	}
	used, cut := 0, 0 // cut: where the last character that leaves room for … ends
	for i, r := range name {
		w := columnsOf(r)
		if used+w > columns {
			return name[:cut] + "…"
		}
		used += w
		if used <= columns-1 {
			cut = i + utf8.RuneLen(r)
		}
	}
	return name
}

// columnsOf is the width of a character in columns: East Asian characters and
// pictures take two, marks on top of others none.
func columnsOf(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana),
		r >= 0xff01 && r <= 0xff60, r >= 0x1f000:
		return 2
	}
	return 1
}
