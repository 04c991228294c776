// SPDX-License-Identifier: Apache-2.0

package flame

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

//go:embed page
var pageFiles embed.FS

// pageScripts in the order in which they build on one another: one noun each.
var pageScripts = []string{
	"tree.js", "palette.js", "search.js", "graph.js", "view.js", "pointer.js", "table.js", "state.js", "page.js",
}

var (
	pageScript   = joinScripts()
	pageStyle    = readPage("page.css")
	pageTemplate = template.Must(template.New("page").Parse(readPage("page.html.tmpl")))
)

func readPage(name string) string {
	b, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		panic(err) // the build embeds it
	}
	return string(b)
}

// joinScripts makes one script whose names stay its own.
func joinScripts() string {
	var b strings.Builder
	b.WriteString("\"use strict\";\n(() => {\n")
	for _, name := range pageScripts {
		b.WriteString(readPage(name))
	}
	b.WriteString("})();\n")
	return b.String()
}

// page is what the template shows without help of the script.
type page struct {
	Heading, Title string
	Policy         string
	Style          template.CSS
	Script         template.JS
	Data           template.JS
	Facts          []fact
	Details        []fact
	Warnings       []string
	Functions      []tableRow
	Empty          bool
}

// fact is one value of the header; Bad says that a reader must know.
type fact struct {
	Name, Value, Hint string
	Bad               bool
}

type tableRow struct{ Self, Total, Name, Object string }

// WriteHTML writes one page with everything about p: an interactive flame
// graph, the functions, how good the data is. It asks the network for
// nothing: its own policy forbids that.
func WriteHTML(w io.Writer, p *profile.Profile) error {
	c := counts(p)
	root := p.Tree()
	data, err := json.Marshal(newPageData(root, &p.Meta, c))
	if err != nil {
		return err
	}
	v := page{
		Heading: heading(&p.Meta),
		Title:   heading(&p.Meta) + " – flame graph",
		Policy: "default-src 'none'; script-src " + source(pageScript) + "; style-src " + source(pageStyle) +
			"; img-src data:; base-uri 'none'; form-action 'none'",
		Style: template.CSS(pageStyle),
		// encoding/json escapes <, > and &, so the data cannot end its element.
		Script: template.JS(pageScript), Data: template.JS(data),
		Facts:     facts(&p.Meta, c),
		Details:   details(&p.Meta),
		Functions: tableRows(p.Functions(), root.Total),
		Empty:     root.Total == 0,
	}
	for i := range p.Meta.Unnamed {
		v.Warnings = append(v.Warnings, printable(p.Meta.Unnamed[i].String(), titleLimit))
	}
	for _, s := range p.Meta.Warnings {
		v.Warnings = append(v.Warnings, printable(s, titleLimit))
	}
	return pageTemplate.Execute(w, &v)
}

// source names an inline text by its hash, the way a policy admits it.
func source(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// facts say how good the data is, always all of them: a zero is news too.
func facts(m *profile.Metadata, c profile.Counts) []fact {
	share := func(name string, n, of uint64, hint string) fact {
		v := grouped(n)
		if n > 0 {
			v += " (" + percent(n, of) + ")"
		}
		return fact{name, v, hint, n*100 > of}
	}
	fs := []fact{{"Samples", grouped(c.Samples), "stacks counted", c.Samples == 0}}
	if m.DurationNs > 0 {
		fs = append(fs, fact{"Duration", seconds(m.Duration()), "that sampling really lasted", false})
	}
	if m.FrequencyHz > 0 {
		fs = append(fs, fact{"Frequency", grouped(uint64(m.FrequencyHz)) + " Hz", "samples a second and CPU", false})
	}
	return append(fs,
		share("Lost", c.Lost, c.Samples+c.Lost, "samples taken, but not kept for lack of room"),
		share("Truncated", c.Truncated, c.Samples, "samples whose stack was too deep: the root is missing"),
		share("Unknown", c.Unknown, c.Samples, "samples with a frame that has no name"))
}

// details is what one asks for once in a while; empty values are left out.
func details(m *profile.Metadata) []fact {
	var fs []fact
	add := func(name, value string) {
		if value != "" {
			fs = append(fs, fact{Name: name, Value: printable(value, titleLimit)})
		}
	}
	number := func(name string, n int) {
		if n > 0 {
			add(name, grouped(uint64(n)))
		}
	}
	clock := func(name string, t time.Time) {
		if !t.IsZero() {
			add(name, t.UTC().Format("2006-01-02 15:04:05.000 UTC"))
		}
	}
	add("Host", m.Host)
	const most = 20 // a page about a thousand hosts is not a list of them
	for i := range m.Hosts[:min(len(m.Hosts), most)] {
		add(printable(m.Hosts[i].Host, headingLimit), hostLine(&m.Hosts[i]))
	}
	if len(m.Hosts) == 0 {
		for _, t := range m.Targets {
			add("PID "+strconv.Itoa(t.PID), t.Command)
		}
	}
	add("Kernel", strings.TrimSpace(m.Kernel+" "+m.Arch))
	number("CPUs", m.CPUs)
	number("Threads", m.Threads)
	clock("Start", m.Start)
	clock("First sample", m.FirstSample)
	if m.CPUTimeNs > 0 {
		add("CPU time of the target", seconds(time.Duration(m.CPUTimeNs)))
	}
	add("Event", m.Event)
	add("User stacks", m.UserStacks)
	add("Ended", string(m.Ended))
	if m.SymbolizeNs > 0 {
		add("Symbolizing took", time.Duration(m.SymbolizeNs).Round(time.Millisecond).String())
	}
	add("Made by", strings.TrimSpace(m.Tool+" "+m.ToolVersion))
	return fs
}

// hostLine says what a host gave.
func hostLine(h *profile.HostPart) string {
	if h.Missing != "" {
		return "missing: " + h.Missing
	}
	line := grouped(h.Samples) + " samples"
	if h.FrequencyHz > 0 {
		line += fmt.Sprintf(" at %d Hz", h.FrequencyHz)
	}
	if h.Lost > 0 {
		line += ", " + grouped(h.Lost) + " lost"
	}
	return line + " in " + seconds(time.Duration(h.DurationNs))
}

// tableRows is the text for readers without scripts: the functions that
// matter most.
func tableRows(fs []profile.Function, total uint64) []tableRow {
	var rows []tableRow
	for _, f := range fs[:min(len(fs), 40)] {
		rows = append(rows, tableRow{
			percent(f.Self, total), percent(f.Total, total),
			printable(f.Name, titleLimit), printable(f.Object, headingLimit),
		})
	}
	return rows
}
