// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/carverauto/serviceradar-profiler/profile"
)

//go:embed svg/flame.js
var svgScript string

//go:embed svg/flame.css
var svgStyle string

// The drawing's measures, in px. The script knows the same ones: it reads
// them from the attributes of the document, see open.
const (
	svgWidth   = 1200
	svgMargin  = 12
	svgHeader  = 62   // heading, quality, legend
	svgFooter  = 36   // hover text, search, reset
	svgRow     = 17   // one frame and the gap above it
	svgInlined = 3    // inlined frames are so much lower
	svgLetter  = 7.25 // a column of the 12 px label font
	svgPadding = 4    // between a box's edge and its label
	minWidth   = 0.1  // narrower frames are left out
)

// WriteSVG draws p as an interactive flame graph, root at the bottom.
//
// A frame narrower than 0.1 px at a width of 1200 is left out together with
// everything above it, and the footer says how many were. Totals do not change:
// the box below keeps its width, and shows as empty space what is not drawn.
func WriteSVG(w io.Writer, p *profile.Profile) error {
	d := newDrawing(p)
	b := bufio.NewWriter(w)
	d.open(b, p)
	for depth, row := range d.rows {
		d.row(b, depth, row)
	}
	d.close(b)
	return b.Flush() // a bufio.Writer keeps its first error
}

// drawing is what fits in the picture: boxes by row, root row first.
type drawing struct {
	total   uint64
	rows    [][]box
	omitted int // frames too narrow to draw
	used    [families]bool
}

// box is a frame and the samples left of it.
type box struct {
	*profile.Node
	start uint64
}

func newDrawing(p *profile.Profile) *drawing {
	root := p.Tree()
	d := &drawing{total: root.Total}
	if root.Total > 0 {
		d.place(root, 0, 0)
	}
	return d
}

func (d *drawing) place(n *profile.Node, depth int, start uint64) {
	if d.px(n.Total) < minWidth {
		d.omitted += size(n)
		return
	}
	if depth == len(d.rows) {
		d.rows = append(d.rows, nil)
	}
	d.rows[depth] = append(d.rows[depth], box{n, start})
	for _, c := range n.Children {
		d.place(c, depth+1, start)
		start += c.Total
	}
}

// size counts the frames of a subtree.
func size(n *profile.Node) int {
	s := 1
	for _, c := range n.Children {
		s += size(c)
	}
	return s
}

func (d *drawing) px(samples uint64) float64 {
	return float64(samples) * (svgWidth - 2*svgMargin) / float64(d.total)
}

func (d *drawing) height() int {
	return svgHeader + max(len(d.rows), 3)*svgRow + svgFooter
}

// open writes everything before the frames. The static picture has no
// controls: the script makes them, so that nothing dead is shown without it.
func (d *drawing) open(b *bufio.Writer, p *profile.Profile) {
	h := d.height()
	fmt.Fprintf(b, `<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<svg xmlns="http://www.w3.org/2000/svg" class="flame" width="%d" height="%d" viewBox="0 0 %d %d" role="img"`,
		svgWidth, h, svgWidth, h)
	fmt.Fprintf(b, ` data-total="%d" data-margin="%d" data-header="%d" data-footer="%d" data-row="%d" data-letter="%g" data-padding="%d" data-omitted="%d"`,
		d.total, svgMargin, svgHeader, svgFooter, svgRow, svgLetter, svgPadding, d.omitted)
	b.WriteString(` font-family="ui-sans-serif, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Verdana, 'DejaVu Sans', sans-serif" font-size="12">` + "\n")
	fmt.Fprintf(b, "<title>%s – flame graph</title>\n", text(heading(&p.Meta)))
	fmt.Fprintf(b, "<metadata>%s</metadata>\n", text(metadataJSON(&p.Meta, counts(p))))
	fmt.Fprintf(b, "<style>%s</style>\n", text(svgStyle))
	fmt.Fprintf(b, `<rect class="ground" width="100%%" height="100%%" rx="6" fill="#fbfaf7"/>`+"\n")
	fmt.Fprintf(b, `<text class="heading" x="%d" y="27" font-size="17" font-weight="600" fill="#1d1f23">%s</text>`+"\n",
		svgMargin, text(heading(&p.Meta)))
	fmt.Fprintf(b, `<text class="quality" x="%d" y="47" fill="#5c616b">%s</text>`+"\n",
		svgMargin, text(quality(&p.Meta, counts(p))))
	for _, row := range d.rows {
		for _, f := range row {
			d.used[familyOf(f.Name, f.Kind, f.Object)] = true
		}
	}
	d.legend(b)
	b.WriteString(`<g class="frames" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" fill="#16181c">` + "\n")
	if d.total == 0 {
		fmt.Fprintf(b, `<text class="empty" x="%d" y="%d" fill="#5c616b">No samples: the target used no CPU time while it was profiled.</text>`+"\n",
			svgMargin, svgHeader+2*svgRow)
	}
}

