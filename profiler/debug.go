// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"encoding/hex"

	"github.com/carverauto/serviceradar-profiler/debugfile"
	"github.com/carverauto/serviceradar-profiler/dwarf"
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/symbol"
)

// debugFiles is what the names at the end of a session take from debug files:
// those of the objects that need it, opened when they do.
type debugFiles struct {
	finder *debugfile.Finder
	place  func(*object.File) debugfile.Object
	opened []*object.File
}

// openDebugFiles prepares to look for the debug files of objects, which place
// tells more of.
func openDebugFiles(place func(*object.File) debugfile.Object, options debugfile.Options) (*debugFiles, error) {
	finder, err := debugfile.NewFinder(options)
	if err != nil {
		return nil, err
	}
	return &debugFiles{finder: finder, place: place}, nil
}

// of is what the resolver calls.
func (d *debugFiles) of(f *object.File) (symbol.Debug, error) {
	o := d.place(f)
	if calls := symbol.DebugInfo(f, d.options(o)); calls != nil {
		return symbol.Debug{Calls: calls}, nil
	}
	found, err := d.finder.Find(o)
	if err != nil {
		return symbol.Debug{}, err
	}
	d.opened = append(d.opened, found.File)
	return symbol.Debug{Calls: symbol.DebugInfo(found.File, d.options(found)), File: found.File}, nil
}

// options finds what debug information in o refers to.
func (d *debugFiles) options(o debugfile.Object) dwarf.Options {
	return dwarf.Options{
		Alternate: func(path string, buildID []byte) (*object.File, error) {
			return d.finder.Alternate(o, object.AltLink{Path: path, BuildID: profile.BuildID(hex.EncodeToString(buildID))})
		},
		Split:   func(path string) (*object.File, error) { return d.finder.Open(o, path) },
		Package: func() (*object.File, error) { return d.finder.Open(o, o.Path+".dwp") },
	}
}

func (d *debugFiles) close() {
	for _, f := range d.opened {
		f.Close()
	}
	d.finder.Close()
}
