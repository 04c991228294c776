// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// frame is a function in a test's stack.
type frame struct {
	name, object string
	kind         profile.FrameKind
}

// stacks makes profiles: each frame is an address of its own.
type stacks struct {
	b      *profile.Builder
	ids    map[frame]profile.AddressID
	frames []frame
	maps   map[string]profile.MappingID
}

func newStacks() *stacks {
	return &stacks{b: profile.NewBuilder(), ids: map[frame]profile.AddressID{}, maps: map[string]profile.MappingID{}}
}

// add counts a stack given root first.
func (s *stacks) add(n uint64, comm string, path ...frame) {
	ids := make([]profile.AddressID, len(path))
	for i, f := range path {
		id, ok := s.ids[f]
		if !ok {
			id = s.b.Address(profile.Addr(0x1000+len(s.ids)), s.mapping(f), false)
			s.ids[f] = id
			s.frames = append(s.frames, f)
		}
		ids[len(path)-1-i] = id
	}
	s.b.Add(profile.Thread{PID: 7, TID: 7, Comm: comm}, ids, false, n)
}

func (s *stacks) mapping(f frame) profile.MappingID {
	m, ok := s.maps[f.object]
	if !ok {
		kind := profile.MappingObject
		if f.kind == profile.FrameKernel {
			kind = profile.MappingKernel
		}
		m = s.b.Mapping(profile.Mapping{Path: "/usr/bin/" + f.object, Kind: kind})
		s.maps[f.object] = m
	}
	return m
}

func (s *stacks) profile() *profile.Profile {
	p := s.b.Profile()
	for i, f := range s.frames {
		p.Addresses[i].Frames = []profile.Frame{{Name: f.name, SystemName: f.name, Kind: f.kind}}
	}
	p.Meta = profile.Metadata{
		Tool: "srprof", ToolVersion: "v0", Host: "host-1", Kernel: "6.1.0", Arch: "amd64", Event: "cpu-clock",
		Targets: []profile.Target{{PID: 7, Command: "/usr/bin/app"}}, FrequencyHz: 99, CPUs: 2,
		Start: time.Date(2026, 10, 20, 3, 4, 5, 0, time.UTC), DurationNs: int64(10 * time.Second), Ended: profile.EndedDuration,
	}
	p.Count()
	return p
}

// known has 1000 samples, so that every number below is plain to see:
//
//	all worker main parse           250, of them in malloc 100
//	                read (kernel)   200
//	                render Shape::draw(int)   550, of them in memcpy 300
func known() *profile.Profile {
	app := func(name string) frame { return frame{name, "app", profile.FrameUser} }
	libc := func(name string) frame { return frame{name, "libc.so.6", profile.FrameUser} }
	s := newStacks()
	s.add(100, "worker", app("main"), app("parse"), libc("malloc"))
	s.add(150, "worker", app("main"), app("parse"))
	s.add(200, "worker", app("main"), frame{"read", "kernel", profile.FrameKernel})
	s.add(250, "worker", app("main"), app("render"), app("Shape::draw(int)"))
	s.add(300, "worker", app("main"), app("render"), app("Shape::draw(int)"), libc("memcpy"))
	return s.profile()
}

// hostile has names that would act if anything took them for markup.
func hostile() *profile.Profile {
	s := newStacks()
	names := []string{
		"</script><script>window.pwned=1</script>", "]]><script>window.pwned=2</script>", "<!--<script>",
		`"><img src=x onerror="window.pwned=3">`, "<svg onload=window.pwned=4>", "</title><script>window.pwned=5</script>",
		"</style><script>window.pwned=6</script>", "javascript:window.pwned=7", "';window.pwned=8;//", "\\\";window.pwned=9;//",
		"${window.pwned=10}", "{{window.pwned=11}}", "\u2028window.pwned=12\u2029", "\x00\x1b[2J\xff", "\u202egnp.exe", "(", "[", "a|b",
		strings.Repeat("long", 2_500),
	}
	for i, n := range names {
		f := frame{n, n, profile.FrameUser}
		s.add(uint64(50+i), n, f, frame{names[(i+1)%len(names)], "app", profile.FrameUser})
	}
	p := s.profile()
	p.Meta.Host, p.Meta.Kernel, p.Meta.Event = names[0], names[3], names[0]
	p.Meta.Targets[0].Command = names[4]
	p.Meta.Warn(names[0])
	p.Meta.Warn(names[3])
	return p
}

// big has at least n nodes; names repeat as they do in programs.
func big(n int) *profile.Profile {
	s := newStacks()
	r := rand.New(rand.NewPCG(1, 2))
	for nodes := 0; nodes < n; {
		fn, path := 0, []frame(nil)
		for range 5 + r.IntN(45) {
			fn = (fn*31 + r.IntN(3) + 1) % 5000
			path = append(path, frame{fmt.Sprintf("function_%d", fn), "app", profile.FrameUser})
		}
		s.add(uint64(1+r.IntN(20)), "worker", path...)
		nodes += len(path) / 2
	}
	return s.profile()
}

// deep is one recursion of n levels.
func deep(n int) *profile.Profile {
	s := newStacks()
	var path []frame
	for i := range n {
		path = append(path, frame{fmt.Sprintf("recurse_%d", i), "app", profile.FrameUser})
	}
	s.add(10, "worker", path...)
	s.add(5, "worker", path[:3]...)
	return s.profile()
}

// write makes a file in the test's folder.
func write(t *testing.T, name string, p *profile.Profile, encode func(io.Writer, *profile.Profile) error) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := encode(f, p); err != nil {
		t.Fatal(err)
	}
	return path
}
