// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"errors"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// objects are the files behind the profile's mappings, each opened once, when
// its first mapping appears in a sample.
type objects struct {
	byMapping []result // by profile.MappingID
	byFile    map[fileKey]result
}

type result struct {
	object *object.File
	err    error
}

// fileKey tells files apart, those without an inode by what they are.
type fileKey struct {
	device process.Device
	inode  uint64
	path   string
}

var errNoObject = errors.New("no object is behind it")

// add opens the object of the next mapping; from is nil where there is none.
func (o *objects) add(t *target, from *process.Mapping) {
	r := result{err: errNoObject}
	if from != nil {
		r = o.get(t, from)
	}
	o.byMapping = append(o.byMapping, r)
}

// get opens the object of a mapping, once.
func (o *objects) get(t *target, m *process.Mapping) result {
	if m.Kind != profile.MappingObject && m.Kind != profile.MappingVDSO {
		return result{err: errNoObject}
	}
	key := fileKey{m.Device, m.Inode, m.Path}
	known, ok := o.byFile[key]
	if !ok || known.err != nil && t.running {
		known = openObject(t, m)
		if o.byFile == nil {
			o.byFile = map[fileKey]result{}
		}
		o.byFile[key] = known
	}
	return known
}

func openObject(t *target, m *process.Mapping) result {
	if m.Kind == profile.MappingVDSO {
		image, err := process.ReadVDSO(t.id.PID, m)
		if err != nil {
			return result{err: err}
		}
		f, err := object.New(bytes.NewReader(image), int64(len(image)))
		return result{f, err}
	}
	file, err := t.files.Open(m)
	if err != nil {
		return result{err: err}
	}
	f, err := object.Open(file)
	return result{f, err}
}

func (o *objects) open(id profile.MappingID) (*object.File, error) {
	r := o.byMapping[id]
	return r.object, r.err
}

func (o *objects) close() {
	for _, r := range o.byFile {
		if r.object != nil {
			r.object.Close()
		}
	}
}
