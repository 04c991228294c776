// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"github.com/carverauto/serviceradar-profiler/debugfile"
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/symbol"
)

// debugFiles is what the names at the end of a session take from debug files:
// those of the objects that need it, opened when they do.
type debugFiles struct {
	finder  *debugfile.Finder
	objects *objects
	opened  []*object.File
}

// openDebugFiles prepares to look for the debug files of objects.
func openDebugFiles(o *objects, options debugfile.Options) (*debugFiles, error) {
	finder, err := debugfile.NewFinder(options)
	if err != nil {
		return nil, err
	}
	return &debugFiles{finder: finder, objects: o}, nil
}

// of is what the resolver calls.
func (d *debugFiles) of(f *object.File) (symbol.Debug, error) {
	found, err := d.finder.Find(d.objects.place(f))
	if err != nil {
		return symbol.Debug{}, err
	}
	d.opened = append(d.opened, found.File)
	return symbol.Debug{File: found.File}, nil
}

func (d *debugFiles) close() {
	for _, f := range d.opened {
		f.Close()
	}
	d.finder.Close()
}
