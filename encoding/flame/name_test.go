// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"main", "main"},
		{"", "[unknown]"},
		{"operator new(unsigned long)", "operator new(unsigned long)"},
		{"größe::λ", "größe::λ"},
		{"line\nbreak\ttab\x00", `line\nbreak\ttab\x00`},
		{"esc\x1b[31m", `esc\x1b[31m`},
		{"bad\xff\xfe", `bad\xff\xfe`},
		{"abc\u202ecba", `abc\u202ecba`},
		{"\u2066iso\u2069", `\u2066iso\u2069`},
		{"zero\u200bwidth\ufeff", `zero\u200bwidth\ufeff`},
		{"\u0085\u2028\u2029", `\u0085\u2028\u2029`},
		{"nonchar\uffff", `nonchar\uffff`},
	} {
		if got := printable(c.in, 100); got != c.want {
			t.Errorf("printable(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestPrintableLosesTheMiddle(t *testing.T) {
	for _, n := range []int{101, 150, 800, 801, 10_000, 1_000_000} {
		for _, r := range []string{"x", "é", "語", "\xff", "\u202e"} {
			name := "begin" + strings.Repeat(r, n) + "end"
			got := printable(name, 100)
			if c := utf8.RuneCountInString(got); c != 100 {
				t.Errorf("%d × %q: %d characters, want 100", n, r, c)
			}
			if !strings.HasPrefix(got, "begin") || !strings.HasSuffix(got, "end") || !strings.Contains(got, "…") {
				t.Errorf("%d × %q: %q", n, r, got)
			}
		}
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		in      string
		columns int
		want    string
	}{
		{"main", 4, "main"},
		{"main", 3, ""},
		{"aeMain", 5, "aeMa…"},
		{"ab", 2, "ab"},
		{"ab", 1, ""},
		{"語語語", 6, "語語語"},
		{"語語語", 5, "語語…"},
		{"語語語", 4, "語…"},
		{"main", -3, ""},
	} {
		if got := fit(c.in, c.columns); got != c.want {
			t.Errorf("fit(%q, %d) = %q, want %q", c.in, c.columns, got, c.want)
		}
	}
}
