// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/symbol"
)

// runTime is what is known of the code that a target makes at run time. Its
// process writes the names of that into files, if it was asked to; they are
// opened as soon as they are there, because the process may end any time, and
// read when names are looked for. Guarded by collector.mu.
type runTime struct {
	objects *objects
	pid     int
	files   *process.Files  // the target's: closed when it is over
	inside  *process.Inside // nil until read
	lists   []*list
	errs    []error             // why some are not used
	kind    *symbol.Runtime     // nil: none that we know
	parent  *runTime            // what made the code that was there at birth
	over    bool                // its process ended, or runs another program by now
	code    *symbol.RunTimeCode // what the resolver was given
}

// What is kept open for a process, and for all: anybody can map files of such a
// name, as many as he likes.
const (
	maxProcessLists = 16
	maxLists        = 512
)

// list is one of those files, or the same one opened again.
type list struct {
	path   string
	id     process.FileID
	file   *os.File
	source symbol.Source
}

func (o *objects) newRunTime(t *target, parent *runTime) *runTime {
	r := &runTime{objects: o, pid: t.id.PID, files: t.files, kind: t.runtime, parent: parent}
	o.made = append(o.made, r)
	return r
}

// isRunTime says whether a mapping may be of code that the process made.
func isRunTime(m *process.Mapping) bool {
	return m.Kind == profile.MappingAnonymous && m.Path != "[vsyscall]" || strings.HasPrefix(m.Path, "/memfd:")
}

// know is what a target knows of a new mapping.
func (t *target) know(m *process.Mapping, o *objects) known {
	k := known{id: profile.NoMapping, object: o.of(t, m)}
	isDump := m.Kind == profile.MappingObject && symbol.IsJITDump(m.Path)
	if !isDump && !isRunTime(m) {
		if kind := symbol.RuntimeOf(m.Path); kind != nil && m.Kind == profile.MappingObject {
			t.runs(kind)
		}
		return k
	}
	if t.made == nil {
		t.made = o.newRunTime(t, nil)
	}
	if isDump {
		t.made.openDump(t.files, m)
		return k
	}
	t.made.openMap()
	k.made = t.made
	return k
}

// inherit gives a child the code that its parent has made.
func (t *target) inherit(parent *runTime, o *objects) {
	if parent == nil {
		return
	}
	t.made = o.newRunTime(t, parent)
	for m := range t.space.All() {
		if m.Of.made != nil { // what the child makes there is its own
			m.Of.made, m.Of.id = t.made, profile.NoMapping
		}
	}
}

// openMap opens the perf map, unless it is open. Not being there is no error:
// it may come.
func (r *runTime) openMap() {
	if r.inside == nil {
		in, err := process.ReadInside(r.pid)
		if err != nil {
			return // it is gone, and what it was called inside with it
		}
		r.inside = &in
	}
	p := mapPath(r.inside)
	if slices.ContainsFunc(r.lists, func(l *list) bool { return l.path == p }) {
		return
	}
	r.reopenMap(p)
}

// mapPath is where perf and those who write for it expect the map.
func mapPath(in *process.Inside) string { return fmt.Sprintf("/tmp/perf-%d.map", in.PID) }

func (r *runTime) reopenMap(p string) {
	file, err := r.files.OpenPath(p)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = r.add(p, file, func(size func() (int64, error)) symbol.Source { return symbol.NewPerfMap(file, size) })
	}
	if err != nil {
		r.refuse(p, err)
	}
}

// openDump opens a jitdump that the process has mapped.
func (r *runTime) openDump(files *process.Files, m *process.Mapping) {
	file, err := files.Open(m)
	if err == nil {
		err = r.add(m.Path, file, func(size func() (int64, error)) symbol.Source { return symbol.NewJITDump(file, size) })
	}
	if err != nil {
		r.refuse(m.Path, err)
	}
}

// add takes a list if it is the process's, and if it is not known already.
func (r *runTime) add(p string, file *os.File, source func(size func() (int64, error)) symbol.Source) error {
	id, err := process.IdentifyFile(file)
	if err == nil {
		err = r.mayRead(file)
	}
	same := func(l *list) bool { return l.id.Device == id.Device && l.id.Inode == id.Inode }
	known := slices.ContainsFunc(r.lists, same)
	if err == nil && !known && (len(r.lists) >= maxProcessLists || r.objects.lists >= maxLists) {
		err = errors.New("there are too many such files")
	}
	if err != nil || known {
		file.Close()
		return err
	}
	r.objects.lists++
	r.lists = append(r.lists, &list{p, id, file, source(func() (int64, error) {
		info, err := file.Stat()
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	})})
	return nil
}

