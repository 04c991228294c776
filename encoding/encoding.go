// SPDX-License-Identifier: Apache-2.0

// Package encoding is the table of the formats a profile can be written in.
// Each format lives in a package of its own below this one.
package encoding

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/carverauto/serviceradar-profiler/encoding/flame"
	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/encoding/report"
	"github.com/carverauto/serviceradar-profiler/encoding/speedscope"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// Format is one way to write a profile.
type Format struct {
	Name        string
	Extensions  []string // of file names, dot included; the usual one first
	Description string

	write func(io.Writer, *profile.Profile, Options) error
}

// Options of all formats. The zero value is what most readers want.
type Options struct {
	// FullNames keeps parameters and template arguments of functions. Without,
	// only pprof has them, whose readers shorten names themselves.
	FullNames bool
	Annotate  folded.Annotate // in folded text
	// ByHost has the host as the first frame. pprof's format has it as a label,
	// always.
	ByHost bool
	// Columns and Color are of the terminal that text goes to.
	Columns int
	Color   bool
}

// Write writes p in the format.
func (f Format) Write(w io.Writer, p *profile.Profile, o Options) error {
	if err := f.write(w, p, o); err != nil {
		return fmt.Errorf("write %s: %w", f.Name, err)
	}
	return nil
}

// viewed makes a format's writer one that follows the options.
func viewed(write func(io.Writer, *profile.Profile) error) func(io.Writer, *profile.Profile, Options) error {
	return func(w io.Writer, p *profile.Profile, o Options) error { return write(w, o.view(p)) }
}

// view is the profile as formats for people show it.
func (o Options) view(p *profile.Profile) *profile.Profile {
	p = p.AtOneFrequency()
	if o.ByHost {
		p = p.ByHost()
	}
	if o.FullNames {
		return p
	}
	return p.Shortened()
}

// Formats returns all formats, in the order people should be told of them.
func Formats() []Format {
	return []Format{
		{"svg", []string{".svg"}, "flame graph, one picture for any browser", viewed(flame.WriteSVG)},
		{"html", []string{".html"}, "flame graph, one page to zoom, search and sort in", viewed(flame.WriteHTML)},
		{"folded", []string{".folded"}, "one line a stack, for flamegraph.pl and most other tools", writeFolded},
		{"pprof", []string{".pb.gz", ".pprof"}, "for go tool pprof and profile stores", writePprof},
		{"speedscope", []string{".speedscope.json"}, "for www.speedscope.app", viewed(speedscope.Write)},
		{"text", []string{".txt"}, "hottest functions, for a terminal", writeText},
	}
}

func writeFolded(w io.Writer, p *profile.Profile, o Options) error {
	return folded.Write(w, o.view(p), folded.Options{Annotate: o.Annotate})
}

func writePprof(w io.Writer, p *profile.Profile, _ Options) error { return pprof.Write(w, p) }

func writeText(w io.Writer, p *profile.Profile, o Options) error {
	return report.Write(w, o.view(p), report.Options{Width: o.Columns, Color: o.Color})
}

// ByName returns the format of a name.
func ByName(name string) (Format, error) {
	var known []string
	for _, f := range Formats() {
		if f.Name == name {
			return f, nil
		}
		known = append(known, f.Name)
	}
	return Format{}, fmt.Errorf("unknown format %q: known are %s", name, strings.Join(known, ", "))
}

// ByPath returns the format that a file's name asks for. Of several extensions
// that fit, the longest wins.
func ByPath(path string) (Format, error) {
	base := strings.ToLower(filepath.Base(path))
	var found Format
	var known []string
	longest := 0
	for _, f := range Formats() {
		for _, extension := range f.Extensions {
			if len(extension) > longest && strings.HasSuffix(base, extension) {
				found, longest = f, len(extension)
			}
		}
		known = slices.Concat(known, f.Extensions)
	}
	if longest == 0 {
		return Format{}, fmt.Errorf("no format for %q: known extensions are %s", path, strings.Join(known, ", "))
	}
	return found, nil
}
