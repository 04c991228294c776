// SPDX-License-Identifier: Apache-2.0

package folded

import (
	"strings"
	"unicode"
)

// unknown is how a frame or thread without a name is spelled.
const unknown = "[unknown]"

// spell returns a function's name as it can stand in a folded line.
//
// It is the same wherever in the stack the function is, although a number at
// the end could mislead a reader only in the last frame: otherwise one function
// would have two names.
func spell(name string) string {
	s := strings.Map(spellRune, strings.ToValidUTF8(name, string(unicode.ReplacementChar)))
	s = strings.Trim(s, " ")
	if s == "" {
		return unknown
	}
	if i := strings.LastIndexByte(s, ' '); i >= 0 && isNumber(s[i+1:]) {
		s = s[:i] + "_" + s[i+1:]
	}
	return s
}

// spellThread returns a thread's name as the first frame of a line: without
// spaces, as stackcollapse-perf.pl has it.
func spellThread(comm string) string { return strings.ReplaceAll(spell(comm), " ", "_") }

// spellRune replaces what separates frames and lines for some reader. Perl's
// \s and \d are Unicode's when a script reads UTF-8, and the dot of JavaScript
// stops at U+2028 and U+2029, so every white space becomes a plain space. The
// remaining control and format characters (NUL, ESC, byte order marks, changes
// of direction) would be obeyed by a terminal or swallowed by a decoder.
func spellRune(r rune) rune {
	switch {
	case r == ';':
		return ':' // as stackcollapse-perf.pl does
	case unicode.IsSpace(r):
		return ' '
	case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
		return '?'
	}
	return r
}

// isNumber reports whether flamegraph.pl takes s for a count: \d+(?:\.\d*)?
func isNumber(s string) bool {
	whole, fraction, _ := strings.Cut(s, ".")
	return whole != "" && allDigits(whole) && allDigits(fraction)
}

func allDigits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsDigit(r) }) < 0
}
