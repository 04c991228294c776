// SPDX-License-Identifier: Apache-2.0

package folded

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/carverauto/serviceradar-profiler/encoding/encodingtest"
	"github.com/carverauto/serviceradar-profiler/profile"
)

func written(t testing.TB, p *profile.Profile, o Options) []byte {
	t.Helper()
	return encodingtest.Written(t, p, func(b *bytes.Buffer) error { return Write(b, p, o) })
}

func TestGolden(t *testing.T) {
	p := encodingtest.Example()
	encodingtest.Golden(t, "kernel.golden", written(t, p, Options{}))
	encodingtest.Golden(t, "none.golden", written(t, p, Options{Annotate: AnnotateNone}))
	encodingtest.Golden(t, "all.golden", written(t, p, Options{Annotate: AnnotateAll}))
}

func TestNoSamples(t *testing.T) {
	if got := written(t, encodingtest.Empty(), Options{}); len(got) != 0 {
		t.Errorf("a profile without samples is written as %q, want nothing", got)
	}
}

func TestSpell(t *testing.T) {
	check := func(label, name, want string) {
		t.Helper()
		if got := spell(name); got != want {
			t.Errorf("%s: %q is spelled %q, want %q", label, name, got, want)
		}
	}
	check("usual", "std::vector<int>::push_back(int&&)", "std::vector<int>::push_back(int&&)")
	check("empty", "", "[unknown]")
	check("nothing but spaces", " \t\u00a0", "[unknown]")
	check("separator", "a;b;", "a:b:")
	check("number at the end", "operator new 8", "operator new_8")
	check("two numbers", "f 1 2", "f 1_2")
	check("fraction", "f 1.5", "f_1.5")
	check("point without fraction", "f 8.", "f_8.")
	check("version", "f 1.2.3", "f 1.2.3")
	check("number alone", " 42", "42")
	check("no-break space", "f\u00a07", "f_7")
	check("Arabic digit", "f ٣", "f_٣")
	check("lines", "a\r\nb\u2028c", "a  b c")
	check("escape sequence", "\x1b[31mred\x00", "?[31mred?")
	check("direction", "\u202eevil", "?evil")
	check("not UTF-8", "f\xff\xfe 8", "f\ufffd_8")
	if got, want := spellThread("bio lazy 1"), "bio_lazy_1"; got != want {
		t.Errorf("thread is spelled %q, want %q", got, want)
	}
}

