// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// onHost is a profile of a host: its program and kernel lie anywhere, and each
// sample is f called by the kernel's work in so many threads.
func onHost(base Addr, hz Frequency, threads int, count uint64) *Profile {
	b := NewBuilder()
	lib := b.Mapping(Mapping{Start: base, Limit: base + 0x1000, Path: "/usr/bin/x", BuildID: "0123"})
	kernel := b.Mapping(Mapping{Start: 1<<63 + base, Limit: 1<<63 + base + 0x1000, Path: KernelPath, Kind: MappingKernel})
	f, k := b.Address(base+0x101, lib, true), b.Address(1<<63+base+5, kernel, false)
	for i := range threads {
		b.Add(Thread{PID: 7, TID: 8 + i, Comm: "worker"}, []AddressID{k, f}, false, count)
	}
	p := b.Profile()
	p.Addresses[f].Frames = []Frame{{Name: "f", SystemName: "f"}}
	p.Addresses[k].Frames = []Frame{{Name: "sys_read", SystemName: "sys_read", Kind: FrameKernel}}
	p.Meta = Metadata{Tool: "srprof", Host: "unused", Kernel: "6.1", Event: "cpu-clock", FrequencyHz: hz, CPUs: 2, DurationNs: int64(time.Second),
		Start: time.Unix(int64(base), 0), Targets: []Target{{PID: 7, Name: "x", Command: "/usr/bin/x"}}, Ended: EndedDuration, Warnings: []string{"It is warm."}}
	p.Meta.Counts.Lost = 1
	p.Count()
	return p
}

func merge(t *testing.T, m *Merger, hosts ...*Profile) *Profile {
	t.Helper()
	for i, p := range hosts {
		if err := m.Add(p, fmt.Sprint("h", i)); err != nil {
			t.Fatal(err)
		}
	}
	return m.Profile()
}

// The same code on two hosts is the same, wherever it lies.
func TestMergeSharesCode(t *testing.T) {
	p := merge(t, NewMerger(0), onHost(0x10000, 99, 1, 3), onHost(0x50000, 99, 1, 4))
	if len(p.Addresses) != 2 || len(p.Mappings) != 2 || len(p.Samples) != 2 {
		t.Errorf("%d addresses in %d mappings, %d samples; want two of each", len(p.Addresses), len(p.Mappings), len(p.Samples))
	}
	if &p.Samples[0].Addresses[0] != &p.Samples[1].Addresses[0] {
		t.Error("a stack is kept twice")
	}
	for i := range p.Addresses {
		if a := &p.Addresses[i]; !p.Mapping(a.Mapping).Contains(a.Addr) {
			t.Errorf("%v lies outside of %+v", a.Addr, p.Mapping(a.Mapping))
		}
	}
	want := []HostPart{
		{Host: "h0", Samples: 3, Lost: 1, FrequencyHz: 99, CPUs: 2, DurationNs: 1e9},
		{Host: "h1", Samples: 4, Lost: 1, FrequencyHz: 99, CPUs: 2, DurationNs: 1e9},
	}
	if d := cmp.Diff(want, p.Meta.Hosts); d != "" {
		t.Error("hosts, -want +got:\n", d)
	}
	m := &p.Meta
	if m.Host != "h0, h1" || m.Command() != "x" || m.CPUs != 4 || m.Duration() != time.Second || m.Counts != (Counts{Samples: 7, Lost: 2}) || m.Threads != 2 || !m.Start.Equal(time.Unix(0x10000, 0)) {
		t.Errorf("%+v", m)
	}
	if !slices.Equal(m.Warnings, []string{"It is warm. (h0, h1)"}) {
		t.Errorf("%q", m.Warnings)
	}
}

// What a host calls a function is not what another one's is called.
func TestMergeKeepsNamesApart(t *testing.T) {
	liar := onHost(0x50000, 99, 1, 4)
	liar.Addresses[0].Frames[0].Name = "lie"
	p := merge(t, NewMerger(0), liar, onHost(0x10000, 99, 1, 3))
	for _, f := range p.Functions() {
		if want := map[string]uint64{"lie": 4, "f": 3, "sys_read": 7}[f.Name]; f.Total != want {
			t.Errorf("%s has %d samples, want %d", f.Name, f.Total, want)
		}
	}
}

// By host, the tree's first level is the hosts.
func TestByHost(t *testing.T) {
	p := merge(t, NewMerger(0), onHost(0x10000, 99, 2, 3), onHost(0x50000, 99, 1, 4))
	if tree := p.Tree(); len(tree.Children) != 1 || tree.Children[0].Name != "worker" || tree.Total != 10 {
		t.Errorf("merged over hosts: %+v", tree)
	}
	tree := p.ByHost().Tree()
	var got []string
	for _, c := range tree.Children {
		got = append(got, fmt.Sprintf("%s %d %d %d", c.Name, c.Kind, c.Total, len(c.Children)))
	}
	if want := []string{"h0 3 6 1", "h1 3 4 1"}; !slices.Equal(got, want) {
		t.Errorf("by host: %q, want %q", got, want)
	}
	one := onHost(0x10000, 99, 1, 3) // knows only one
	if c := one.ByHost().Tree().Children; len(c) != 1 || c[0].Name != "unused" {
		t.Errorf("%+v", c)
	}
}

