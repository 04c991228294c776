// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// build makes a profile in which f calls g and h, and g calls itself.
func build() *Profile {
	b := NewBuilder()
	lib := b.Mapping(Mapping{Start: 0x1000, Limit: 0x9000, Path: "/usr/lib/libx.so"})
	kernel := b.Mapping(Mapping{Start: 1 << 63, Limit: ^Addr(0), Path: KernelPath, Kind: MappingKernel})
	f, g, h := b.Address(0x1100, lib, true), b.Address(0x1200, lib, true), b.Address(0x1300, lib, false)
	gLeaf := b.Address(0x1210, lib, false)
	k := b.Address(1<<63+5, kernel, false)
	nowhere := b.Address(0x10, NoMapping, true)
	t := Thread{PID: 7, TID: 8, Comm: "worker"}
	b.Add(t, []AddressID{h, f}, false, 3)
	b.Add(t, []AddressID{gLeaf, g, f}, false, 2)
	b.Add(t, []AddressID{k, h, f}, false, 4)
	b.Add(t, []AddressID{h, f}, false, 1) // equal to the first
	b.Add(Thread{PID: 7, TID: 9, Comm: "other"}, []AddressID{h, nowhere}, true, 1)
	b.Add(Thread{PID: 7, TID: 9, Comm: "other"}, nil, false, 1)
	p := b.Profile()
	for id, name := range map[AddressID]string{f: "f", g: "g", h: "h", gLeaf: "g"} {
		p.Addresses[id].Frames = []Frame{{Name: name, SystemName: name}}
	}
	p.Addresses[k].Frames = []Frame{{Name: "sys_read", Kind: FrameKernel}}
	return p
}

func TestBuilderMergesEqualStacks(t *testing.T) {
	p := build()
	if len(p.Samples) != 5 {
		t.Fatalf("%d samples, want 5", len(p.Samples))
	}
	if p.Samples[0].Count != 4 {
		t.Errorf("equal stacks were not added up: %d, want 4", p.Samples[0].Count)
	}
	if n := len(p.Addresses); n != 6 {
		t.Errorf("%d addresses, want 6", n)
	}
}

func TestCount(t *testing.T) {
	p := build()
	p.Meta.Counts.Lost = 9
	p.Count()
	want := Counts{Samples: 12, Lost: 9, Truncated: 1, Unknown: 1}
	if p.Meta.Counts != want || p.Meta.Threads != 2 {
		t.Errorf("%+v in %d threads, want %+v in 2", p.Meta.Counts, p.Meta.Threads, want)
	}
}

func TestTree(t *testing.T) {
	const lib = "libx.so"
	leaf := func(name string, n uint64) *Node { return &Node{Name: name, Object: lib, Self: n, Total: n} }
	h := leaf("h", 4)
	h.Total = 8
	h.Children = []*Node{{Name: "sys_read", Kind: FrameKernel, Object: "[kernel]", Self: 4, Total: 4}}
	want := &Node{Name: "all", Kind: FrameThread, Total: 12, Children: []*Node{
		{Name: "other", Kind: FrameThread, Self: 1, Total: 2, Children: []*Node{
			{Name: "[unknown]", Total: 1, Children: []*Node{leaf("h", 1)}}}},
		{Name: "worker", Kind: FrameThread, Total: 10, Children: []*Node{
			{Name: "f", Object: lib, Total: 10, Children: []*Node{
				{Name: "g", Object: lib, Total: 2, Children: []*Node{leaf("g", 2)}}, h}}}},
	}}
	if d := cmp.Diff(want, build().Tree(), cmp.AllowUnexported(Node{})); d != "" {
		t.Error(d)
	}
}

// A recursive function counts once a sample in Total.
func TestFunctions(t *testing.T) {
	want := []Function{
		{"h", FrameUser, "libx.so", 5, 9},
		{"sys_read", FrameKernel, "[kernel]", 4, 4},
		{"g", FrameUser, "libx.so", 2, 2},
		{"f", FrameUser, "libx.so", 0, 10},
		{"[unknown]", FrameUser, "", 0, 1},
	}
	if d := cmp.Diff(want, build().Functions()); d != "" {
		t.Error(d)
	}
}

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		a    Address
		want Addr
	}{{Address{Addr: 8}, 8}, {Address{Addr: 8, Return: true}, 7}, {Address{Return: true}, 0}} {
		if got := c.a.Lookup(); got != c.want {
			t.Errorf("%+v is looked up at %v, want %v", c.a, got, c.want)
		}
	}
}

func TestUnknownFrame(t *testing.T) {
	for _, c := range []struct {
		m    *Mapping
		want string
		kind FrameKind
	}{
		{nil, "[unknown]", FrameUser},
		{&Mapping{Path: "/usr/lib/libfoo.so"}, "[libfoo.so]", FrameUser},
		{&Mapping{Kind: MappingVDSO, Path: "[vdso]"}, "[vdso]", FrameUser},
		{&Mapping{Kind: MappingAnonymous}, "[anonymous]", FrameUser},
		{&Mapping{Kind: MappingKernel, Path: KernelPath}, "[kernel]", FrameKernel},
	} {
		if f := UnknownFrame(c.m); f.Name != c.want || f.Kind != c.kind || !f.Unknown {
			t.Errorf("%+v: %+v, want name %s", c.m, f, c.want)
		}
	}
}

// Whatever is added, the samples, the tree and the self counts of all
// functions add up to the same.
func TestTotalsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := NewBuilder()
	m := b.Mapping(Mapping{Limit: 1 << 20, Path: "/bin/x"})
	var added uint64
	for range 20_000 {
		ids := make([]AddressID, 1+r.IntN(300))
		for i := range ids {
			ids[i] = b.Address(Addr(r.IntN(40)), m, i > 0)
		}
		n := uint64(1 + r.IntN(5))
		added += n
		b.Add(Thread{PID: 1, TID: r.IntN(3), Comm: "x"}, ids, r.IntN(9) == 0, n)
	}
	p := b.Profile()
	p.Count()
	var self uint64
	for _, f := range p.Functions() {
		self += f.Self
	}
	if tree := p.Tree().Total; p.Meta.Counts.Samples != added || tree != added || self != added {
		t.Errorf("added %d, samples %d, tree %d, self %d", added, p.Meta.Counts.Samples, tree, self)
	}
}
