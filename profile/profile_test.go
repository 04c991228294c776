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

// One function from two objects, inlined here and called there, is one node
// that says so; and a function's lines are the range that samples went through.
func TestTreeMergesObjects(t *testing.T) {
	b := NewBuilder()
	one := b.Mapping(Mapping{Start: 0x1000, Limit: 0x2000, Path: "/usr/lib/libone.so"})
	two := b.Mapping(Mapping{Start: 0x3000, Limit: 0x4000, Path: "/usr/lib/libtwo.so"})
	p := b.Profile()
	add := func(m MappingID, n uint64, frames ...Frame) {
		id := b.Address(p.Mappings[m].Start+Addr(len(p.Addresses)), m, false)
		b.Add(Thread{PID: 1, TID: 1, Comm: "t"}, []AddressID{id}, false, n)
		p.Addresses[id].Frames = frames
	}
	main := func(line int) Frame { return Frame{Name: "main", File: "main.c", Line: line} }
	add(one, 4, Frame{Name: "f", File: "f.h", Line: 7}, main(30))
	add(one, 2, Frame{Name: "f", File: "f.h", Line: 3}, main(20))
	add(two, 1, Frame{Name: "f", File: "other.h", Line: 99}, main(0))
	add(two, 1, main(25))
	want := &Node{Name: "main", Object: "libone.so", Also: []string{"libtwo.so"}, File: "main.c", First: 20, Last: 30, Self: 1, Total: 8, Children: []*Node{
		{Name: "f", Object: "libone.so", Also: []string{"libtwo.so"}, File: "f.h", First: 3, Last: 7, Self: 7, Total: 7, Inlined: 7}}}
	if d := cmp.Diff(want, p.Tree().Children[0].Children[0], cmp.AllowUnexported(Node{})); d != "" {
		t.Error(d)
	}
	// The drawing stays as small if many objects have the function.
	for i := range 20 {
		m := b.Mapping(Mapping{Start: Addr(0x10000 * (i + 1)), Limit: Addr(0x10000*(i+1) + 0x1000), Path: "/usr/lib/lib" + string(rune('a'+i)) + ".so"})
		add(m, 1, main(25))
	}
	if n := p.Tree().Children[0].Children[0]; len(n.Also) != maxAlso || n.Total != 28 {
		t.Errorf("%d objects of %d samples", len(n.Also), n.Total)
	}
}

func TestShortened(t *testing.T) {
	b := NewBuilder()
	m := b.Mapping(Mapping{Start: 0x1000, Limit: 0x2000, Path: "/bin/x"})
	jit := b.Mapping(Mapping{Start: 0x3000, Limit: 0x4000, Kind: MappingAnonymous})
	named, made := b.Address(0x1000, m, false), b.Address(0x3000, jit, true)
	b.Add(Thread{PID: 1, TID: 1, Comm: "t"}, []AddressID{named, made}, false, 1)
	p := b.Profile()
	const template, java = "int A<int>::f<char>(char)", "int Foo.bar(int)"
	p.Addresses[named].Frames = []Frame{{Name: template, SystemName: "_ZN1AIiE1fIcEEic", File: "a.cc", Line: 3}}
	p.Addresses[made].Frames = []Frame{{Name: java}}
	short := p.Shortened()
	if f := short.Addresses[named].Frames[0]; f != (Frame{Name: "A<...>::f<...>", SystemName: "_ZN1AIiE1fIcEEic", File: "a.cc", Line: 3}) {
		t.Errorf("%+v", f)
	}
	if f := short.Addresses[made].Frames[0]; f.Name != java {
		t.Errorf("%+v", f)
	}
	if p.Addresses[named].Frames[0].Name != template {
		t.Error("the profile itself was changed")
	}
}
