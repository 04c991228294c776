// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/carverauto/serviceradar-profiler/encoding/folded"
)

func TestParse(t *testing.T) {
	p, err := parse("x.c", "// a comment: nothing\n// build: -O2 -pthread\n// library: liby.c\n// expect: main;a b 12.5\n//   expect: no\n\t// expect: no 1\n// expect: c* >90\nint main;\n")
	if err != nil {
		t.Fatal(err)
	}
	want := &Program{Name: "x.c", Flags: []string{"-O2", "-pthread"}, Library: "liby.c", Expect: []Expectation{
		{Frames: []string{"main", "a b"}, Share: 0.125},
		{Frames: []string{"c*"}, Share: 0.9, AtLeast: true},
	}}
	if d := cmp.Diff(want, p); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	for _, bad := range []string{"// expect: main", "// expect: main x"} {
		if _, err := parse("x.c", bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// A share that is forgotten would never be compared.
func TestSharesAddUp(t *testing.T) {
	for _, name := range []string{"split.c", "split.cpp", "split.rs", "goroutines", "demo", "threads.c", "forks.c", "shared.c", "exits.c", "execs.c", "depth.c", "perfmap.c"} {
		p, err := Read(name)
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		for _, e := range p.Expect {
			sum += e.Share
		}
		if sum < 0.9999 || sum > 1.0001 {
			t.Errorf("%s expects %.2f of the samples, want all", name, sum)
		}
	}
}

func TestCompare(t *testing.T) {
	lines, err := folded.Parse(strings.NewReader("x;_start;main;run;hot_a 600\nx;_start;main;run;hot_b;irq_[k] 300\nx;_start;main;run;hot_c 100\n"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(label string, want int, expect ...string) {
		t.Helper()
		var all []Expectation
		for _, s := range expect {
			e, err := parseExpectation(s)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		if got := Compare(all, lines); len(got) != want {
			t.Errorf("%s: %d wrong shares, want %d: %q", label, len(got), want, got)
		}
	}
	check("exact", 0, "main;run;hot_a 60", "main;run;hot_b 30", "main;run;hot_c 10")
	check("within chance", 0, "hot_a 65")
	check("beyond chance", 2, "hot_a 70", "hot_b 20")
	check("not in a row", 1, "main;hot_a 60")
	check("at least", 0, "main >50", "run;hot_* >99")
	check("not even that", 1, "hot_a >80")
	if got := Compare(nil, nil); len(got) != 1 {
		t.Errorf("no samples: %q, want one sentence", got)
	}
}
