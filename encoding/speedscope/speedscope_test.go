// SPDX-License-Identifier: Apache-2.0

package speedscope

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/carverauto/serviceradar-profiler/encoding/encodingtest"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// file is what speedscope reads: the types of its schema, those that a sampled
// profile may have.
type file struct {
	Schema   string `json:"$schema"`
	Exporter string `json:"exporter"`
	Name     string `json:"name"`
	Active   int    `json:"activeProfileIndex"`
	Shared   struct {
		Frames []struct {
			Name string `json:"name"`
			File string `json:"file"`
		} `json:"frames"`
	} `json:"shared"`
	Profiles []struct {
		Type       string   `json:"type"`
		Name       string   `json:"name"`
		Unit       string   `json:"unit"`
		StartValue uint64   `json:"startValue"`
		EndValue   uint64   `json:"endValue"`
		Samples    [][]int  `json:"samples"`
		Weights    []uint64 `json:"weights"`
	} `json:"profiles"`
	Metadata *profile.Metadata `json:"serviceradar-profiler"`
}

func written(t testing.TB, p *profile.Profile) []byte {
	t.Helper()
	return encodingtest.Written(t, p, func(b *bytes.Buffer) error { return Write(b, p) })
}

// read reads a file and checks what the schema asks of any.
func read(t *testing.T, data []byte) file {
	t.Helper()
	var f file
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	if f.Schema != "https://www.speedscope.app/file-format-schema.json" {
		t.Errorf("$schema is %q", f.Schema)
	}
	if f.Active >= len(f.Profiles) {
		t.Errorf("profile %d of %d is active", f.Active, len(f.Profiles))
	}
	for _, p := range f.Profiles {
		if p.Type != "sampled" || p.Unit != "none" || p.StartValue != 0 || p.Samples == nil || p.Weights == nil {
			t.Errorf("profile %q has type %q, unit %q, start %d", p.Name, p.Type, p.Unit, p.StartValue)
		}
		if len(p.Samples) != len(p.Weights) {
			t.Errorf("profile %q has %d samples, %d weights", p.Name, len(p.Samples), len(p.Weights))
		}
		var total uint64
		for _, w := range p.Weights {
			total += w
		}
		if p.EndValue != total {
			t.Errorf("profile %q ends at %d, its weights add up to %d", p.Name, p.EndValue, total)
		}
		for _, s := range p.Samples {
			for _, i := range s {
				if i < 0 || i >= len(f.Shared.Frames) {
					t.Fatalf("profile %q has frame %d of %d", p.Name, i, len(f.Shared.Frames))
				}
			}
		}
	}
	return f
}

func TestGolden(t *testing.T) {
	encodingtest.Golden(t, "example.golden", written(t, encodingtest.Example()))
	encodingtest.Golden(t, "empty.golden", written(t, encodingtest.Empty()))
}

func TestExample(t *testing.T) {
	p := encodingtest.Example()
	f := read(t, written(t, p))
	if len(f.Profiles) != 2 || f.Active != 0 || !strings.HasPrefix(f.Profiles[0].Name, "redis-server, PID 1234 ") ||
		!strings.HasPrefix(f.Profiles[1].Name, "redis-aof, PID 2000 ") {
		t.Errorf("profiles are %+v, number %d active", f.Profiles, f.Active)
	}
	if f.Exporter != "serviceradar-profiler@v0.1.0" {
		t.Errorf("exporter is %q", f.Exporter)
	}
	if d := cmp.Diff(&p.Meta, f.Metadata); d != "" {
		t.Errorf("metadata, -want +got:\n%s", d)
	}
	var stack []string
	for _, i := range f.Profiles[0].Samples[0] {
		stack = append(stack, f.Shared.Frames[i].Name)
	}
	if d := cmp.Diff([]string{"redis-server", "_start", "main", "aeMain", "processEvents", "dictFind"}, stack); d != "" {
		t.Errorf("first stack, -want +got:\n%s", d)
	}
}

func TestRandom(t *testing.T) {
	encodingtest.EachRandom(t, func(t *testing.T, p *profile.Profile) {
		data := written(t, p)
		if bytes.ContainsAny(data, "<>") {
			t.Error("output could end the script of a page it is embedded in")
		}
		f := read(t, data)
		var total uint64
		for _, pr := range f.Profiles {
			total += pr.EndValue
		}
		if want := encodingtest.Samples(p); total != want {
			t.Errorf("%d samples, want %d", total, want)
		}
	})
}

func TestNoMetadata(t *testing.T) {
	if f := read(t, written(t, &profile.Profile{})); len(f.Profiles) != 1 || f.Profiles[0].EndValue != 0 {
		t.Errorf("profiles are %+v, want an empty one", f.Profiles)
	}
}

func TestWriteFails(t *testing.T) {
	full := errors.New("disk full")
	if err := Write(failingWriter{full}, encodingtest.Example()); !errors.Is(err, full) {
		t.Errorf("got error %v, want %v", err, full)
	}
	p := encodingtest.Empty()
	p.Meta.Start = time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC) // no JSON for that
	if err := Write(&bytes.Buffer{}, p); err == nil {
		t.Error("metadata that has no JSON form is written without an error")
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