// legend names the hues that occur, right-aligned beside the heading.
func (d *drawing) legend(b *bufio.Writer) {
	light := palettes["light"]
	x := float64(svgWidth - svgMargin)
	b.WriteString(`<g class="legend" fill="#5c616b" font-size="11">`)
	for f := families - 1; f > familyThread; f-- {
		if !d.used[f] {
			continue
		}
		x -= float64(len(familyNames[f])) * 6.6
		fmt.Fprintf(b, `<text x="%.1f" y="26">%s</text>`, x, text(familyNames[f]))
		x -= 15
		fmt.Fprintf(b, `<rect x="%.1f" y="17" width="10" height="10" rx="2" fill="%s"/>`, x, light.color(f, 5))
		x -= 14
	}
	b.WriteString("</g>\n")
}

// row writes the frames of one depth. data-s and data-n are the samples left
// of the frame and in it: exact, where x and width are rounded.
func (d *drawing) row(b *bufio.Writer, depth int, boxes []box) {
	y := d.height() - svgFooter - (depth+1)*svgRow
	fmt.Fprintf(b, `<g class="row" transform="translate(0,%d)">`+"\n", y)
	light := palettes["light"]
	for _, f := range boxes {
		x, w := svgMargin+d.px(f.start), d.px(f.Total)
		top := ""
		height := svgRow - 1
		if inlined(f.Node) {
			top, height = fmt.Sprintf(` y="%d"`, svgInlined), height-svgInlined
		}
		fmt.Fprintf(b, `<g data-s="%d" data-n="%d"><title>%s</title><rect x="%s"%s width="%s" height="%d" rx="1.5" fill="%s"/>`,
			f.start, f.Total, text(d.hover(f.Node)), px(x), top, px(w-gap(w)), height,
			light.color(familyOf(f.Name, f.Kind, f.Object), shadeOf(f.Name)))
		if label := fit(printable(f.Name, svgWidth/7), int((w-2*svgPadding+2)/svgLetter)); label != "" {
			fmt.Fprintf(b, `<text x="%s" y="12">%s</text>`, px(x+svgPadding), text(label))
		}
		b.WriteString("</g>\n")
	}
	b.WriteString("</g>\n")
}

// hover is the text people know from flame graphs, then the objects behind it,
// and where it is in the source.
func (d *drawing) hover(n *profile.Node) string {
	s := fmt.Sprintf("%s (%s samples, %s)", printable(n.Name, titleLimit), grouped(n.Total), percent(n.Total, d.total))
	for _, more := range []string{objectNames(append([]string{n.Object}, n.Also...)), place(n)} {
		if more != "" {
			s += " · " + more
		}
	}
	return s
}

func (d *drawing) close(b *bufio.Writer) {
	b.WriteString("</g>\n")
	note := ""
	if d.omitted > 0 {
		note = fmt.Sprintf("%s frames narrower than %g px are not drawn; every total counts them.", grouped(uint64(d.omitted)), minWidth)
	}
	fmt.Fprintf(b, `<text class="note" x="%d" y="%d" font-size="11" fill="#5c616b">%s</text>`+"\n",
		svgMargin, d.height()-svgFooter+22, text(note))
	// The script is ours and holds no data; a test makes sure that it does
	// not end the section itself.
	fmt.Fprintf(b, "<script><![CDATA[\n%s]]></script>\n</svg>\n", svgScript)
}

// gap is what separates neighbors: the box of a frame is drawn that much
// narrower than its samples. Thin frames have none, or they would vanish.
func gap(w float64) float64 {
	if w < 2 {
		return 0
	}
	return 0.6
}

// px writes a coordinate with two digits after the point at most.
func px(v float64) string { return fmt.Sprint(math.Round(v*100) / 100) }

// text escapes s for XML, between tags as in attributes. Characters that XML
// does not allow become U+FFFD; printable left none in names.
func text(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s)) // a strings.Builder does not fail
	return b.String()
}

// metadataJSON is the session's metadata as formats embed it, on one line and
// in ASCII: what does not print is escaped the way JSON has it, so that
// nothing is lost and nothing acts.
func metadataJSON(m *profile.Metadata, c profile.Counts) string {
	copied := *m
	copied.Counts = c
	j, err := json.Marshal(&copied)
	if err != nil { // a year beyond 9999: the only thing in Metadata that has no JSON form
		return "{}"
	}
	var b strings.Builder
	for _, r := range string(j) {
		switch {
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		case r > '~':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