// Stacks that are spelled alike must be one line.
func TestEqualLinesMerge(t *testing.T) {
	b := profile.NewBuilder()
	for i, name := range []string{"a;b", "a:b", "a:b ", "a\tb"} {
		id := b.Address(profile.Addr(i), profile.NoMapping, false)
		b.Add(profile.Thread{PID: 1, TID: i, Comm: "t"}, []profile.AddressID{id}, false, 1<<i)
		b.Profile().Addresses[id].Frames = []profile.Frame{{Name: name}}
	}
	if got, want := string(written(t, b.Profile(), Options{})), "t;a b 8\nt;a:b 7\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The patterns by which readers take a line apart. Perl's \s and \d are
// Unicode's there, which RE2 has to be told.
var (
	flamegraph = regexp.MustCompile(`^(.*)[\s\x{85}\p{Z}]+?(\p{Nd}+(?:\.\p{Nd}*)?)$`)
	speedscope = regexp.MustCompile(`^([^\r\n\x{2028}\x{2029}]*) (\d+)$`)
	firefox    = regexp.MustCompile(`([^;]*(?:;[^;]*)*) ([0-9]+)`)
)

func TestReadersAgree(t *testing.T) {
	encodingtest.EachRandom(t, func(t *testing.T, p *profile.Profile) {
		annotate := Annotate(len(p.Samples) % 3)
		text := string(written(t, p, Options{Annotate: annotate}))
		if !utf8.ValidString(text) {
			t.Fatal("output is not UTF-8")
		}
		lines := slices.Collect(strings.Lines(text))
		if !slices.IsSorted(lines) {
			t.Error("lines are not sorted")
		}
		seen := map[string]bool{}
		for _, l := range lines {
			checkLine(t, strings.TrimSuffix(l, "\n"), seen)
		}
	})
}

func checkLine(t *testing.T, l string, seen map[string]bool) {
	t.Helper()
	i := strings.LastIndexByte(l, ' ')
	stack, count := l[:i], l[i+1:]
	if seen[stack] {
		t.Errorf("two lines for %q", stack)
	}
	seen[stack] = true
	for reader, re := range map[string]*regexp.Regexp{"flamegraph.pl": flamegraph, "speedscope": speedscope, "Firefox": firefox} {
		m := re.FindStringSubmatch(l)
		if m == nil || m[0] != l || m[1] != stack || m[2] != count {
			t.Errorf("%s reads %.200q as %.200q", reader, l, m)
		}
	}
	if flamegraph.MatchString(stack) {
		t.Errorf("flamegraph.pl takes %.200q for a differential line", l)
	}
	for frame := range strings.SplitSeq(stack, ";") {
		if strings.TrimSpace(frame) == "" {
			t.Errorf("empty frame in %.200q", l)
		}
	}
	if thread, _, _ := strings.Cut(stack, ";"); strings.Contains(thread, " ") {
		t.Errorf("space in thread name %q", thread)
	}
}

func TestRoundTrip(t *testing.T) {
	encodingtest.EachRandom(t, func(t *testing.T, p *profile.Profile) {
		text := written(t, p, Options{})
		lines, err := Parse(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var total uint64
		for _, l := range lines {
			total += l.Count
		}
		if want := encodingtest.Samples(p); total != want {
			t.Errorf("lines have %d samples, want %d", total, want)
		}
		if d := cmp.Diff(string(text), join(lines)); d != "" {
			t.Errorf("written again, -first +second:\n%s", d)
		}
	})
}

func TestWriteFails(t *testing.T) {
	full := errors.New("disk full")
	if err := Write(failingWriter{full}, encodingtest.Example(), Options{}); !errors.Is(err, full) {
		t.Errorf("got error %v, want %v", err, full)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestParse(t *testing.T) {
	check := func(label, in string, want ...Line) {
		t.Helper()
		got, err := Parse(iotest.OneByteReader(strings.NewReader(in)))
		if err != nil {
			t.Errorf("%s: %v", label, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: -want +got:\n%s", label, d)
		}
	}
	check("empty", "")
	check("usual", "a;b c;d 12\na 3\n", Line{[]string{"a", "b c", "d"}, 12}, Line{[]string{"a"}, 3})
	check("no last newline", "a 1", Line{[]string{"a"}, 1})
	check("Windows", "a 1\r\n\r\n", Line{[]string{"a"}, 1})
	check("header", "# {\"host\":\"a\"}\n#c 1\n", Line{[]string{"#c"}, 1})
	check("empty names", ";; 1\n", Line{[]string{"", "", ""}, 1})
	check("largest", "a 18446744073709551615\n", Line{[]string{"a"}, math.MaxUint64})

	refuse := func(label, in, want string) {
		t.Helper()
		if _, err := Parse(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one with %q", label, err, want)
		}
	}
	refuse("no count", "a 1\nb\n", "line 2: no count")
	refuse("empty count", "a \n", "no count")
	refuse("fraction", "a 1.5\n", "no count")
	refuse("negative", "a -1\n", "no count")
	refuse("too large a count", "a 18446744073709551616\n", "out of range")
	refuse("too large a sum", "a 18446744073709551615\nb 1\n", "64 bits")
	refuse("long line", strings.Repeat("a", maxLine+1)+" 1\n", "too long")
	refuse("many frames", strings.Repeat(strings.Repeat(";", maxLine-10)+" 1\n", 3), "too large")
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("a;b 1\nc 2\n"))
	f.Add([]byte("# x\n\r\n;; 1\na  1"))
	f.Add([]byte("a 18446744073709551615\nb 1"))
	f.Fuzz(func(t *testing.T, in []byte) {
		lines, err := Parse(bytes.NewReader(in))
		if err != nil {
			return
		}
		again, err := Parse(strings.NewReader(join(lines)))
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if d := cmp.Diff(lines, again); d != "" {
			t.Errorf("read again, -first +second:\n%s", d)
		}
	})
}

func FuzzSpell(f *testing.F) {
	for _, name := range encodingtest.HostileNames {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		checkLine(t, spellThread(name)+";"+spell(name)+" 7", map[string]bool{})
		if again := spell(spell(name)); again != spell(name) {
			t.Errorf("%q is spelled %q, and that again %q", name, spell(name), again)
		}
	})
}

func join(lines []Line) string {
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(strings.Join(l.Frames, ";"))
		fmt.Fprintf(&b, " %d\n", l.Count)
	}
	return b.String()
}
