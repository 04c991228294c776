// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// manyStacks is a host with a hot stack and so many rare ones, each with places
// of its own.
func manyStacks(seed uint64, stacks, depth int) *Profile {
	r := rand.New(rand.NewPCG(seed, 1))
	b := NewBuilder()
	lib := b.Mapping(Mapping{Start: 0x1000, Limit: 1 << 40, Path: "/usr/bin/x", BuildID: "0123"})
	stack := make([]AddressID, depth)
	fill := func(at func(i int) Addr) []AddressID {
		for i := range stack {
			stack[i] = b.Address(0x1000+at(i), lib, i > 0)
		}
		return stack
	}
	b.Add(Thread{PID: 1, TID: 1, Comm: "hot"}, fill(func(i int) Addr { return Addr(i) }), false, 1000)
	for range stacks {
		b.Add(Thread{PID: 1, TID: 2, Comm: "rare"}, fill(func(i int) Addr { return Addr(r.Uint64N(1 << 39)) }), false, 1+r.Uint64N(3))
	}
	p := b.Profile()
	for i := range p.Addresses {
		name := fmt.Sprint("f", p.Addresses[i].Addr)
		p.Addresses[i].Frames = []Frame{{Name: name, SystemName: name}}
	}
	p.Meta = Metadata{FrequencyHz: 99, Ended: EndedDuration}
	p.Count()
	return p
}

// However many stacks there are, what is kept is bounded, what is frequent is
// kept whole, and nothing is lost.
func TestMergeShrinks(t *testing.T) {
	for _, c := range []struct {
		label                       string
		most, hosts, stacks, frames int
		warning                     string
	}{
		{"few", 500, 4, 100, 40, ""},
		{"many", 300, 8, 100, 40, "innermost"},
		{"deep", 200, 4, 30, 600, "innermost"},
		{"tiny", 8, 5, 100, 40, "innermost 0 frames"},
	} {
		t.Run(c.label, func(t *testing.T) {
			hosts, want := make([]*Profile, c.hosts), uint64(0)
			for i := range hosts {
				hosts[i] = manyStacks(uint64(i), c.stacks, c.frames)
				want += hosts[i].Meta.Counts.Samples
			}
			merged := func() *Profile {
				m := NewMerger(c.most)
				for i, host := range hosts {
					if err := m.Add(host, fmt.Sprint("h", i)); err != nil {
						t.Fatal(err)
					}
					if m.stacks.frames > c.most*framesASample || len(m.samples) > c.most {
						t.Fatalf("%d samples, %d frames of distinct stacks", len(m.samples), m.stacks.frames)
					}
				}
				return m.Profile()
			}
			p := merged()
			var n uint64
			var took time.Duration
			used := map[AddressID]bool{}
			for i := range p.Samples {
				s := &p.Samples[i]
				n += s.Count
				took += p.TimeOf(s)
				for _, id := range s.Addresses {
					used[id] = true
				}
				if s.Comm == "hot" && (len(s.Addresses) != c.frames || s.Truncated) {
					t.Errorf("the hot stack has %d frames, truncated: %v", len(s.Addresses), s.Truncated)
				}
			}
			if n != want || p.Meta.Counts.Samples != want || took != times(want, Frequency(99).Period()) {
				t.Errorf("%d samples, %d counted, %v; want %d", n, p.Meta.Counts.Samples, took, want)
			}
			if warned := strings.Join(p.Meta.Warnings, " "); !strings.Contains(warned, c.warning) || c.warning == "" && warned != "" {
				t.Errorf("it warns: %s", warned)
			}
			if len(used) != len(p.Addresses) && c.warning != "" {
				t.Errorf("%d addresses, %d used", len(p.Addresses), len(used))
			}
			if d := cmp.Diff(p.Samples, merged().Samples); d != "" {
				t.Errorf("another time it is another profile: %s", d)
			}
		})
	}
}
