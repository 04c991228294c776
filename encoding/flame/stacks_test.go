// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// stacks makes profiles from frames: each frame is an address of its own.
type stacks struct {
	b        *profile.Builder
	mappings map[string]profile.MappingID
	ids      map[profile.Step]profile.AddressID
	steps    []profile.Step // by AddressID
}

func newStacks() *stacks {
	return &stacks{profile.NewBuilder(), map[string]profile.MappingID{}, map[profile.Step]profile.AddressID{}, nil}
}

// add counts a stack given root first, the thread's name before it.
func (s *stacks) add(n uint64, comm string, path ...profile.Step) {
	ids := make([]profile.AddressID, len(path))
	for i, st := range path {
		ids[len(path)-1-i] = s.address(st)
	}
	s.b.Add(profile.Thread{PID: 1, TID: 1, Comm: comm}, ids, false, n)
}

func (s *stacks) address(st profile.Step) profile.AddressID {
	if id, ok := s.ids[st]; ok {
		return id
	}
	m, ok := s.mappings[st.Object]
	if !ok {
		kind := profile.MappingObject
		switch st.Object {
		case "[kernel]":
			kind = profile.MappingKernel
		case "[anonymous]":
			kind = profile.MappingAnonymous
		}
		m = s.b.Mapping(profile.Mapping{Path: "/usr/lib/" + st.Object, Kind: kind})
		s.mappings[st.Object] = m
	}
	id := s.b.Address(profile.Addr(0x1000+len(s.ids)), m, false)
	s.ids[st] = id
	s.steps = append(s.steps, st)
	return id
}

func (s *stacks) profile() *profile.Profile {
	p := s.b.Profile()
	for i, st := range s.steps {
		unknown := strings.HasPrefix(st.Name, "[") && strings.HasSuffix(st.Name, "]")
		p.Addresses[i].Frames = []profile.Frame{{Name: st.Name, Kind: st.Kind, Unknown: unknown, File: st.File, Line: st.Line}}
	}
	p.Count()
	return p
}

// redis is the profile of testdata/redis.stacks.
func redis(tb testing.TB) *profile.Profile {
	tb.Helper()
	data, err := os.ReadFile("testdata/redis.stacks")
	if err != nil {
		tb.Fatal(err)
	}
	s := newStacks()
	kinds := map[string]profile.FrameKind{"t": profile.FrameThread, "u": profile.FrameUser, "k": profile.FrameKernel}
	var frames []profile.Step
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		switch f[0] {
		case "frame":
			frames = append(frames, profile.Step{Name: f[2], Kind: kinds[f[1]], Object: f[3]})
		case "stack":
			n, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			var path []profile.Step
			for i := range strings.FieldsSeq(f[2]) {
				at, err := strconv.Atoi(i)
				if err != nil {
					tb.Fatal(err)
				}
				path = append(path, frames[at])
			}
			s.add(n, path[0].Name, path[1:]...)
		}
	}
	p := s.profile()
	p.Meta = metadata(p.Meta.Counts)
	return p
}

func metadata(c profile.Counts) profile.Metadata {
	c.Lost, c.Truncated = 12, 3
	start := time.Date(2026, 10, 20, 3, 4, 5, 0, time.UTC)
	return profile.Metadata{
		Tool: "srprof", ToolVersion: "v0.1.0", Host: "cache-07", Kernel: "6.1.0-44-amd64", Arch: "amd64",
		Targets: []profile.Target{{PID: 4242, Command: "/usr/bin/redis-server"}},
		Event:   "cpu-clock", UserStacks: "unwind table", FrequencyHz: 99, CPUs: 8,
		Start: start, FirstSample: start.Add(9 * time.Millisecond), DurationNs: int64(30 * time.Second),
		SymbolizeNs: int64(84 * time.Millisecond), Ended: profile.EndedDuration, Counts: c, Threads: 5,
		CPUTimeNs: int64(113 * time.Second),
		Warnings:  []string{"3 samples were cut at 127 frames: their root is missing."},
	}
}

// random is a profile of about n nodes: random walks in a made-up program.
func random(n int) *profile.Profile {
	s := newStacks()
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for nodes := 0; nodes < n; {
		var path []profile.Step
		depth := 3 + r.IntN(40)
		fn := 0
		for range depth {
			fn = (fn*31 + r.IntN(3) + 1) % 5000
			path = append(path, profile.Step{Name: fmt.Sprintf("function_%d", fn), Object: "program"})
		}
		s.add(uint64(1+r.IntN(20)), "worker", path...)
		nodes += depth / 2
	}
	return s.profile()
}
