// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"

	"github.com/carverauto/serviceradar-profiler/profile"
)

var hostileNames = []string{
	"", " ", "a b 42", "a;b", "<", "&amp;", "&#0;", "]]>", "<![CDATA[", "-->", "<!--", "\"'`",
	"</script><script>window.pwned=1</script>", "<!--<script>", "</title><script>pwned</script>", "</metadata>",
	`"><img src=x onerror=window.pwned=1>`, "</style>", "{{.}}", "${window.pwned=1}", "javascript:pwned", `\u003cscript>`,
	"main (1 samples, 100.00%)", "line\nbreak", "\r", "\t", "\x00", "\x1b[2J", "\x7f", "\xff\xfe\xc3", "\xed\xa0\x80",
	"\u202egnp.exe", "\u2066\u2067\u2068\u2069", "\u200f\u061c", "\u2028\u2029", "\ufffe\uffff", "\U000e0041", "\u200d",
	"עברית", "日本語", "🔥🔥🔥", "e\u0301\u0301\u0301", strings.Repeat("x", 10_000), strings.Repeat("\u202e", 5_000), strings.Repeat("<", 10_000),
}

// hostile is a profile in which every name, of everything, is a stranger's.
func hostile(name func() string) *profile.Profile {
	s := newStacks()
	for range 200 {
		var path []profile.Step
		for range 6 {
			path = append(path, profile.Step{Name: name(), Kind: profile.FrameKind(len(path) % 2), Object: name(), File: name(), Line: len(path)})
		}
		s.add(10, name(), path...)
	}
	p := s.profile()
	p.Meta = metadata(p.Meta.Counts)
	p.Meta.Host, p.Meta.Kernel, p.Meta.Event, p.Meta.Ended = name(), name(), name(), profile.Ended(name())
	p.Meta.Targets = []profile.Target{{PID: -1, Command: name()}}
	p.Meta.Warnings = []string{name(), name()}
	return p
}

func TestHostileNames(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	listed := func() string { return hostileNames[r.IntN(len(hostileNames))] }
	joined := func() string { return listed() + listed() }
	bytes := func() string {
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	}
	runes := func() string {
		b := make([]rune, r.IntN(20))
		for i := range b {
			b[i] = rune(r.IntN(0x11000))
		}
		return string(b)
	}
	for _, name := range []func() string{listed, joined, bytes, runes} {
		for range 5 {
			p := hostile(name)
			pic := read(t, svgOf(t, p))
			if pic.scripts != 1 {
				t.Errorf("%d scripts in the drawing, want 1", pic.scripts)
			}
			inert(t, pic.title+pic.text)
			for _, row := range pic.rows {
				for _, f := range row {
					inert(t, f.hover)
				}
			}
			d := dataOf(t, htmlOf(t, p))
			for _, s := range d.Strings {
				inert(t, s)
			}
		}
	}
}

// inert fails for text that acts on its reader: that moves a terminal, turns
// the direction of a line around or cannot be seen.
func inert(t *testing.T, s string) {
	t.Helper()
	for _, r := range s {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029') {
			t.Fatalf("%+.60q contains %U", s, r)
		}
	}
}