// Ten samples at 990 Hz weigh as much as one at 99, and no time is lost or made.
func TestMergeFrequencies(t *testing.T) {
	p := merge(t, NewMerger(0), onHost(0x10000, 990, 1, 100), onHost(0x50000, 99, 7, 3))
	if n := p.Meta.Counts.Samples; n != 121 || p.Meta.FrequencyHz != 990 {
		t.Errorf("%d samples at %d Hz, want the 121 that were taken, at 990", n, p.Meta.FrequencyHz)
	}
	var time, even uint64
	for i := range p.Samples {
		time += uint64(p.TimeOf(&p.Samples[i]))
	}
	one := p.AtOneFrequency()
	for i := range one.Samples {
		even += one.Samples[i].Count
		if n := one.Samples[i].Count; i > 0 && n != 30 {
			t.Errorf("3 samples at 99 Hz are %d at 990, want 30", n)
		}
	}
	period := uint64(p.Meta.FrequencyHz.Period())
	if want := (time + period/2) / period; even != want || one.Meta.Counts.Samples != want || one.Meta.Threads != 8 {
		t.Errorf("%d samples of %d threads at one frequency, %d counted, want %d of 8", even, one.Meta.Threads, one.Meta.Counts.Samples, want)
	}
	if !strings.Contains(strings.Join(p.Meta.Warnings, " "), "as if all had sampled at 990 Hz") {
		t.Errorf("%q", p.Meta.Warnings)
	}
	if same := merge(t, NewMerger(0), onHost(0x10000, 99, 1, 3), onHost(0x50000, 99, 1, 3)); same.AtOneFrequency() != same {
		t.Error("one frequency is made one")
	}
	m := NewMerger(0)
	if err := m.Add(onHost(0x10000, 99, 1, 3), ""); err != nil {
		t.Fatal(err)
	}
	if err := m.Add(onHost(0x10000, 0, 1, 3), ""); !errors.Is(err, ErrFrequency) {
		t.Errorf("a profile of unknown frequency: %v", err)
	}
}

// Too many samples are told apart by less, and none is lost.
func TestMergeForgets(t *testing.T) {
	for _, test := range []struct {
		most, samples int
		first         Thread
		warning       string
	}{
		{100, 30, Thread{PID: 7, TID: 8, Comm: "worker", Host: "h0"}, ""},
		{29, 3, Thread{PID: 7, Comm: "worker", Host: "h0"}, "Threads of one name"},
		{2, 1, Thread{Comm: "worker"}, "all hosts"},
	} {
		hosts := []*Profile{onHost(0x10000, 99, 10, 5), onHost(0x20000, 99, 10, 5), onHost(0x30000, 999, 10, 5)}
		p := merge(t, NewMerger(test.most), hosts...)
		var n uint64
		var time, want time.Duration
		for i := range p.Samples {
			n += p.Samples[i].Count
			time += p.TimeOf(&p.Samples[i])
		}
		for _, h := range hosts {
			for i := range h.Samples {
				want += h.TimeOf(&h.Samples[i])
			}
		}
		if len(p.Samples) != test.samples || p.Samples[0].Thread != test.first || n != 150 || time != want || p.Meta.Threads != 30 {
			t.Errorf("at most %d: %d samples of %d threads, the first of %+v, in all %d, %v; want %d of 30, %+v, 150, %v",
				test.most, len(p.Samples), p.Meta.Threads, p.Samples[0].Thread, n, time, test.samples, test.first, want)
		}
		if p.Meta.Hosts[2].Samples != 50 {
			t.Errorf("at most %d: %+v", test.most, p.Meta.Hosts)
		}
		if warned := strings.Join(p.Meta.Warnings, " "); !strings.Contains(warned, test.warning) || test.warning == "" && strings.Contains(warned, "many") {
			t.Errorf("at most %d: %s", test.most, warned)
		}
	}
}

// Who is missing is said once for each reason, and not any more once it came.
func TestMergeMissing(t *testing.T) {
	m := NewMerger(0)
	for i := range 5 {
		m.Missing(fmt.Sprint("away", i), "no answer")
	}
	m.Missing("h0", "not yet")
	m.Missing("old", "")
	p := merge(t, m, onHost(0x10000, 99, 1, 3))
	want := []string{"away0, away1, away2 and 2 more are missing: no answer", "old is missing: not known", "It is warm. (h0)"}
	if d := cmp.Diff(want, p.Meta.Warnings); d != "" || p.Meta.Host != "1 of 7 hosts" {
		t.Errorf("%s: %s", p.Meta.Host, d)
	}
	again := NewMerger(0)
	if err := again.Add(p, ""); err != nil {
		t.Fatal(err)
	}
	again.Missing("old", "switched off")
	if p := again.Profile(); p.Meta.Host != "1 of 7 hosts" || p.Meta.Warnings[1] != "old is missing: switched off" || len(p.Meta.Warnings) != 3 {
		t.Errorf("%s: %q", p.Meta.Host, p.Meta.Warnings)
	}
}
