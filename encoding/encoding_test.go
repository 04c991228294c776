// SPDX-License-Identifier: Apache-2.0

package encoding

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	pb "github.com/google/pprof/profile"

	"github.com/carverauto/serviceradar-profiler/encoding/encodingtest"
	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// totals reads the samples of a whole profile back from what was written, by
// format name.
var totals = map[string]func([]byte) (uint64, error){
	"svg":        totalOfSVG,
	"html":       totalOfHTML,
	"folded":     totalOfFolded,
	"pprof":      totalOfPprof,
	"speedscope": totalOfSpeedscope,
	"text":       totalOfText,
}

// Every format must show all samples of a profile, whatever its names are.
func TestTotalsAreEqual(t *testing.T) {
	check := func(t *testing.T, p *profile.Profile) {
		t.Helper()
		checkTotals(t, p, Options{}, Options{FullNames: true, Annotate: folded.AnnotateAll})
	}
	t.Run("example", func(t *testing.T) { check(t, encodingtest.Example()) })
	t.Run("empty", func(t *testing.T) { check(t, encodingtest.Empty()) })
	t.Run("nothing known", func(t *testing.T) { check(t, &profile.Profile{}) })
	encodingtest.EachRandom(t, check)
}

func checkTotals(t *testing.T, p *profile.Profile, options ...Options) {
	t.Helper()
	taken, shown := encodingtest.Samples(p), encodingtest.Samples(p.AtOneFrequency())
	for _, f := range Formats() {
		want := shown
		if f.Name == "pprof" { // which has times beside them
			want = taken
		}
		for _, o := range options {
			data := encodingtest.Written(t, p, func(b *bytes.Buffer) error { return f.Write(b, p, o) })
			got, err := totals[f.Name](data)
			if err != nil {
				t.Errorf("%s: %v", f.Name, err)
			} else if got != want {
				t.Errorf("%s has %d samples with %+v, want %d", f.Name, got, o, want)
			}
		}
	}
}

// The same holds of several hosts' in one, at any mix of frequencies; and the
// first level of what is asked for by host is their samples.
func TestTotalsOfMerged(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 7))
		m := profile.NewMerger(0)
		for range 1 + r.IntN(4) {
			p := encodingtest.Random(r)
			p.Meta.FrequencyHz = []profile.Frequency{99, 19, 999}[r.IntN(3)]
			if err := m.Add(p, encodingtest.HostileNames[r.IntN(len(encodingtest.HostileNames))]); err != nil {
				t.Fatal(err)
			}
		}
		m.Missing("web-09", "no answer")
		p := m.Profile()
		checkTotals(t, p, Options{}, Options{ByHost: true})
		hosts := map[string]uint64{}
		one := p.AtOneFrequency()
		for i := range one.Samples {
			hosts[one.Samples[i].Host] += one.Samples[i].Count
		}
		levels := map[string]uint64{}
		for _, c := range one.ByHost().Tree().Children {
			levels[c.Name] = c.Total
		}
		if d := cmp.Diff(hosts, levels); d != "" {
			t.Errorf("seed %d: %s", seed, d)
		}
	}
}
func totalOfFolded(data []byte) (n uint64, err error) {
	lines, err := folded.Parse(bytes.NewReader(data))
	for _, l := range lines {
		n += l.Count
	}
	return n, err
}

func totalOfPprof(data []byte) (n uint64, err error) {
	p, err := pb.ParseData(data)
	if err != nil {
		return 0, err
	}
	for _, s := range p.Sample {
		n += uint64(s.Value[0])
	}
	return n, p.CheckValid()
}

func totalOfSpeedscope(data []byte) (n uint64, err error) {
	var f struct {
		Profiles []struct{ Weights []uint64 }
	}
	err = json.Unmarshal(data, &f)
	for _, p := range f.Profiles {
		for _, w := range p.Weights {
			n += w
		}
	}
	return n, err
}