// mayRead says whether a list is to be believed. Anybody may put a file into
// /tmp, and call it what he likes: names that others made up are worse than
// none. So it has to belong to a user that the process runs as. It may have
// been the superuser before: then a file of his is as good, provided that
// everybody may read it, because what a process cannot read itself must not
// show in its profile.
func (r *runTime) mayRead(file *os.File) error {
	if r.inside == nil {
		in, err := process.ReadInside(r.pid)
		if err != nil {
			return err
		}
		r.inside = &in
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return errors.ErrUnsupported
	case slices.Contains(r.inside.Users, stat.Uid):
		return nil
	case stat.Uid != 0 && stat.Uid != r.inside.Root:
		return fmt.Errorf("it belongs to user %d, not to one of the process", stat.Uid)
	case info.Mode().Perm()&0o004 == 0:
		return errors.New("it belongs to the superuser, and not everybody may read it")
	}
	return nil
}

func (r *runTime) refuse(p string, err error) {
	err = fmt.Errorf("%w: %s is not used: %w", symbol.ErrAnonymous, path.Base(p), err)
	if len(r.errs) < maxProcessLists && !slices.ContainsFunc(r.errs, func(old error) bool { return old.Error() == err.Error() }) {
		r.errs = append(r.errs, err)
	}
}

// last opens what came, or was replaced, before the process ended or went over
// to another program. What it was called inside cannot be found out any more
// then: its PID may be another's.
func (r *runTime) last() {
	if r != nil && r.inside != nil && !r.over {
		r.reopenMap(mapPath(r.inside))
		r.over = true
	}
}

// named is what the resolver is given: the newest list first.
func (r *runTime) named() *symbol.RunTimeCode {
	if r.code == nil {
		r.code = &symbol.RunTimeCode{}
	}
	r.code.Sources, r.code.Err = r.sources(), r.why()
	return r.code
}

func (r *runTime) sources() []symbol.Source {
	var all []symbol.Source
	for _, l := range slices.Backward(r.lists) {
		all = append(all, l.source)
	}
	if r.parent != nil {
		all = append(all, r.parent.sources()...)
	}
	return all
}

// why says why code has no name that no list has one for.
func (r *runTime) why() error {
	if len(r.lists) > 0 {
		why := &symbol.Remedied{Err: symbol.ErrNotWritten}
		if r.kind != nil {
			why.Remedy = r.kind.Again(r.pid)
		}
		return why
	}
	why := &symbol.Remedied{Err: cmp.Or(errors.Join(r.errs...), symbol.ErrAnonymous),
		Remedy: "a compiler that writes a perf map or a jitdump gives it names"}
	if r.kind != nil {
		why.Err = cmp.Or(errors.Join(r.errs...), error(&symbol.MadeError{Runtime: r.kind.Name}))
		why.Remedy = r.kind.Remedy(r.pid)
	}
	return why
}

func (r *runTime) close() {
	for _, l := range r.lists {
		l.file.Close()
	}
}

// runTimeCode is what the resolver calls.
func (c *collector) runTimeCode(id profile.MappingID) *symbol.RunTimeCode {
	c.mu.Lock()
	defer c.mu.Unlock()
	made := c.objects.madeBy[id]
	if made == nil {
		return nil
	}
	return made.named()
}

// runs notes what runtime a target is.
func (t *target) runs(kind *symbol.Runtime) {
	t.runtime = kind
	if t.made != nil {
		t.made.kind = kind
	}
}

// openLists looks for lists that came since. c.mu is held.
func (t *target) openLists() {
	if t.made != nil && t.running {
		t.made.openMap()
	}
}

// lastLists does so at the end of sampling.
func (c *collector) lastLists() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.targets {
		t.openLists()
		t.made.last()
	}
}

// interpreted are the interpreters in a profile whose own functions do not
// show, although all addresses have names.
func (c *collector) interpreted(p *profile.Profile) (problems []symbol.Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	told := map[string]bool{}
	for _, r := range c.objects.made {
		if r.kind != nil && len(r.lists) > 0 {
			told[r.kind.Name] = true
		}
	}
	for i := range p.Mappings {
		m := &p.Mappings[i]
		kind := symbol.RuntimeOf(m.Path)
		if kind == nil || !kind.Interprets || m.Kind != profile.MappingObject || told[kind.Name] {
			continue
		}
		told[kind.Name] = true
		problems = append(problems, symbol.Problem{Object: m.Object(), Err: symbol.ErrInterpreted, Remedy: kind.Start})
	}
	return problems
}
