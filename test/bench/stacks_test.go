// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
)

func TestOverlap(t *testing.T) {
	type counts = map[string]float64
	for _, c := range []struct {
		a, b counts
		want float64
	}{
		{counts{"f": 1, "g": 3}, counts{"f": 25, "g": 75}, 1},
		{counts{"f": 1}, counts{"g": 1}, 0},
		{counts{"f": 3, "g": 1}, counts{"f": 1, "g": 1, "h": 2}, 0.5},
	} {
		if got := overlap(c.a, c.b); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("overlap of %v and %v is %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// Two draws of n from two equally likely functions differ by the mean distance
// of two binomial shares, 1/√(πn) for large n.
func TestChance(t *testing.T) {
	a := map[string]float64{"f": 500, "g": 500}
	want := 1 - 1/math.Sqrt(math.Pi*1000)
	if got := chance(a, a); math.Abs(got-want) > 0.005 {
		t.Errorf("chance leaves %.4f, want %.4f", got, want)
	}
	if got := chance(map[string]float64{"f": 7}, map[string]float64{"f": 9}); got != 1 {
		t.Errorf("of one function chance leaves %v", got)
	}
}

// What perf script prints, with places in files for code of files.
func TestParsePerf(t *testing.T) {
	const text = `
 4242/4243  
	ffffffff8200a885 ([kernel.kallsyms])
	           2a510 (/usr/lib/a b (1).so)
	    7f0000001234 ([unknown])
	ffffffffffffffff ([unknown])

 4242/4242  
	           2b000 (/usr/lib/a b (1).so)

`
	m := process.Mapping{Mapping: profile.Mapping{Start: 0x7f1000000000, Limit: 0x7f1000010000, Offset: 0x2a000, Path: "/usr/lib/a b (1).so"}}
	got, err := parsePerf(strings.NewReader(text), images{4242: {mappings: []process.Mapping{m}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []stack{
		{pid: 4242, count: 1, addresses: []profile.Addr{0xffffffff8200a885, 0x7f1000000510, 0x7f0000001234}},
		{pid: 4242, count: 1, addresses: []profile.Addr{0x7f1000001000}},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(stack{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if _, err := parsePerf(strings.NewReader("no process\n"), nil); err == nil {
		t.Error("another text is no error")
	}
}

// The last frames of this process's own threads: Go's programs have no code
// without a caller but what their runtime says, libc's has _start and clone.
func TestRoot(t *testing.T) {
	b := &bench{ctx: t.Context(), dir: t.TempDir()}
	tg, err := b.command("", "/bin/sleep", "1000")
	if err != nil {
		t.Fatal(err)
	}
	defer tg.stop()
	var all images
	if err := b.until("libc", func() bool { // it is not mapped at once
		all, err = readImages(tg.pids)
		return err == nil && find(all[tg.pids[0]], "libc.so.6") != nil
	}); err != nil {
		t.Fatal(err)
	}
	im := all[tg.pids[0]]
	roots := 0
	m := find(im, "libc.so.6")
	for a := m.Start; a < m.Limit; a++ {
		if all.isRoot(tg.pids[0], a) {
			roots++
		}
	}
	if roots == 0 || roots > 1000 {
		t.Errorf("%d of libc's addresses are roots, want those of clone and clone3", roots)
	}
	if all.isRoot(tg.pids[0], 0) || all.isRoot(0, m.Start) {
		t.Error("an address of no code is a root")
	}
}

// find is the code of an object.
func find(im *image, name string) *process.Mapping {
	for i := range im.mappings {
		if m := &im.mappings[i]; m.Object() == name && m.Offset > 0 && im.objects[i] != nil && len(im.objects[i].tables) > 0 {
			return m
		}
	}
	return nil
}