func totalOfText(data []byte) (uint64, error) {
	return numberIn(data, regexp.MustCompile(`(?m)^  samples +(\d+) of \d+ taken$`))
}

// totalOfSVG reads the samples of the root's box. A box too narrow to be seen
// is left out, so the others need not add up.
func totalOfSVG(data []byte) (uint64, error) {
	for d := xml.NewDecoder(bytes.NewReader(data)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			return 0, err
		}
	}
	root := regexp.MustCompile(`<g data-s="0" data-n="(\d+)"><title>all `)
	if !root.Match(data) {
		return numberIn(data, regexp.MustCompile(` data-total="(\d+)"`)) // nothing is drawn of no samples
	}
	return numberIn(data, root)
}

// totalOfHTML adds up the self samples of the page's call tree.
func totalOfHTML(data []byte) (n uint64, err error) {
	_, rest, ok := strings.Cut(string(data), `<script type="application/json" id="data">`)
	text, _, closed := strings.Cut(rest, "</script>")
	if !ok || !closed {
		return 0, errors.New("no data in the page")
	}
	var page struct {
		Nodes struct{ Self, Total []uint64 }
	}
	if err := json.Unmarshal([]byte(text), &page); err != nil {
		return 0, err
	}
	for _, self := range page.Nodes.Self {
		n += self
	}
	if root := page.Nodes.Total[0]; root != n {
		return 0, fmt.Errorf("root has %d samples, all nodes together %d", root, n)
	}
	return n, nil
}

func numberIn(data []byte, re *regexp.Regexp) (uint64, error) {
	m := re.FindSubmatch(data)
	if m == nil {
		return 0, fmt.Errorf("nothing matches %v", re)
	}
	return strconv.ParseUint(string(m[1]), 10, 64)
}

// Names are short in all formats but pprof, and full on request; each format
// has every frame of inlined calls.
func TestNames(t *testing.T) {
	const full, short = "int A::f(long)", "A::f"
	b := profile.NewBuilder()
	m := b.Mapping(profile.Mapping{Limit: 0x1000, Path: "/bin/x"})
	id := b.Address(0x100, m, false)
	b.Add(profile.Thread{PID: 1, TID: 1, Comm: "t"}, []profile.AddressID{id}, false, 3)
	p := b.Profile()
	p.Addresses[id].Frames = []profile.Frame{{Name: full, File: "a.cc", Line: 1}, {Name: "caller", File: "a.cc", Line: 2}}
	p.Count()
	for _, f := range Formats() {
		for _, o := range []Options{{}, {FullNames: true}} {
			data := encodingtest.Written(t, p, func(b *bytes.Buffer) error { return f.Write(b, p, o) })
			if f.Name == "pprof" {
				kept, err := pb.ParseData(data)
				if err != nil {
					t.Fatal(err)
				}
				data = nil
				for _, l := range kept.Location[0].Line {
					data = append(data, l.Function.Name+"\n"...)
				}
			}
			isFull := o.FullNames || f.Name == "pprof"
			if got := strings.Contains(string(data), full); got != isFull {
				t.Errorf("%s, %+v: full name: %v", f.Name, o, got)
			}
			if !strings.Contains(string(data), short) || !strings.Contains(string(data), "caller") {
				t.Errorf("%s, %+v: a frame is missing", f.Name, o)
			}
		}
	}
}

