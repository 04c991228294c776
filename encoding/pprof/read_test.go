// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"runtime"
	runtimepprof "runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "github.com/google/pprof/profile"
	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/encoding/encodingtest"
	"github.com/carverauto/serviceradar-profiler/profile"
)

func read(t testing.TB, data []byte) *profile.Profile {
	t.Helper()
	p, err := Read(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What was written and read must be written the same again: samples, names,
// lines, mappings, labels and comments.
func TestReadWrite(t *testing.T) {
	encodingtest.EachRandom(t, func(t *testing.T, p *profile.Profile) {
		for i := range p.Addresses { // some have lines, some an object address
			a := &p.Addresses[i]
			for j := range a.Frames {
				a.Frames[j].File, a.Frames[j].Line = "src/a.c", 10*i+j
			}
			a.ObjAddr = profile.ObjAddr(i * 0x11)
		}
		once := written(t, p)
		kept := read(t, once)
		if got, want := encodingtest.Samples(kept), encodingtest.Samples(p); got != want {
			t.Errorf("%d samples, want %d", got, want)
		}
		again := written(t, kept)
		want, got := parsed(t, once), parsed(t, again)
		if d := cmp.Diff(want.String(), got.String()); d != "" {
			t.Errorf("-once +again:\n%s", d)
		}
		if d := cmp.Diff(want.Comments, got.Comments); d != "" {
			t.Errorf("comments: -once +again:\n%s", d)
		}
	})
}

func TestReadMetadata(t *testing.T) {
	p := encodingtest.Example()
	p.Meta.Targets = append(p.Meta.Targets, profile.Target{PID: 7, Name: "postgres: walwriter", Command: "/usr/lib/postgresql/15/bin/postgres"})
	p.Meta.Ends = map[string]uint64{"complete": 1700, "no table": 12}
	p.Meta.Comments = []string{"of another tool: kept"}
	got := read(t, written(t, p))
	if d := cmp.Diff(p.Meta, got.Meta); d != "" {
		t.Errorf("-written +read:\n%s", d)
	}
	empty := encodingtest.Empty()
	if d := cmp.Diff(empty.Meta, read(t, written(t, empty)).Meta); d != "" {
		t.Errorf("without samples: -written +read:\n%s", d)
	}
}

// What has no name keeps its object, build ID and object address.
func TestReadUnknown(t *testing.T) {
	p := encodingtest.Example()
	n := 0
	for i := range p.Addresses {
		if a := &p.Addresses[i]; len(a.Frames) == 0 {
			a.ObjAddr = 0x1234
			n++
		}
	}
	for _, a := range read(t, written(t, p)).Addresses {
		f := a.Frames[0]
		if !f.Unknown {
			continue
		}
		n--
		if a.Mapping != profile.NoMapping && a.ObjAddr != 0x1234 || a.Mapping == profile.NoMapping && a.ObjAddr != 0 {
			t.Errorf("%s in mapping %d has object address %v", f.Name, a.Mapping, a.ObjAddr)
		}
	}
	if n != 0 {
		t.Errorf("%d unknown addresses too few", n)
	}
}

// The kernel, its modules and the vDSO are known by their mappings' names.
func TestReadKinds(t *testing.T) {
	b := profile.NewBuilder()
	want := []profile.Mapping{
		{Kind: profile.MappingKernel, Path: profile.KernelPath, BuildID: "00ff", Start: 0xffffffff81000000, Limit: 0xffffffff82000000},
		{Kind: profile.MappingKernel, Path: "[nf_tables]", Start: 0xffffffffc0000000, Limit: 0xffffffffc0010000},
		{Kind: profile.MappingVDSO, Path: "[vdso]", Start: 0x7ffc00000000, Limit: 0x7ffc00001000},
		{Kind: profile.MappingAnonymous, Start: 0x10000, Limit: 0x20000},
		{Path: "/lib/x.so", BuildID: "go:a_b/c", Start: 0x30000, Limit: 0x40000, Offset: 0x1000},
	}
	for _, m := range want {
		b.Add(profile.Thread{}, []profile.AddressID{b.Address(m.Start+0x10, b.Mapping(m), false)}, false, 1)
	}
	got := read(t, written(t, b.Profile()))
	if d := cmp.Diff(want, got.Mappings); d != "" {
		t.Errorf("-written +read:\n%s", d)
	}
	for i := range got.Addresses {
		if f := got.Addresses[i].Frames[0]; f.Kind == profile.FrameKernel != (i < 2) || !f.Unknown {
			t.Errorf("%d: %+v", i, f)
		}
	}
}

// perf_to_profile, Go's runtime and others differ in their values and labels.
func TestReadOthers(t *testing.T) {
	m := &pb.Mapping{ID: 1, Start: 0x1000, Limit: 0x2000, File: "/bin/x", BuildID: "ABCDEF12"}
	f := &pb.Function{ID: 1, Name: "f"}
	named := &pb.Location{ID: 1, Mapping: m, Address: 0x1010, Line: []pb.Line{{Function: f, Line: 3}}}
	bare := &pb.Location{ID: 2, Mapping: m, Address: 0x1020}
	nanoseconds := &pb.ValueType{Type: "cpu", Unit: "nanoseconds"}
	in := &pb.Profile{
		SampleType: []*pb.ValueType{nanoseconds}, PeriodType: nanoseconds, Period: 1e7,
		Mapping: []*pb.Mapping{m}, Function: []*pb.Function{f}, Location: []*pb.Location{named, bare},
		Sample: []*pb.Sample{{Location: []*pb.Location{bare, named}, Value: []int64{3e7},
			Label: map[string][]string{"thread_name": {"worker"}, "request": {"/a"}}, NumLabel: map[string][]int64{"thread_id": {5}}}},
		Comments: []string{"made by hand"},
	}
	p := read(t, packed(t, in))
	if len(p.Samples) != 1 || p.Samples[0].Count != 3 || p.Meta.FrequencyHz != 100 || p.Samples[0].Comm != "worker" || p.Samples[0].TID != 5 {
		t.Errorf("read %+v at %d Hz", p.Samples, p.Meta.FrequencyHz)
	}
	if p.Mappings[0].BuildID != "abcdef12" || !p.Addresses[p.Samples[0].Addresses[0]].Frames[0].Unknown || p.Meta.Counts.Unknown != 3 {
		t.Errorf("mapping %+v, counts %+v", p.Mappings[0], p.Meta.Counts)
	}
	if len(p.Meta.Warnings) != 1 || !strings.Contains(p.Meta.Warnings[0], "label request of 1 sample") || p.Meta.Comments[0] != "made by hand" {
		t.Errorf("warnings %q, comments %q", p.Meta.Warnings, p.Meta.Comments)
	}
	in.SampleType = []*pb.ValueType{{Type: "cycles_sample", Unit: "count"}}
	if p = read(t, packed(t, in)); p.Samples[0].Count != 3e7 {
		t.Errorf("count of perf_to_profile is %d", p.Samples[0].Count)
	}
}

// Go's own profiler is the other tool that all Go programs have.
func TestReadGo(t *testing.T) {
	var data bytes.Buffer
	if err := runtimepprof.StartCPUProfile(&data); err != nil {
		t.Skip("somebody profiles this test: ", err)
	}
	for x, end := 0, cpuTime(t)+300*time.Millisecond; cpuTime(t) < end; x++ {
	}
	runtimepprof.StopCPUProfile()
	want := parsed(t, data.Bytes())
	got := read(t, data.Bytes())
	if n := int64(encodingtest.Samples(got)); n != total(want, 0) || n == 0 || got.Meta.FrequencyHz != 100 {
		t.Errorf("%d samples at %d Hz, want %d", n, got.Meta.FrequencyHz, total(want, 0))
	}
	if again := parsed(t, written(t, got)); total(again, 0) != total(want, 0) || len(again.Function) == 0 {
		t.Errorf("written again it has %d samples, %d functions", total(again, 0), len(again.Function))
	}
}

// cpuTime that this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano())
}

func packed(t testing.TB, p *pb.Profile) []byte {
	t.Helper()
	return encodingtest.Written(t, nil, func(b *bytes.Buffer) error { return p.Write(b) })
}

func TestReadRefuses(t *testing.T) {
	good := written(t, encodingtest.Example())
	heap := &pb.Profile{SampleType: []*pb.ValueType{{Type: "inuse_space", Unit: "bytes"}}}
	difference := parsed(t, good)
	difference.Sample[0].Value[0] = -1
	for _, c := range []struct {
		label string
		data  []byte
		want  error
	}{
		{"nothing", nil, ErrFormat},
		{"text", []byte("main;f 3\n"), ErrFormat},
		{"a picture", []byte("<svg></svg>"), ErrFormat},
		{"cut", good[:len(good)/2], ErrDamaged},
		{"changed", flipped(good), ErrDamaged},
		{"not gzip after all", []byte{0x1f, 0x8b, 0xff, 0}, ErrDamaged},
		{"gzip of something else", zipped(t, []byte("hello, world")), ErrFormat},
		{"bomb", zipped(t, make([]byte, MaxSize+1)), ErrTooLarge},
		{"messages", zipped(t, bytes.Repeat([]byte{0x12, 0}, int(limitsFor(MaxSize).messages)+1)), ErrTooLarge},
		{"lines", zipped(t, append([]byte{0x22, 0x80, 0x80, 0x80, 0x08}, bytes.Repeat([]byte{0x22, 0}, 8<<20)...)), ErrTooLarge},
		{"heap", packed(t, heap), ErrValues},
		{"difference", packed(t, difference), ErrValues},
	} {
		if _, err := Read(bytes.NewReader(c.data)); !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", c.label, err, c.want)
		}
	}
	if _, err := Read(failingReader{errFailing}); !errors.Is(err, errFailing) {
		t.Errorf("got error %v, want the reader's", err)
	}
}

