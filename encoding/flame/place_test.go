// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

func TestPlace(t *testing.T) {
	for want, n := range map[string]profile.Node{
		"":                              {Total: 8},
		"a.c:3–7":                       {File: "a.c", First: 3, Last: 7},
		"a.c:3":                         {File: "a.c", First: 3, Last: 3},
		"a.c":                           {File: "a.c"},
		"net/http/server.go:1":          {File: "/usr/local/go/src/net/http/server.go", First: 1, Last: 1},
		"a.c:3 · inlined":               {File: "a.c", First: 3, Last: 3, Inlined: 8, Total: 8},
		"inlined in 25.00%":             {Inlined: 2, Total: 8},
		`\u202ea.c:1`:                   {File: "\u202ea.c", First: 1, Last: 1},
		"net/http/<a>&;.go:1 · inlined": {File: "/src/net/http/<a>&;.go", First: 1, Last: 1, Inlined: 1, Total: 1},
	} {
		if got := place(&n); got != want {
			t.Errorf("%+v: got %q, want %q", n, got, want)
		}
	}
	for want, objects := range map[string][]string{
		"": {""}, "a": {"a"}, "a, b, c": {"a", "b", "c"}, "a, b, c, …": {"a", "b", "c", "d"},
	} {
		if got := objectNames(objects); got != want {
			t.Errorf("%q: got %q, want %q", objects, got, want)
		}
	}
}

// What a box stands for is in the hover text of both drawings, and inlined
// ones are lower.
func TestHover(t *testing.T) {
	b := profile.NewBuilder()
	p := b.Profile()
	for i, object := range []string{"libone.so", "libtwo.so"} {
		m := b.Mapping(profile.Mapping{Start: profile.Addr(0x1000 * i), Limit: profile.Addr(0x1000*i + 0x1000), Path: "/usr/lib/" + object})
		id := b.Address(profile.Addr(0x1000*i+1), m, false)
		p.Addresses[id].Frames = []profile.Frame{{Name: "<inner>", File: "/src/in.h", Line: 5 + i}, {Name: "outer", File: "/src/out.c", Line: 9}}
		b.Add(profile.Thread{PID: 1, TID: 1, Comm: "t"}, []profile.AddressID{id}, false, 1)
	}
	p.Count()
	svg := svgOf(t, p)
	pic := read(t, svg)
	for row, want := range map[int]string{
		2: "outer (2 samples, 100.00%) · libone.so, libtwo.so · src/out.c:9",
		3: "<inner> (2 samples, 100.00%) · libone.so, libtwo.so · src/in.h:5–6 · inlined",
	} {
		if got := pic.rows[row][0].hover; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if n := strings.Count(string(svg), `" y="3" width="`); n != 1 {
		t.Errorf("%d boxes are lower, want 1", n)
	}
	d := dataOf(t, htmlOf(t, p))
	inner := len(d.Nodes.Function) - 1
	if got := d.Strings[d.Nodes.Place[inner]]; got != "src/in.h:5–6 · inlined" || d.Nodes.Inlined[inner] != 1 || d.Nodes.Inlined[inner-1] != 0 {
		t.Errorf("the page says %q, %v", got, d.Nodes.Inlined)
	}
	if got := d.Strings[d.Function.Object[d.Nodes.Function[inner]]]; got != "libone.so, libtwo.so" {
		t.Errorf("the page says %q", got)
	}
}
