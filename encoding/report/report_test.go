// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/carverauto/serviceradar-profiler/encoding/encodingtest"
	"github.com/carverauto/serviceradar-profiler/profile"
)

func written(t testing.TB, p *profile.Profile, o Options) string {
	t.Helper()
	return string(encodingtest.Written(t, p, func(b *bytes.Buffer) error { return Write(b, p, o) }))
}

func TestGolden(t *testing.T) {
	check := func(name string, p *profile.Profile, o Options) {
		t.Helper()
		encodingtest.Golden(t, name, []byte(written(t, p, o)))
	}
	example := encodingtest.Example()
	check("example.golden", example, Options{})
	check("top3_width60.golden", example, Options{Top: 3, Width: 60})
	check("color.golden", example, Options{Color: true})
	check("empty.golden", encodingtest.Empty(), Options{})
	two := encodingtest.Example()
	two.Meta.Targets = append(two.Meta.Targets, profile.Target{PID: 2000, Command: "/usr/bin/redis-aof"})
	check("two_targets.golden", two, Options{Top: 1})
	check("nothing_known.golden", &profile.Profile{}, Options{})
}

func TestExplain(t *testing.T) {
	check := func(name string, p *profile.Profile) {
		t.Helper()
		encodingtest.Golden(t, name, encodingtest.Written(t, p, func(b *bytes.Buffer) error { return Explain(b, p, Options{}) }))
	}
	check("explain.golden", encodingtest.Example())
	check("explain_nothing.golden", encodingtest.Empty())
	if err := Explain(failingWriter{io.ErrShortWrite}, encodingtest.Example(), Options{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got error %v, want the writer's", err)
	}
}

// In a terminal no line is longer than it is wide, unless a word is; nothing is
// lost for that.
func TestBroken(t *testing.T) {
	p := encodingtest.Example()
	p.Meta.Warnings = append(p.Meta.Warnings, strings.Repeat("one word after the other, ", 12)+strings.Repeat("long", 30))
	p.Meta.Unnamed[0].Remedy = strings.Repeat("do this, then that, ", 10) + "and be done"
	for _, w := range []int{60, 80, 133} {
		text := written(t, p, Options{Width: w, Top: 3})
		for line := range strings.Lines(text) {
			if n := width(strings.TrimSuffix(line, "\n")); n > w && len(strings.Fields(line)) > 1 {
				t.Errorf("%d columns in a terminal of %d: %s", n, w, line)
			}
		}
		for _, whole := range append(p.Meta.Warnings, p.Meta.Unnamed[0].Remedy) {
			if !strings.Contains(strings.Join(strings.Fields(text), " "), strings.Join(strings.Fields(whole), " ")) {
				t.Errorf("%d columns: %q is not whole in\n%s", w, whole, text)
			}
		}
	}
}

// self matches a row of the table.
var self = regexp.MustCompile(`(?m)^ +\d+\.\d\d% +(\d+) +\d+\.\d\d% +(\d+)  `)

func TestRandom(t *testing.T) {
	encodingtest.EachRandom(t, func(t *testing.T, p *profile.Profile) {
		text := written(t, p, Options{Top: -1, Width: 80})
		if !utf8.ValidString(text) {
			t.Error("output is not UTF-8")
		}
		for _, r := range text {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("output has %U, which does not print", r)
			}
		}
		var sum, unwalked uint64
		for _, row := range self.FindAllStringSubmatch(text, -1) {
			n, err := strconv.ParseUint(row[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
		for _, s := range p.Samples {
			if len(s.Addresses) == 0 {
				unwalked += s.Count
			}
		}
		total := encodingtest.Samples(p)
		if sum+unwalked != total {
			t.Errorf("self adds up to %d with %d samples of no function, want %d", sum, unwalked, total)
		}
		if want := fmt.Sprintf("  samples       %d of %d taken\n", total, total+p.Meta.Counts.Lost); !strings.Contains(text, want) {
			t.Errorf("output does not say %q", want)
		}
	})
}

func TestTableFitsWidth(t *testing.T) {
	encodingtest.EachRandom(t, func(t *testing.T, p *profile.Profile) {
		for _, columns := range []int{1, 60, 80, 200} {
			for l := range strings.Lines(written(t, p, Options{Top: -1, Width: columns})) {
				l = strings.TrimSuffix(l, "\n")
				if self.MatchString(l) && width(l) > max(columns, minWidth) {
					t.Errorf("row takes %d columns, want at most %d: %q", width(l), columns, l)
				}
			}
		}
	})
}

func TestCut(t *testing.T) {
	check := func(label, in string, n int, want string) {
		t.Helper()
		got := cut(in, n)
		if got != want {
			t.Errorf("%s: %q cut to %d is %q, want %q", label, in, n, got, want)
		}
		if width(got) > n {
			t.Errorf("%s: %q takes %d columns, want at most %d", label, got, width(got), n)
		}
	}
	check("short", "main", 4, "main")
	check("long", "github.com/a/b.(*T).Method", 11, "githu…ethod")
	check("even", "abcdefgh", 4, "a…gh")
	check("one column", "abc", 1, "…")
	check("no column", "abc", 0, "")
	check("wide", "名前漢字", 5, "名…字")
	check("wide, no half characters", "名前漢字", 4, "…字")
	check("accents", "éééé", 3, "é…é")
}

func TestPrintable(t *testing.T) {
	check := func(label, in, want string) {
		t.Helper()
		if got := printable(in); got != want {
			t.Errorf("%s: %q is shown as %q, want %q", label, in, got, want)
		}
	}
	check("usual", "std::vector<int>", "std::vector<int>")
	check("other scripts", "名前é", "名前é")
	check("escape sequence", "\x1b[2J", `\x1b[2J`)
	check("8-bit escape sequence", "\u009b2J", `\u009b2J`)
	check("line", "a\r\nb", `a\r\nb`)
	check("direction", "\u202eevil", `\u202eevil`)
	check("not UTF-8", "a\xffb", `a\xffb`)
}

func TestWriteFails(t *testing.T) {
	full := errors.New("disk full")
	if err := Write(failingWriter{full}, encodingtest.Example(), Options{}); !errors.Is(err, full) {
		t.Errorf("got error %v, want %v", err, full)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