// What pprof kept of a profile must make the same folded text as the profile.
func TestFoldedThroughPprof(t *testing.T) {
	encodingtest.EachRandom(t, func(t *testing.T, p *profile.Profile) {
		direct := encodingtest.Written(t, p, func(b *bytes.Buffer) error {
			return folded.Write(b, p, folded.Options{Annotate: folded.AnnotateNone})
		})
		format, err := ByName("pprof")
		if err != nil {
			t.Fatal(err)
		}
		data := encodingtest.Written(t, p, func(b *bytes.Buffer) error { return format.Write(b, p, Options{}) })
		kept, err := pb.ParseData(data)
		if err != nil {
			t.Fatal(err)
		}
		again := fromPprof(kept)
		through := encodingtest.Written(t, again, func(b *bytes.Buffer) error {
			return folded.Write(b, again, folded.Options{Annotate: folded.AnnotateNone})
		})
		if d := cmp.Diff(string(direct), string(through)); d != "" {
			t.Errorf("-direct +through pprof:\n%s", d)
		}
	})
}

// fromPprof is as much of a profile as folded text needs.
func fromPprof(in *pb.Profile) *profile.Profile {
	p := &profile.Profile{}
	ids := map[uint64]profile.AddressID{}
	for _, l := range in.Location {
		a := profile.Address{Addr: profile.Addr(l.Address), Mapping: profile.NoMapping}
		for _, line := range l.Line {
			a.Frames = append(a.Frames, profile.Frame{Name: line.Function.Name})
		}
		ids[l.ID] = profile.AddressID(len(p.Addresses))
		p.Addresses = append(p.Addresses, a)
	}
	for _, in := range in.Sample {
		s := profile.Sample{Thread: profile.Thread{Comm: in.Label["comm"][0]}, Count: uint64(in.Value[0])}
		for _, l := range in.Location {
			s.Addresses = append(s.Addresses, ids[l.ID])
		}
		p.Samples = append(p.Samples, s)
	}
	return p
}

func TestByName(t *testing.T) {
	for _, f := range Formats() {
		got, err := ByName(f.Name)
		if err != nil || got.Name != f.Name {
			t.Errorf("%s: got %q, error %v", f.Name, got.Name, err)
		}
		if totals[f.Name] == nil || f.Description == "" || len(f.Extensions) == 0 {
			t.Errorf("%s: no test of its total, no description or no extension", f.Name)
		}
	}
	_, err := ByName("png")
	if want := `unknown format "png": known are svg, html, folded, pprof, speedscope, text`; err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

func TestByPath(t *testing.T) {
	for path, want := range map[string]string{
		"x.svg": "svg", "dir.txt/x.SVG": "svg", "x.html": "html", "x.folded": "folded", "x.pb.gz": "pprof",
		"x.pprof": "pprof", "x.speedscope.json": "speedscope", "/tmp/x.y.txt": "text",
	} {
		if got, err := ByPath(path); err != nil || got.Name != want {
			t.Errorf("%s: got %q, error %v, want %q", path, got.Name, err, want)
		}
	}
	for _, path := range []string{"", "x", "x.json", "x.gz", "svg", "x.svg/y", "-"} {
		if got, err := ByPath(path); err == nil || !strings.Contains(err.Error(), ".speedscope.json") {
			t.Errorf("%s: got %q, error %v, want one that lists the extensions", path, got.Name, err)
		}
	}
}

// One extension must not stand for two formats.
func TestExtensionsDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, f := range Formats() {
		for _, e := range f.Extensions {
			if seen[e] != "" || !strings.HasPrefix(e, ".") || e != strings.ToLower(e) {
				t.Errorf("%s: extension %q is not new, lower case or without a dot; there are %v", f.Name, e, slices.Sorted(maps.Keys(seen)))
			}
			seen[e] = f.Name
		}
	}
}

func TestWriteFails(t *testing.T) {
	full := errors.New("disk full")
	for _, f := range Formats() {
		err := f.Write(failingWriter{full}, encodingtest.Example(), Options{})
		if !errors.Is(err, full) || !strings.HasPrefix(err.Error(), "write "+f.Name) {
			t.Errorf("%s: got error %v, want %v", f.Name, err, full)
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func BenchmarkWrite(b *testing.B) {
	p := encodingtest.Large(20_000, 50)
	for _, f := range Formats() {
		b.Run(f.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f.Write(io.Discard, p, Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
