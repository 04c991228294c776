// SPDX-License-Identifier: Apache-2.0

// Package debugdir names afterwards what a profile has no names for, from files
// in directories: objects as they were before they were stripped, and debug
// files. All it takes of the profile is build IDs and object addresses, so it
// works on any machine, when the process is long gone.
package debugdir

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/debugfile"
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// What is looked at of a directory at most: somebody may name his home.
const (
	maxFiles = 200_000
	maxDepth = 32
	maxOpen  = 256 // files kept open
)

// Index knows which file has which build ID. Files at the places that their
// build IDs name (.build-id/xx/yyyy.debug) are found without a search; a
// directory is searched when one is not there, once.
type Index struct {
	finder   *debugfile.Finder // of what this host has installed, or servers have
	dirs     []string
	paths    map[profile.BuildID][]string    // found by the search; nil before
	found    map[profile.BuildID]*Candidates // answers of Find
	missing  map[profile.BuildID]error       // why neither this host nor a server has one
	open     []*object.File
	cut      bool // a directory has more than is looked at
	unusable int  // files that could not be read
}

// Candidates are the files of one build ID. They belong to the index.
type Candidates struct {
	Named  *object.File // the one with most names
	Mapped *object.File // one that has code, which tells what lies where; nil if there are debug files only

	path string // of Named; "" if it is from elsewhere than the directories
}

// Open prepares to look into the directories of the options, and to ask the
// servers.
func Open(o debugfile.Options) (*Index, error) {
	x := &Index{found: map[profile.BuildID]*Candidates{}, missing: map[profile.BuildID]error{}}
	for _, dir := range o.Dirs {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "open", Path: dir, Err: unix.ENOTDIR}
		}
		if err != nil {
			return nil, err
		}
		x.dirs = append(x.dirs, filepath.Clean(dir))
	}
	var err error
	x.finder, err = debugfile.NewFinder(debugfile.Options{Servers: o.Servers}) // our directories have more than it looks at
	return x, err
}

// Close closes all files that were found.
func (x *Index) Close() {
	x.finder.Close()
	for _, f := range x.open {
		f.Close()
	}
	x.open = nil
}

// Find returns the files with a build ID; nil if there are none.
func (x *Index) Find(id profile.BuildID) *Candidates {
	if id == "" {
		return nil
	}
	c, ok := x.found[id]
	if !ok {
		c = x.look(id)
		x.found[id] = c
	}
	return c
}

func (x *Index) look(id profile.BuildID) *Candidates {
	var c Candidates
	for _, p := range x.placesOf(id) {
		x.add(&c, id, p)
	}
	if c.Named == nil || rank(c.Named) == 0 {
		for _, p := range x.search()[id] {
			x.add(&c, id, p)
		}
	}
	if c.Named == nil || rank(c.Named) == 0 {
		if f, err := x.finder.ByID(id); err == nil {
			x.open = append(x.open, f)
			c.Named, c.path = f, ""
		} else {
			x.missing[id] = err
		}
	}
	if c.Named == nil {
		return nil
	}
	return &c
}

// placesOf are the names that files with a build ID have: the debug file, and
// where RPM packages are used the object itself.
func (x *Index) placesOf(id profile.BuildID) []string {
	at, ok := id.DebugPath()
	if !ok {
		return nil
	}
	var ps []string
	for _, dir := range x.dirs {
		ps = append(ps, filepath.Join(dir, ".build-id", at+".debug"), filepath.Join(dir, ".build-id", at), filepath.Join(dir, at+".debug"))
	}
	return ps
}

// add takes a file if it has the build ID, and keeps it open if it is of use.
func (x *Index) add(c *Candidates, id profile.BuildID, p string) {
	f, err := openObject(p)
	if err != nil {
		return // not there, mostly; a search counts those that are no good
	}
	if f.BuildID() != id || len(x.open) >= maxOpen {
		f.Close()
		return
	}
	used := false
	if c.Named == nil || rank(f) > rank(c.Named) {
		c.Named, c.path, used = f, p, true
	}
	if c.Mapped == nil && hasCode(f) {
		c.Mapped, used = f, true
	}
	if !used {
		f.Close()
		return
	}
	x.open = append(x.open, f)
}

// rank says how much a file knows of names.
func rank(f *object.File) int {
	n := 0
	if s := f.Section(".debug_info"); s != nil && s.FileSize > 0 {
		n += 2
	}
	if s := f.Section(".symtab"); s != nil && s.FileSize > 0 {
		n++
	}
	return n
}

// hasCode says whether the code is in the file: objcopy --only-keep-debug takes
// it out, and then offsets in the file mean nothing.
func hasCode(f *object.File) bool {
	return slices.ContainsFunc(f.Segments(), func(s object.Segment) bool { return s.Executable() && s.FileSize > 0 })
}

// search looks at all files of the directories, once.
func (x *Index) search() map[profile.BuildID][]string {
	if x.paths != nil {
		return x.paths
	}
	x.paths = map[profile.BuildID][]string{}
	left := maxFiles
	for _, dir := range x.dirs {
		x.searchDir(dir, 0, &left)
	}
	return x.paths
}

// searchDir follows no links to directories: they may form a circle.
func (x *Index) searchDir(dir string, depth int, left *int) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		x.unusable++
	}
	for _, e := range entries {
		if *left--; *left < 0 || depth > maxDepth {
			x.cut = true
			return
		}
		p := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir():
			x.searchDir(p, depth+1, left)
		case e.Type().IsRegular():
			x.addPath(p)
		}
	}
}

func (x *Index) addPath(p string) {
	f, err := openObject(p)
	if err != nil {
		if !errors.Is(err, object.ErrFormat) && !errors.Is(err, errors.ErrUnsupported) {
			x.unusable++
		}
		return // most files are no objects
	}
	defer f.Close()
	x.paths[f.BuildID()] = append(x.paths[f.BuildID()], p)
}

// openObject opens a regular file and nothing else, which might block or have
// effects.
func openObject(p string) (*object.File, error) {
	info, err := os.Stat(p)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: not a regular file: %w", p, os.ErrInvalid)
	}
	f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	return object.OpenDebug(f)
}

// Incomplete says what was not looked at; "" if nothing.
func (x *Index) Incomplete() string {
	switch {
	case x.cut:
		return fmt.Sprintf("only the first %d files and %d levels of the directories were looked at", maxFiles, maxDepth)
	case x.unusable > 0:
		return fmt.Sprintf("%d files of the directories could not be read", x.unusable)
	case len(x.open) >= maxOpen:
		return fmt.Sprintf("only the first %d files were used", cmp.Or(len(x.open), maxOpen))
	}
	return ""
}
