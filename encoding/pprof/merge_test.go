// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pb "github.com/google/pprof/profile"

	"github.com/carverauto/serviceradar-profiler/encoding/encodingtest"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// hosts makes random profiles of a few hosts, some of one, of any frequency.
func hosts(seed uint64) (names []string, all []*profile.Profile) {
	r := rand.New(rand.NewPCG(seed, 1))
	for range 1 + r.IntN(5) {
		p := encodingtest.Random(r)
		p.Meta.FrequencyHz = []profile.Frequency{99, 99, 19, 999}[r.IntN(4)]
		names = append(names, fmt.Sprintf("web-%02d", r.IntN(4)))
		all = append(all, p)
	}
	return names, all
}

// summary is what a profile says: both values by labels and names of frames.
func summary(t *testing.T, p *pb.Profile) map[string][2]int64 {
	t.Helper()
	sums := map[string][2]int64{}
	for _, s := range p.Sample {
		var key strings.Builder
		for _, label := range []string{labelHost, labelComm, labelTruncated} {
			fmt.Fprintf(&key, "%q ", s.Label[label])
		}
		fmt.Fprintf(&key, "%d %d", s.NumLabel[labelPID], s.NumLabel[labelTID])
		for _, l := range s.Location {
			fmt.Fprintf(&key, ";%s", fileOf(l))
			for _, line := range l.Line {
				fmt.Fprintf(&key, " %q %q:%d", line.Function.Name, line.Function.Filename, line.Line)
			}
		}
		sum := sums[key.String()]
		sums[key.String()] = [2]int64{sum[0] + s.Value[0], sum[1] + s.Value[1]}
	}
	return sums
}

func fileOf(l *pb.Location) string {
	if l.Mapping == nil {
		return "-"
	}
	return l.Mapping.File + " " + l.Mapping.BuildID
}

// What is merged says what pprof's own merging says, samples and times, at any
// mix of frequencies.
func TestMergeAsPprofDoes(t *testing.T) {
	for seed := range uint64(60) {
		names, all := hosts(seed)
		m := NewMerger(0, 0)
		var theirs []*pb.Profile
		var duration int64
		for i, p := range all {
			data := written(t, p)
			if err := m.Add(bytes.NewReader(data), names[i]); err != nil {
				t.Fatal(err)
			}
			one, err := pb.ParseData(data)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range one.Sample {
				s.Label[labelHost] = []string{names[i]}
			}
			theirs = append(theirs, one)
			duration = max(duration, p.Meta.DurationNs)
		}
		want, err := pb.Merge(theirs)
		if err != nil {
			t.Fatal(err)
		}
		merged := m.Profile()
		got, err := pb.ParseData(written(t, merged))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(summary(t, want), summary(t, got)); d != "" {
			t.Fatalf("seed %d, -pprof +ours:\n%s", seed, d)
		}
		if got.TimeNanos != want.TimeNanos || len(got.SampleType) != 2 {
			t.Errorf("seed %d: begins at %d, want %d", seed, got.TimeNanos, want.TimeNanos)
		}
		if len(got.Location) > len(want.Location) {
			t.Errorf("seed %d: %d locations, pprof needs %d", seed, len(got.Location), len(want.Location))
		}
	}
}

// What was merged is read as it was written, and can be merged again with more.
func TestMergedIsRead(t *testing.T) {
	for seed := range uint64(40) {
		names, all := hosts(seed)
		whole, first := profile.NewMerger(0), profile.NewMerger(0)
		for i, p := range all {
			if err := errors.Join(whole.Add(readBack(t, p), names[i]), first.Add(readBack(t, p), names[i])); err != nil {
				t.Fatal(err)
			}
		}
		late, lateName := encodingtest.Example(), "late one\n"
		whole.Missing("gone", "cannot reach gone; is it up?")
		first.Missing("gone", "cannot reach gone; is it up?")
		first.Missing(lateName, "not there yet")
		if err := whole.Add(readBack(t, late), lateName); err != nil {
			t.Fatal(err)
		}
		again := NewMerger(0, 0)
		if err := errors.Join(again.Add(bytes.NewReader(written(t, first.Profile())), ""), again.Add(bytes.NewReader(written(t, late)), clean(lateName))); err != nil {
			t.Fatal(err)
		}
		want := readBack(t, whole.Profile())
		got := readBack(t, again.Profile())
		// Some have no part in it: a warning is of all hosts or of some, by what
		// was merged first; how many threads there were is known by their samples.
		got.Meta.Warnings, want.Meta.Warnings = nil, nil
		if d := cmp.Diff(want.Meta, got.Meta); d != "" {
			t.Fatalf("seed %d, -at once +one by one:\n%s", seed, d)
		}
		if d := cmp.Diff(summary(t, parsed(t, written(t, want))), summary(t, parsed(t, written(t, got)))); d != "" {
			t.Fatalf("seed %d, -at once +one by one:\n%s", seed, d)
		}
	}
}

func readBack(t *testing.T, p *profile.Profile) *profile.Profile {
	t.Helper()
	p, err := Read(bytes.NewReader(written(t, p)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A profile that cannot be read leaves no trace.
func TestMergeRefuses(t *testing.T) {
	m := NewMerger(0, 0)
	good := written(t, encodingtest.Example())
	if err := m.Add(bytes.NewReader(good[:len(good)/2]), "cut"); !errors.Is(err, ErrDamaged) {
		t.Errorf("a profile that was cut off: %v", err)
	}
	if err := m.Add(strings.NewReader("hello"), "other"); !errors.Is(err, ErrFormat) {
		t.Errorf("no profile: %v", err)
	}
	m.Missing("cut", "its profile is damaged")
	if err := m.Add(bytes.NewReader(good), "web-01"); err != nil {
		t.Fatal(err)
	}
	p := m.Profile()
	if n := encodingtest.Samples(p); m.Read() != 1 || n != encodingtest.Samples(encodingtest.Example()) || len(p.Meta.Hosts) != 2 {
		t.Errorf("%d read, %d samples of %d hosts", m.Read(), n, len(p.Meta.Hosts))
	}
}

// Hosts that run the same take the memory of their distinct stacks, and of a
// few words for each thread's.
func TestMergeMemory(t *testing.T) {
	const hosts, stacks, depth = 40, 1000, 60
	data := written(t, encodingtest.Large(stacks, depth))
	m := NewMerger(0, 0)
	var after [2]uint64
	for i := range hosts {
		if err := m.Add(bytes.NewReader(data), fmt.Sprint("web-", i)); err != nil {
			t.Fatal(err)
		}
		if i == 0 || i == hosts-1 {
			var now runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&now)
			after[min(i, 1)] = now.HeapAlloc
		}
	}
	p := m.Profile()
	if len(p.Samples) < (hosts-1)*stacks {
		t.Fatalf("%d samples of %d hosts with %d stacks", len(p.Samples), hosts, stacks)
	}
	if each := int(after[1]-after[0]) / ((hosts - 1) * stacks); after[1] > after[0] && each > 300 {
		t.Errorf("%d bytes for each further sample", each)
	} else {
		t.Logf("%d bytes for each further sample of %d frames", each, depth)
	}
}

func BenchmarkMerge(b *testing.B) {
	data := written(b, encodingtest.Large(20_000, 50))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		m := NewMerger(0, 0)
		for i := range 4 {
			if err := m.Add(bytes.NewReader(data), fmt.Sprint(i)); err != nil {
				b.Fatal(err)
			}
		}
		m.Profile()
	}
}
