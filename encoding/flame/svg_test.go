// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func svgOf(tb testing.TB, p *profile.Profile) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := WriteSVG(&b, p); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestSVGGolden(t *testing.T) {
	got := svgOf(t, redis(t))
	const golden = "testdata/redis.svg"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the drawing is not %s; look at it with -update and git diff", golden)
	}
}

// picture is what an SVG says when it is read back.
type picture struct {
	title    string
	metadata profile.Metadata
	rows     [][]frame // root first
	total    uint64
	omitted  int
	scripts  int
	text     string
}

type frame struct {
	start, total uint64
	x, width     float64
	hover        string
}

// read parses strictly: an unknown entity, a stray character or a wrong
// nesting fails. It knows every element we write, so that one made of a name
// would be found.
func read(t *testing.T, svg []byte) picture {
	t.Helper()
	var p picture
	var in []string
	var open *frame
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			in = append(in, tok.Name.Local)
			open = p.start(t, tok, in, open)
		case xml.EndElement:
			in = in[:len(in)-1]
		case xml.CharData:
			p.chars(t, string(tok), in, open)
		}
	}
	return p
}

func (p *picture) start(t *testing.T, e xml.StartElement, in []string, open *frame) *frame {
	attr := map[string]string{}
	for _, a := range e.Attr {
		attr[a.Name.Local] = a.Value
		if strings.HasPrefix(a.Name.Local, "on") || strings.Contains(a.Name.Local, "href") {
			t.Errorf("attribute %s in the drawing", a.Name.Local)
		}
	}
	num := func(name string) uint64 {
		n, err := strconv.ParseUint(attr[name], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	switch path := strings.Join(in, "/"); path {
	case "svg":
		p.total, p.omitted = num("data-total"), int(num("data-omitted"))
	case "svg/g/g":
		p.rows = append(p.rows, nil)
	case "svg/g/g/g":
		row := &p.rows[len(p.rows)-1]
		*row = append(*row, frame{start: num("data-s"), total: num("data-n")})
		return &(*row)[len(*row)-1]
	case "svg/g/g/g/rect":
		fmt.Sscan(attr["x"], &open.x)
		fmt.Sscan(attr["width"], &open.width)
	case "svg/script":
		p.scripts++
	case "svg/title", "svg/metadata", "svg/style", "svg/rect", "svg/text", "svg/g", "svg/g/text", "svg/g/rect", "svg/g/g/g/title", "svg/g/g/g/text":
	default:
		t.Errorf("element %s in the drawing", path)
	}
	return open
}

func (p *picture) chars(t *testing.T, s string, in []string, open *frame) {
	switch strings.Join(in, "/") {
	case "svg/title":
		p.title += s
	case "svg/metadata":
		if err := json.Unmarshal([]byte(s), &p.metadata); err != nil {
			t.Errorf("metadata: %v", err)
		}
	case "svg/g/g/g/title":
		open.hover += s
	case "svg/text", "svg/g/text":
		p.text += s + "\n"
	}
}

func TestSVGSaysTheProfile(t *testing.T) {
	p := redis(t)
	pic := read(t, svgOf(t, p))
	root := p.Tree()
	if pic.total != root.Total || pic.rows[0][0].total != root.Total {
		t.Errorf("total %d and %d, want %d", pic.total, pic.rows[0][0].total, root.Total)
	}
	if pic.title != "redis-server on cache-07 – flame graph" {
		t.Errorf("title %q", pic.title)
	}
	if pic.metadata.Host != "cache-07" || pic.metadata.Counts != p.Meta.Counts {
		t.Errorf("metadata %+v", pic.metadata)
	}
	if want := "11,240 samples at 99 Hz in 30.0 s · 8 CPUs · 12 lost (0.11%) · 3 truncated (0.03%) · 83 with unknown frames (0.74%)"; !strings.Contains(pic.text, want) {
		t.Errorf("%q lacks %q", pic.text, want)
	}
	if want := fmt.Sprintf("redis-server (%s samples, %s)", grouped(root.Children[3].Total), percent(root.Children[3].Total, root.Total)); pic.rows[1][3].hover != want {
		t.Errorf("hover %q, want %q", pic.rows[1][3].hover, want)
	}
	nodes := pic.omitted
	for _, row := range pic.rows {
		nodes += len(row)
	}
	if want := size(root); nodes != want {
		t.Errorf("%d frames drawn or omitted, want %d", nodes, want)
	}
}

// Every frame lies inside its parent, beside its neighbors, and is as wide as
// its samples; what the drawn children do not cover is self or left out.
func TestSVGWidths(t *testing.T) {
	for _, p := range []*profile.Profile{redis(t), random(5_000)} {
		pic := read(t, svgOf(t, p))
		scale := float64(svgWidth-2*svgMargin) / float64(pic.total)
		for depth, row := range pic.rows {
			var end uint64
			for _, f := range row {
				if f.start < end {
					t.Fatalf("depth %d: %s overlaps its neighbor", depth, f.hover)
				}
				end = f.start + f.total
				want := float64(f.total) * scale
				if got := f.width + gap(want); got < want-0.011 || got > want+0.011 {
					t.Fatalf("depth %d: %s is %.2f px wide, want %.2f", depth, f.hover, got, want)
				}
				if depth > 0 && !covered(pic.rows[depth-1], f) {
					t.Fatalf("depth %d: %s has no parent", depth, f.hover)
				}
			}
		}
	}
}

func covered(row []frame, f frame) bool {
	for _, p := range row {
		if p.start <= f.start && f.start+f.total <= p.start+p.total {
			return true
		}
	}
	return false
}

func TestSVGWithoutSamples(t *testing.T) {
	pic := read(t, svgOf(t, &profile.Profile{}))
	if len(pic.rows) != 0 || !strings.Contains(pic.text, "No samples") {
		t.Errorf("%+v", pic)
	}
}

func TestScriptsEndNothing(t *testing.T) {
	if strings.Contains(svgScript, "]]>") {
		t.Error("svg/flame.js ends its own section")
	}
	for _, end := range []string{"</script", "<!--"} {
		if strings.Contains(strings.ToLower(pageScript), end) {
			t.Errorf("the page's script contains %q", end)
		}
	}
}

func BenchmarkSVG(b *testing.B) {
	p := redis(b)
	for b.Loop() {
		if err := WriteSVG(io.Discard, p); err != nil {
			b.Fatal(err)
		}
	}
}