// What is made to take memory takes no more than is said of it.
func TestReadMemory(t *testing.T) {
	const size = 4 << 20
	repeated := func(number int, content string, n int) (m message) {
		for range n {
			m.put(number, message(content))
		}
		return m
	}
	most := limitsFor(size)
	base, err := most.uncompressed(written(t, encodingtest.Example()))
	if err != nil {
		t.Fatal(err)
	}
	left := size - len(base) - 16
	for _, c := range []struct {
		label string
		data  message
	}{
		{"stack", repeated(fieldSample, string(append(repeated(sampleLocation, strings.Repeat("\x01", left-32), 1), 0x10, 1, 0x10, 1)), 1)},
		{"values", repeated(fieldSample, string(repeated(sampleValue, strings.Repeat("\x01", left-32), 1)), 1)},
		{"comments", repeated(fieldComment, strings.Repeat("\x01", left), 1)},
		{"string", repeated(fieldString, strings.Repeat("x", left), 1)},
		{"strings", repeated(fieldString, "", int(most.messages)-200)},
		{"samples", repeated(fieldSample, "\x10\x01\x10\x01", int(most.messages)-200)},
		{"labels", repeated(fieldSample, string(append(repeated(sampleLabel, "\x08\x01\x10\x01", int(most.fields)-900), 0x10, 1, 0x10, 1)), 1)},
		{"lines", repeated(fieldLocation, "\x08\x7f"+string(repeated(locationLine, "\x08\x01", int(most.fields)-900)), 1)},
		{"types", repeated(fieldSampleType, "", int(most.messages)-200)},
	} {
		data := append(slices.Clone(base), c.data...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ReadUpTo(bytes.NewReader(data), size)
		runtime.ReadMemStats(&after)
		each := float64(after.TotalAlloc-before.TotalAlloc) / size
		t.Logf("%s: %d bytes, %.1f for each of the limit, %v", c.label, len(data), each, err)
		if each > MemoryPerByte {
			t.Errorf("%s: reading it takes %.1f bytes for each of the limit", c.label, each)
		}
	}
}

// What is too large as a rule can be read by who allows more.
func TestReadUpTo(t *testing.T) {
	const size = MaxSize + 1<<20
	encoded := written(t, encodingtest.Example())
	data, err := limitsFor(MaxSize).uncompressed(encoded)
	if err != nil {
		t.Fatal(err)
	}
	data = append(binary.AppendUvarint(append(data, 6<<3|2), size), make([]byte, size)...) // one more string
	if _, err := Read(bytes.NewReader(zipped(t, data))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got error %v, want %v", err, ErrTooLarge)
	}
	got, err := ReadUpTo(bytes.NewReader(zipped(t, data)), 2*MaxSize)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Read(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(written(t, want), written(t, got)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

var errFailing = errors.New("bad sector")

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func zipped(t testing.TB, data []byte) []byte {
	t.Helper()
	return encodingtest.Written(t, nil, func(b *bytes.Buffer) error {
		z := gzip.NewWriter(b)
		if _, err := z.Write(data); err != nil {
			return err
		}
		return z.Close()
	})
}

func flipped(data []byte) []byte {
	c := bytes.Clone(data)
	c[len(c)-6] ^= 0xff // of the checksum
	return c
}

// Whatever is read can be written, and then reads as the same.
func FuzzRead(f *testing.F) {
	f.Add(written(f, encodingtest.Example()))
	var plain bytes.Buffer
	if err := writeUncompressed(&plain, encodingtest.Example()); err != nil {
		f.Fatal(err)
	}
	f.Add(plain.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		again := read(t, written(t, p))
		if got, want := encodingtest.Samples(again), encodingtest.Samples(p); got != want {
			t.Errorf("%d samples, want %d", got, want)
		}
	})
}
