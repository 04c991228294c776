// SPDX-License-Identifier: Apache-2.0

// Package encodingtest has the profiles that the tests of all formats write:
// one to look at, and random ones with names that try to break a format.
package encodingtest

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/carverauto/serviceradar-profiler/profile"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Golden compares got with testdata/name, or with -update writes it there.
func Golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s differs, -want +got (rewrite it with -update):\n%s", path, d)
	}
}

// Written is what write makes of p.
func Written(t testing.TB, p *profile.Profile, write func(*bytes.Buffer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Samples is the sum of all counts, which every format must show.
func Samples(p *profile.Profile) (n uint64) {
	for i := range p.Samples {
		n += p.Samples[i].Count
	}
	return n
}

// builder makes a profile from names.
type builder struct {
	*profile.Builder
	next   profile.Addr
	frames map[profile.AddressID][]profile.Frame
}

func newBuilder() *builder {
	return &builder{profile.NewBuilder(), 0, map[profile.AddressID][]profile.Frame{}}
}

// address adds an address of its own in m, with frames of the given names,
// innermost first; without any it stays unknown.
func (b *builder) address(m profile.MappingID, isReturn bool, names ...string) profile.AddressID {
	base := profile.Addr(0x1000) // in no mapping
	if mapping := b.Profile().Mapping(m); mapping != nil {
		base = mapping.Start
	}
	b.next += 0x10
	id := b.Address(base+b.next, m, isReturn)
	kind := profile.FrameUser
	if mapping := b.Profile().Mapping(m); mapping != nil && mapping.Kind == profile.MappingKernel {
		kind = profile.FrameKernel
	}
	for _, n := range names {
		f := profile.Frame{Name: n, SystemName: n, Kind: kind}
		if len(names) > 1 { // debug information knows more than names
			f.File, f.Line = n+".c", 10*(1+len(b.frames[id]))
		}
		b.frames[id] = append(b.frames[id], f)
	}
	return id
}

// done names the addresses and counts.
func (b *builder) done(m profile.Metadata) *profile.Profile {
	p := b.Profile()
	for id, frames := range b.frames {
		p.Addresses[id].Frames = frames
	}
	p.Meta = m
	p.Count()
	return p
}

func metadata() profile.Metadata {
	start := time.Date(2026, 7, 14, 3, 0, 0, 0, time.UTC)
	return profile.Metadata{
		Tool: "srprof", ToolVersion: "v0.1.0", Host: "web-01", Kernel: "6.1.0-18", Arch: "amd64",
		Targets:    []profile.Target{{PID: 1234, Name: "redis-server", Command: "/usr/bin/redis-server"}},
		Event:      "cpu-clock",
		UserStacks: "frame pointer", FrequencyHz: 99, CPUs: 4,
		Start: start, FirstSample: start.Add(11 * time.Millisecond),
		DurationNs: 30e9, SymbolizeNs: 123456789, CPUTimeNs: 56.1e9, Ended: profile.EndedDuration,
	}
}

// Mappings of the profiles below.
var (
	redis  = profile.Mapping{Start: 0x400000, Limit: 0x800000, Offset: 0x1000, Path: "/usr/bin/redis-server", BuildID: "0123456789abcdef0123456789abcdef01234567"}
	libc   = profile.Mapping{Start: 0x7f0000000000, Limit: 0x7f0000200000, Offset: 0x26000, Path: "/usr/lib/x86_64-linux-gnu/libc.so.6", BuildID: "go:ab_C/d-E"}
	bare   = profile.Mapping{Start: 0x7f0000400000, Limit: 0x7f0000500000, Path: "/opt/acme/lib/libacme.so", BuildID: "hash:00ff"}
	jit    = profile.Mapping{Start: 0x7f0000600000, Limit: 0x7f0000700000, Kind: profile.MappingAnonymous}
	vdso   = profile.Mapping{Start: 0x7ffc00000000, Limit: 0x7ffc00001000, Path: "[vdso]", Kind: profile.MappingVDSO}
	kernel = profile.Mapping{Start: 0xffffffff81000000, Limit: 0xffffffff82000000, Path: profile.KernelPath, Kind: profile.MappingKernel}
)

// Example is a small profile with one of everything: kernel, inlined, JIT and
// unknown frames, truncated and empty stacks, two threads and two processes.
func Example() *profile.Profile {
	b := newBuilder()
	k := b.Mapping(kernel)
	c := b.Mapping(libc)
	r, unnamed, anonymous, v := b.Mapping(redis), b.Mapping(bare), b.Mapping(jit), b.Mapping(vdso)

	start := b.address(r, true, "_start")
	main := b.address(r, true, "main")
	loop := b.address(r, true, "processEvents", "aeMain") // processEvents inlined into aeMain
	find := b.address(r, false, "dictFind")
	alloc := b.address(r, false, "operator new 8")
	write := b.address(c, true, "write")
	syscall := b.address(k, true, "entry_SYSCALL_64_after_hwframe")
	send := b.address(k, false, "tcp_sendmsg")
	module := b.Address(0xffffffffc0001000, k, true) // far from the kernel's text
	b.frames[module] = []profile.Frame{{Name: "nft_do_chain", SystemName: "nft_do_chain", Kind: profile.FrameKernel}}
	clock := b.address(v, false, "__vdso_clock_gettime")
	lua := b.address(anonymous, true, "lua:eval;loop")
	acme := b.address(unnamed, true)
	nowhere := b.address(profile.NoMapping, true)

	server := profile.Thread{PID: 1234, TID: 1234, Comm: "redis-server"}
	lazy := profile.Thread{PID: 1234, TID: 1235, Comm: "bio lazy free"}
	fork := profile.Thread{PID: 2000, TID: 2000, Comm: "redis-aof"}
	add := func(t profile.Thread, truncated bool, n uint64, leafFirst ...profile.AddressID) {
		b.Add(t, leafFirst, truncated, n)
	}
	add(server, false, 1200, find, loop, main, start)
	add(server, false, 300, send, syscall, write, loop, main, start)
	add(server, false, 55, module, syscall, write, loop, main, start)
	add(server, false, 21, clock, loop, main, start)
	add(server, false, 34, alloc, lua, loop, main, start)
	add(server, true, 7, find, loop)
	add(lazy, false, 89, find, acme, nowhere)
	add(lazy, false, 3, send) // a kernel thread has no user stack
	add(fork, false, 2, write, main, start)
	add(fork, false, 1) // nothing could be walked
	m := metadata()
	m.Counts.Lost = 5
	m.Unnamed = []profile.Unnamed{
		{Object: bare.Object(), Path: bare.Path, BuildID: bare.BuildID, Samples: 89, Addresses: 1, Reason: profile.ReasonStripped,
			Why: "it has no symbol table (stripped)", Remedy: "install acme-dbgsym"},
		{Object: "[unknown]", Samples: 89, Addresses: 1, Reason: profile.ReasonNoMapping, Why: "outside all mappings"},
	}
	m.Warn("Sampling ran at 99 Hz instead of 999.")
	return b.done(m)
}

// Empty is a profile of a session that took no sample.
func Empty() *profile.Profile {
	m := metadata()
	m.FirstSample = time.Time{}
	m.CPUTimeNs = 0
	return newBuilder().done(m)
}

// HostileNames try to break a format or the screen it is read on.
var HostileNames = []string{
	"", " ", "42", " 42", "operator new 8", "f 1 2", "f 1.5", "f 8.", "f\u00a0" + "7", "f ٣", "f\t9", "a;b", ";", ";;; 1",
	"line\nbreak 5", "cr\rlf\r\n", "nul\x00byte", "\x1b[2J\x1b]0;title\x07", "\u009b31mred", "</script><script>alert(1)</script>",
	"<!--", "]]>", "&amp;<b>\"'`", "\\u0000\\\"", "\u202eevil\u202c", "\u200f", "\ufeffbom", "f\u2028g\u2029 3",
	"\xff\xfe", "f\xc3 8", "\xed\xa0\x80", "名前 漢字", "e\u0301\u0301\u0301", "🔥", "-", "--", "_[k]", "x_[k]", "#comment",
	"# {\"a\":1}", "[unknown]", "std::map<int, std::pair<a, b> >::operator[](int const&)", "main.(*T).Method",
	strings.Repeat("long", 2500), strings.Repeat("é", 5000), strings.Repeat(" 1", 5000), "%s%n%d", "../../etc/passwd",
	"__proto__", "constructor", "=cmd|'/c calc'!A1",
}

// Random is a profile with hostile names everywhere a stranger has a say.
func Random(r *rand.Rand) *profile.Profile {
	name := func() string { return HostileNames[r.IntN(len(HostileNames))] }
	b := newBuilder()
	ids := []profile.MappingID{profile.NoMapping}
	for _, m := range []profile.Mapping{libc, redis, bare, jit, vdso, kernel} {
		if r.IntN(4) > 0 {
			if r.IntN(3) == 0 && m.Kind == profile.MappingObject {
				m.Path, m.BuildID = "/"+name(), profile.BuildID(name())
			}
			ids = append(ids, b.Mapping(m))
		}
	}
	var addresses []profile.AddressID
	for range 1 + r.IntN(40) {
		names := make([]string, r.IntN(5))
		for i := range names {
			names[i] = name()
		}
		addresses = append(addresses, b.address(ids[r.IntN(len(ids))], r.IntN(2) == 0, names...))
	}
	for range r.IntN(60) {
		stack := make([]profile.AddressID, r.IntN(12))
		for i := range stack {
			stack[i] = addresses[r.IntN(len(addresses))]
		}
		t := profile.Thread{PID: 1234 + r.IntN(3), TID: r.IntN(5), Comm: name()}
		b.Add(t, stack, r.IntN(5) == 0, 1+r.Uint64N(1000))
	}
	m := metadata()
	m.Counts.Lost = r.Uint64N(10)
	m.Host, m.ToolVersion = name(), name()
	m.Targets = m.Targets[:r.IntN(2)]
	if r.IntN(2) == 0 {
		m.Targets = append(m.Targets, profile.Target{PID: 1235, Command: "/bin/" + name()})
	}
	m.Warn(fmt.Sprintf("%s is strange", name()))
	return b.done(m)
}

// EachRandom runs check on many random profiles, the same ones each time.
func EachRandom(t *testing.T, check func(t *testing.T, p *profile.Profile)) {
	t.Helper()
	for seed := range uint64(80) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			check(t, Random(rand.New(rand.NewPCG(seed, 0))))
		})
	}
}

// Large is a profile of a busy service: many deep stacks of few functions.
func Large(stacks, depth int) *profile.Profile {
	r := rand.New(rand.NewPCG(1, 2))
	b := newBuilder()
	m := b.Mapping(redis)
	var addresses []profile.AddressID
	for i := range 5000 {
		name := fmt.Sprintf("acme::storage::engine::Table%d<std::string, int>::lookup(std::string const&)", i)
		addresses = append(addresses, b.address(m, true, name))
	}
	stack := make([]profile.AddressID, depth)
	for range stacks {
		for i := range stack { // alike near the root, which is last, as stacks are
			stack[i] = addresses[r.IntN(2+(depth-i)*len(addresses)/depth/20)]
		}
		b.Add(profile.Thread{PID: 1234, TID: 1234 + r.IntN(16), Comm: "worker"}, stack, false, 1+r.Uint64N(3))
	}
	return b.done(metadata())
}
