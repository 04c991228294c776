// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"errors"
	"os"
	"sync"

	"github.com/carverauto/serviceradar-profiler/debugfile"
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
)

// objects are the files behind the targets' mappings, each opened once, when a
// target first maps it: it may be gone a moment later, and so may the target.
// The same file reached through several mount namespaces is one.
type objects struct {
	byFile    map[process.FileID]*opened
	vdso      *opened
	read      map[*object.File]*opened // those that a resolver has
	byMapping []*opened                // by profile.MappingID; nil where there is none
	made      []*runTime
	lists     int        // open, of all made
	madeBy    []*runTime // by profile.MappingID; nil where an object is behind it
	unfed     []*opened  // those the feeder has not looked at yet
}

// opened is one object. Its headers are read when somebody asks for them,
// which may be a goroutine that must not hold up others; so opening it and
// reading it are apart.
type opened struct {
	id   process.FileID // zero for the vDSO
	file *os.File
	vdso []byte
	root *process.RootDir // of the target that mapped it first; nil where it could not be had
	path string           // there

	once   sync.Once
	object *object.File
	err    error

	// Guarded by collector.mu.
	fed    []sampler.TableID // what the kernel has; nil until then
	looked bool              // the feeder is done with it
}

var errNoObject = errors.New("no object is behind it")

// get reads the headers, once.
func (o *opened) get() (*object.File, error) {
	o.once.Do(func() {
		switch {
		case o.err != nil:
		case o.file != nil:
			o.object, o.err = object.Open(o.file)
			o.file = nil // the object's, or closed
		default:
			o.object, o.err = object.New(bytes.NewReader(o.vdso), int64(len(o.vdso)))
		}
	})
	return o.object, o.err
}

// of opens the object of a mapping, or finds it open: that costs one system
// call. It is nil where there is no object behind the mapping. What cannot be
// opened is an object too, with an error, and is tried again with the next
// mapping of it.
func (o *objects) of(t *target, m *process.Mapping) *opened {
	switch m.Kind {
	case profile.MappingVDSO:
		if o.vdso == nil || o.vdso.vdso == nil { // not its error, which who reads the headers may just write
			image, err := process.ReadVDSO(t.id.PID, m)
			o.vdso = o.fresh(&opened{vdso: image, err: err})
		}
		return o.vdso
	case profile.MappingObject:
	default:
		return nil
	}
	id, err := t.files.Identify(m)
	if err != nil {
		return &opened{err: err}
	}
	if known := o.byFile[id]; known != nil {
		return known
	}
	file, err := t.files.Open(m)
	if err != nil {
		return &opened{err: err}
	}
	if id, err = process.IdentifyFile(file); err != nil { // it may have changed meanwhile
		file.Close()
		return &opened{err: err}
	}
	if known := o.byFile[id]; known != nil {
		file.Close()
		return known
	}
	known := o.fresh(&opened{id: id, file: file, path: m.Path})
	if root := t.files.Root(); root != nil {
		known.root = root.Share() // debug files are looked for when the target may be gone
	}
	if o.byFile == nil {
		o.byFile = map[process.FileID]*opened{}
	}
	o.byFile[id] = known
	return known
}

func (o *objects) fresh(f *opened) *opened {
	if f.err == nil {
		o.unfed = append(o.unfed, f)
	}
	return f
}

// know notes what is behind a mapping. Between two of ours there may be one that
// the resolver added: a module of the kernel's.
func (o *objects) know(id profile.MappingID, of known) {
	for int(id) >= len(o.byMapping) {
		o.byMapping, o.madeBy = append(o.byMapping, nil), append(o.madeBy, nil)
	}
	o.byMapping[id], o.madeBy[id] = of.object, of.made
}

// object is what a resolver calls.
func (c *collector) object(id profile.MappingID) (*object.File, error) {
	c.mu.Lock()
	f := c.objects.byMapping[id]
	c.mu.Unlock()
	if f == nil {
		return nil, errNoObject
	}
	file, err := f.get()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.objects.read == nil {
		c.objects.read = map[*object.File]*opened{}
	}
	c.objects.read[file] = f
	return file, nil
}

// fileID identifies the file of an object that a resolver has; zero for the
// vDSO.
func (c *collector) fileID(file *object.File) process.FileID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.objects.read[file]; f != nil {
		return f.id
	}
	return process.FileID{}
}

// place is where such an object was found. The vDSO has a build ID alone.
func (c *collector) place(file *object.File) debugfile.Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.objects.read[file]; f != nil {
		return debugfile.Object{File: file, Path: f.path, Root: f.root}
	}
	return debugfile.Object{File: file}
}

func (o *objects) close() {
	for _, r := range o.made {
		r.close()
	}
	for _, f := range o.byFile {
		if f.object != nil {
			f.object.Close()
		} else if f.file != nil {
			f.file.Close()
		}
		if f.root != nil {
			f.root.Close()
		}
	}
}
