// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	pb "github.com/google/pprof/profile"

	"github.com/carverauto/serviceradar-profiler/encoding/encodingtest"
	"github.com/carverauto/serviceradar-profiler/profile"
)

func written(t testing.TB, p *profile.Profile) []byte {
	t.Helper()
	return encodingtest.Written(t, p, func(b *bytes.Buffer) error { return Write(b, p) })
}

func parsed(t testing.TB, data []byte) *pb.Profile {
	t.Helper()
	got, err := pb.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.CheckValid(); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestGolden(t *testing.T) {
	got := parsed(t, written(t, encodingtest.Example()))
	encodingtest.Golden(t, "example.golden", []byte(got.String()))
	encodingtest.Golden(t, "comments.golden", []byte(strings.Join(got.Comments, "\n")+"\n"))
}

func TestTypes(t *testing.T) {
	got := parsed(t, written(t, encodingtest.Example()))
	if len(got.SampleType) != 2 || *got.SampleType[0] != (pb.ValueType{Type: "samples", Unit: "count"}) ||
		*got.SampleType[1] != (pb.ValueType{Type: "cpu", Unit: "nanoseconds"}) {
		t.Errorf("sample types are %v", got.SampleType)
	}
	if *got.PeriodType != (pb.ValueType{Type: "cpu", Unit: "nanoseconds"}) || got.DefaultSampleType != "cpu" {
		t.Errorf("period type is %v, default sample type %q", got.PeriodType, got.DefaultSampleType)
	}
	if got.Period != 10101010 || got.DurationNanos != 30e9 || got.TimeNanos != 1783998000e9 {
		t.Errorf("period %d, duration %d, time %d", got.Period, got.DurationNanos, got.TimeNanos)
	}
}

// Profiles of different frequencies must merge, and add up in nanoseconds.
func TestFrequenciesMerge(t *testing.T) {
	slow, fast := encodingtest.Example(), encodingtest.Example()
	fast.Meta.FrequencyHz = 999
	merged, err := pb.Merge([]*pb.Profile{parsed(t, written(t, slow)), parsed(t, written(t, fast))})
	if err != nil {
		t.Fatal(err)
	}
	n := int64(encodingtest.Samples(slow))
	if got, want := total(merged, 0), 2*n; got != want {
		t.Errorf("merged profile has %d samples, want %d", got, want)
	}
	if got, want := total(merged, 1), n*(1_000_000_000/99)+n*(1_000_000_000/999); got != want {
		t.Errorf("merged profile has %d ns, want %d", got, want)
	}
}

func total(p *pb.Profile, value int) (n int64) {
	for _, s := range p.Sample {
		n += s.Value[value]
	}
	return n
}

func TestRandom(t *testing.T) {
	encodingtest.EachRandom(t, func(t *testing.T, p *profile.Profile) {
		got := parsed(t, written(t, p))
		want := int64(encodingtest.Samples(p))
		if n := total(got, 0); n != want {
			t.Errorf("%d samples, want %d", n, want)
		}
		if n := total(got, 1); n != want*got.Period {
			t.Errorf("%d ns, want %d", n, want*got.Period)
		}
		for _, l := range got.Location {
			if m := l.Mapping; m != nil && (l.Address < m.Start || l.Address >= m.Limit) {
				t.Errorf("address %#x is not in its mapping [%#x, %#x)", l.Address, m.Start, m.Limit)
			}
			if len(l.Line) == 0 || l.ID > uint64(len(p.Addresses)) {
				t.Errorf("location %d of %d has %d lines", l.ID, len(p.Addresses), len(l.Line))
			}
		}
		for _, s := range texts(got) {
			if !utf8.ValidString(s) || strings.ContainsAny(s, "\n\r\x00\x1b\u009b") {
				t.Errorf("text %q is not fit to print", s)
			}
		}
	})
}

// texts is all that a stranger has a say in.
func texts(p *pb.Profile) []string {
	all := slices.Clone(p.Comments)
	for _, m := range p.Mapping {
		all = append(all, m.File, m.BuildID)
	}
	for _, f := range p.Function {
		all = append(all, f.Name, f.SystemName, f.Filename)
	}
	for _, s := range p.Sample {
		all = append(all, s.Label["comm"]...)
	}
	return all
}

func TestMappings(t *testing.T) {
	got := parsed(t, written(t, encodingtest.Example()))
	if m := got.Mapping[0]; m.File != "/usr/bin/redis-server" || m.BuildID != "0123456789abcdef0123456789abcdef01234567" {
		t.Errorf("first mapping is %+v, want the target's executable", m)
	}
	for _, m := range got.Mapping {
		named := m.File != "/opt/acme/lib/libacme.so"
		lines := m.File == "/usr/bin/redis-server"
		if m.HasFunctions != named || m.HasFilenames != lines || m.HasLineNumbers != lines {
			t.Errorf("%s: HasFunctions %v, HasFilenames %v, HasLineNumbers %v", m.File, m.HasFunctions, m.HasFilenames, m.HasLineNumbers)
		}
		if inlined := m.File == "/usr/bin/redis-server"; m.HasInlineFrames != inlined {
			t.Errorf("%s: HasInlineFrames is %v", m.File, m.HasInlineFrames)
		}
	}
}

func TestExecutableWithoutSamples(t *testing.T) {
	p := encodingtest.Example()
	p.Meta.Targets[0].Command = "/usr/bin/idle"
	got := parsed(t, written(t, p))
	if m := got.Mapping[0]; m.File != "/usr/bin/idle" {
		t.Errorf("first mapping is %q, want the target's executable", m.File)
	}
}

func TestNoSamples(t *testing.T) {
	got := parsed(t, written(t, encodingtest.Empty()))
	if len(got.Sample) != 0 || len(got.Mapping) != 1 {
		t.Errorf("%d samples, %d mappings, want none and the executable's", len(got.Sample), len(got.Mapping))
	}
	parsed(t, written(t, &profile.Profile{})) // no metadata either
}

func TestBuildID(t *testing.T) {
	check := func(label string, in profile.BuildID, want string) {
		t.Helper()
		if got := buildID(in); got != want {
			t.Errorf("%s: %q is written %q, want %q", label, in, got, want)
		}
	}
	check("none", "", "")
	check("GNU", "00ffaa", "00ffaa")
	check("Go", "go:aB_-/9", "aB_-/9")
	check("hash of the file", "hash:00ff", "")
	check("not hex", "xyz", "")
	check("path", "go:../../x", "")
}

func TestProduct(t *testing.T) {
	check := func(count uint64, each, want int64) {
		t.Helper()
		if got := product(count, each); got != want {
			t.Errorf("%d × %d is %d, want %d", count, each, got, want)
		}
	}
	check(3, 5, 15)
	check(0, 5, 0)
	check(math.MaxUint64, 1, math.MaxInt64)
	check(1<<40, 1<<40, math.MaxInt64)
	check(3, 0, 0)
}

func TestWriteFails(t *testing.T) {
	full := errors.New("disk full")
	if err := Write(failingWriter{full}, encodingtest.Example()); !errors.Is(err, full) {
		t.Errorf("got error %v, want %v", err, full)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// What it takes to write a profile does not grow with its samples: most of it is
// the compressor's.
func TestWriteMemory(t *testing.T) {
	large := encodingtest.Large(100_000, 50)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := Write(io.Discard, large); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 8<<20 {
		t.Errorf("%d samples took %d bytes to write", len(large.Samples), taken)
	}
}

// go tool pprof must take what we write, and have nothing to say about it.
func TestTool(t *testing.T) {
	run := pprofTool(t)
	example := encodingtest.Example()
	for i := range example.Addresses { // what has no name, pprof may rightly look for
		a := &example.Addresses[i]
		if m := example.Mapping(a.Mapping); m != nil && len(a.Frames) == 0 {
			a.Frames = []profile.Frame{{Name: "acme_run", SystemName: "acme_run"}}
		}
	}
	top := run(t, example, "-top", "-sample_index=samples")
	for _, want := range []string{"File: redis-server\n", "Type: samples\n", "of 1712 total\n", "processEvents (inline)\n"} {
		if !strings.Contains(top, want) {
			t.Errorf("-top does not say %q:\n%s", want, top)
		}
	}
	traces := run(t, example, "-traces")
	if want := "comm:  redis-server"; !strings.Contains(traces, want) {
		t.Errorf("-traces does not say %q:\n%s", want, traces)
	}
	if raw := run(t, example, "-raw"); !strings.Contains(raw, "processEvents") {
		t.Errorf("-raw does not have the inlined function:\n%s", raw)
	}
	if c := run(t, example, "-comments"); !strings.Contains(c, "lost=5") {
		t.Errorf("-comments does not have the counts:\n%s", c)
	}
	run(t, encodingtest.Empty(), "-raw")
}

// pprofTool returns a function that runs go tool pprof on a profile, away from
// the network and the user's files, and returns its output.
func pprofTool(t *testing.T) func(t *testing.T, p *profile.Profile, args ...string) string {
	if testing.Short() {
		t.Skip("go tool pprof is built on its first run")
	}
	gobin, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command: ", err)
	}
	return func(t *testing.T, p *profile.Profile, args ...string) string {
		t.Helper()
		dir := t.TempDir()
		file := filepath.Join(dir, "example.pb.gz")
		if err := os.WriteFile(file, written(t, p), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(gobin, slices.Concat([]string{"tool", "pprof"}, args, []string{file})...)
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+dir, "PPROF_BINARY_PATH="+dir, "GOPROXY=off")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 {
			t.Errorf("go tool pprof %v: %v, stderr:\n%s", args, err, &stderr)
		}
		return string(out)
	}
}
