// SPDX-License-Identifier: Apache-2.0

// Package debugfile finds the files that have what was stripped from an
// object: its debug file, by build ID or by the link that strip left, and the
// alternate file that debug files share. Distributions put them into packages
// of their own, below /usr/lib/debug.
//
// All paths here come from files of strangers. Those that a process maps, and
// what lies about them, are opened in the root directory of that process, out
// of which nothing leads. On the host, where debug files are usually installed,
// only the folders for debug files are looked into. A file counts only if it
// shows that it was made together with the object: by the same build ID, or by
// the checksum in the link.
package debugfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// SystemDir is where distributions install debug files.
const SystemDir = "/usr/lib/debug"

// Options says where else to look.
type Options struct {
	Dirs    []string // folders on the host that are laid out like SystemDir
	Servers ServerOptions
}

// Finder finds debug files.
type Finder struct {
	host   *process.RootDir
	dirs   []string // on the host
	server *server  // nil: nobody is asked
	toSum  int64    // bytes that may still be read for checksums
}

// maxSummed bounds what is read for checksums of all files together: some
// seconds. Without that, a hundred sparse files would hold up a session.
const maxSummed = 2 << 30

// NewFinder returns a finder for this host. The time for servers begins now.
func NewFinder(o Options) (*Finder, error) {
	host, err := process.OpenRootDir("/")
	if err != nil {
		return nil, fmt.Errorf("look for debug files: %w", err)
	}
	f := &Finder{host: host, dirs: append(o.Dirs[:len(o.Dirs):len(o.Dirs)], SystemDir), toSum: maxSummed}
	if len(o.Servers.URLs) > 0 {
		f.server = newServer(o.Servers)
	}
	return f, nil
}

// Close gives back what the finder has open. Files that it found stay open.
func (f *Finder) Close() {
	f.host.Close()
	if f.server != nil {
		f.server.close()
	}
}

// Object is an object with the place where it was found: what a debug file is
// looked for, and that file.
type Object struct {
	File *object.File
	Path string           // in Root
	Root *process.RootDir // of a process that maps it, or of the host; nil if that is not known
}

// Why there is no debug file, or why one does not count.
var (
	ErrNone       = errors.New("no debug file is installed")
	errOtherBuild = errors.New("it is of another build")
	errNoID       = errors.New("it has no build ID")
	errEmpty      = errors.New("it has neither symbols nor debug information")
)

// Find returns the debug file of an object, to be closed by the caller: first
// the one that the process sees, then the one that the host has, then one from
// a server. Without any the error is ErrNone, and says what was found but does
// not count.
func (f *Finder) Find(o Object) (Object, error) {
	s := search{finder: f, want: o.File.BuildID()}
	link, err := o.File.DebugLink()
	if err != nil {
		s.refused = append(s.refused, err)
	}
	s.link = link
	if o.Root != nil {
		s.byID(o.Root, SystemDir)
		s.byLink(o.Root, path.Dir(o.Path), path.Join(path.Dir(o.Path), ".debug"), SystemDir+path.Dir(o.Path))
	}
	for _, dir := range f.dirs {
		s.byID(f.host, dir)
		s.byLink(f.host, path.Join(dir, path.Dir(o.Path)))
	}
	s.byServer(f.server)
	if s.found.File == nil {
		return Object{}, s.none()
	}
	return s.found, nil
}

// Alternate returns the file that o's .gnu_debugaltlink names, to be closed by
// the caller.
func (f *Finder) Alternate(o Object, link object.AltLink) (*object.File, error) {
	s := search{want: link.BuildID}
	if o.Root != nil {
		s.try(o.Root, beside(o, link.Path), s.sameID)
		s.byID(o.Root, SystemDir)
	}
	for _, dir := range f.dirs {
		s.byID(f.host, dir)
	}
	s.byServer(f.server)
	if s.found.File == nil {
		return nil, fmt.Errorf("alternate file %.200q: %w", link.Path, s.none())
	}
	return s.found.File, nil
}

