// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Select Graphic Rendition sequences of ECMA-48.
const (
	bold   = "1"
	yellow = "33"
	cyan   = "36"
)

// paint gives text a color, if colors are wanted.
func (r *reporter) paint(color, s string) string {
	if !r.o.Color || color == "" {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// hanging writes text after a head. What has no room goes on below, between
// words and that far from the edge.
func (r *reporter) hanging(head string, indent int, color, text string) {
	if !r.broken {
		r.line("%s%s", head, r.paint(color, text))
		return
	}
	for room := r.o.Width - width(head); ; room = r.o.Width - indent {
		first, rest := breakLine(text, room)
		r.line("%s%s", head, r.paint(color, first))
		if rest == "" {
			return
		}
		head, text = strings.Repeat(" ", indent), rest
	}
}

// breakLine cuts s at the last space within n columns; a word that is longer
// stays whole.
func breakLine(s string, n int) (first, rest string) {
	used, space := 0, -1
	for i, c := range s {
		if c == ' ' {
			space = i
		}
		if used += columnsOf(c); used > n && space > 0 {
			return s[:space], s[space+1:]
		}
	}
	return s, ""
}

// printable writes what a terminal would obey rather than show as Go would
// quote it. Names come from the files of whoever is profiled, and an escape
// sequence among them could clear the screen, change its title or turn the text
// around.
func printable(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[n:]
	}
	return b.String()
}

func plain(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// cut shortens s to at most n columns. What is left out is in the middle: C++
// begins with what a function is and ends with its arguments, Go begins with
// where it is and ends with its name.
func cut(s string, n int) string {
	if width(s) <= n {
		return s
	}
	const gap = "…"
	if n < 1 {
		return ""
	}
	head := (n - 1) / 2
	tail := n - 1 - head
	rs := []rune(s)
	i, used := 0, 0
	for used+columnsOf(rs[i]) <= head {
		used += columnsOf(rs[i])
		i++
	}
	j, used := len(rs), 0
	for used+columnsOf(rs[j-1]) <= tail {
		used += columnsOf(rs[j-1])
		j--
	}
	return string(rs[:i]) + gap + string(rs[j:])
}

// pad fills s up to n columns.
func pad(s string, n int) string { return s + strings.Repeat(" ", max(n-width(s), 0)) }

// width is how many columns of a terminal s takes.
func width(s string) int {
	n := 0
	for _, r := range s {
		n += columnsOf(r)
	}
	return n
}

// columnsOf is the columns of one character: two of those that East Asian fonts
// draw wide, and of pictures. Marks on top of others take none, but count as
// one: a name may have any number of them.
func columnsOf(r rune) int {
	switch {
	case r < 0x1100:
		return 1
	case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana),
		0xff01 <= r && r <= 0xff60, r >= 0x1f000:
		return 2
	}
	return 1
}
