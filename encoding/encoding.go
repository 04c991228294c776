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

	write func(io.Writer, *profile.Profile) error
}

// Write writes p in the format, with the format's default options.
func (f Format) Write(w io.Writer, p *profile.Profile) error {
	if err := f.write(w, p); err != nil {
		return fmt.Errorf("write %s: %w", f.Name, err)
	}
	return nil
}

// Formats returns all formats, in the order people should be told of them.
func Formats() []Format {
	return []Format{
		{"svg", []string{".svg"}, "flame graph, one picture for any browser", flame.WriteSVG},
		{"html", []string{".html"}, "flame graph, one page to zoom, search and sort in", flame.WriteHTML},
		{"folded", []string{".folded"}, "one line a stack, for flamegraph.pl and most other tools", writeFolded},
		{"pprof", []string{".pb.gz", ".pprof"}, "for go tool pprof and profile stores", pprof.Write},
		{"speedscope", []string{".speedscope.json"}, "for www.speedscope.app", speedscope.Write},
		{"text", []string{".txt"}, "hottest functions, for a terminal", writeText},
	}
}

func writeFolded(w io.Writer, p *profile.Profile) error {
	return folded.Write(w, p, folded.Options{})
}

func writeText(w io.Writer, p *profile.Profile) error {
	return report.Write(w, p, report.Options{})
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