// beside is a path that stands in o: absolute, or from o's folder.
func beside(o Object, p string) string {
	if path.IsAbs(p) {
		return p
	}
	return path.Join(path.Dir(o.Path), p)
}

// Open opens a file that o's debug information is continued in, by the path
// that stands there or is known by convention (.dwo, .dwp). Whether it is the
// right one the reader has to check: such files have no build ID.
func (f *Finder) Open(o Object, p string) (*object.File, error) {
	if o.Root == nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	file, err := o.Root.Open(beside(o, p))
	if err != nil {
		return nil, err
	}
	return object.OpenDebug(file)
}

// search is one search. It ends when something was found.
type search struct {
	finder  *Finder // for its bounds
	want    profile.BuildID
	link    object.DebugLink
	found   Object
	refused []error
}

// byID looks for .build-id/xx/yyyy.debug.
func (s *search) byID(root *process.RootDir, dir string) {
	if at, ok := s.want.DebugPath(); ok {
		s.try(root, path.Join(dir, ".build-id", at+".debug"), s.sameID)
	}
}

// byLink looks for the file that .gnu_debuglink names in some folders.
func (s *search) byLink(root *process.RootDir, dirs ...string) {
	if s.link.Name == "" {
		return
	}
	for _, dir := range dirs {
		s.try(root, path.Join(dir, s.link.Name), s.linked)
	}
}

// byServer asks the servers, if there are any.
func (s *search) byServer(from *server) {
	if from == nil || s.found.File != nil || !s.want.IsGNU() {
		return
	}
	o, err := from.find(s.want)
	if err != nil {
		s.refused = append(s.refused, err)
		return
	}
	s.found = Object{File: o}
}

// try opens a path, and takes what is there if it counts.
func (s *search) try(root *process.RootDir, p string, check func(*object.File) error) {
	if s.found.File != nil {
		return
	}
	file, err := root.Open(p)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		s.refused = append(s.refused, err)
		return
	}
	o, err := object.OpenDebug(file)
	if err != nil {
		s.refused = append(s.refused, err)
		return
	}
	if err := check(o); err != nil {
		o.Close()
		s.refused = append(s.refused, fmt.Errorf("%s: %w", p, err))
		return
	}
	s.found = Object{o, p, root}
}

// sameID: what is found by its ID has that ID.
func (s *search) sameID(o *object.File) error {
	switch {
	case o.BuildID() == s.want:
		return useful(o)
	case !o.BuildID().IsGNU():
		return errNoID
	}
	return fmt.Errorf("%w (build ID %s, not %s)", errOtherBuild, o.BuildID(), s.want)
}

// linked: the name in a link proves nothing; an ID on both sides decides, and
// where one has none, the checksum in the link.
func (s *search) linked(o *object.File) error {
	if s.want.IsGNU() && o.BuildID().IsGNU() {
		return s.sameID(o)
	}
	if err := useful(o); err != nil {
		return err
	}
	if s.finder.toSum -= o.Size(); s.finder.toSum < 0 {
		return errors.New("too many bytes to check, with the files before")
	}
	sum, err := o.CRC()
	if err != nil {
		return err
	}
	if sum != s.link.CRC {
		return fmt.Errorf("%w (checksum %08x, not %08x)", errOtherBuild, sum, s.link.CRC)
	}
	return nil
}

// useful: a link may lead back to the stripped object itself.
func useful(o *object.File) error {
	for _, name := range []string{".symtab", ".debug_info", ".debug_str"} {
		if s := o.Section(name); s != nil && s.FileSize > 0 {
			return nil
		}
	}
	return errEmpty
}

// none says why there is no debug file.
func (s *search) none() error {
	err := ErrNone
	for _, r := range s.refused {
		err = fmt.Errorf("%w; %w", err, r)
	}
	return err
}
