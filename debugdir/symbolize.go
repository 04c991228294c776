// SPDX-License-Identifier: Apache-2.0

package debugdir

import (
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/carverauto/serviceradar-profiler/dwarf"
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/symbol"
)

// Why an address stays without a name.
var (
	errNoFile = fmt.Errorf("%w: none of its build ID is in the directories", symbol.ErrNoFile)
	errNoID   = fmt.Errorf("%w: its build ID is not known", symbol.ErrNoFile)
	errKernel = fmt.Errorf("%w: the kernel's addresses say nothing away from its host, or after its next start", symbol.ErrNoFile)
)

// Symbolize names the addresses of p that have no name; with all, those that
// have one get the name that the files have for it, where they have one. It
// returns how many addresses it named. Meta.Unnamed and Meta.Counts are of what
// is left; where nothing was found of an object, what the recording knew of it
// still holds.
func (x *Index) Symbolize(p *profile.Profile, all bool) int {
	n := 0
	if all {
		n = x.rename(p)
	}
	var ids []profile.AddressID
	for i := range p.Addresses {
		if a := &p.Addresses[i]; !a.Named() {
			ids = append(ids, profile.AddressID(i))
		}
	}
	problems := x.resolve(p, ids)
	for _, id := range ids {
		if p.Addresses[id].Named() {
			n++
		}
	}
	p.Meta.Unnamed = remember(symbol.Unnamed(p, problems), p.Meta.Unnamed)
	p.Count()
	return n
}

// rename looks up the addresses that have names. The old ones stay where there
// are no new ones.
func (x *Index) rename(p *profile.Profile) int {
	again := *p
	again.Addresses = append([]profile.Address(nil), p.Addresses...)
	var ids []profile.AddressID
	for i := range again.Addresses {
		a := &again.Addresses[i]
		m := p.Mapping(a.Mapping)
		if m == nil || !a.Named() || x.Find(m.BuildID) == nil {
			continue
		}
		a.Frames = nil
		ids = append(ids, profile.AddressID(i))
	}
	x.resolve(&again, ids)
	n := 0
	for _, id := range ids {
		if a := &again.Addresses[id]; a.Named() {
			p.Addresses[id].Frames = a.Frames
			n++
		}
	}
	return n
}

func (x *Index) resolve(p *profile.Profile, ids []profile.AddressID) []symbol.Problem {
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		x.place(p, &p.Addresses[id])
	}
	r := symbol.Resolver{
		Open:     func(id profile.MappingID) (*object.File, error) { return x.file(p.Mapping(id)) },
		Debug:    x.debug,
		Kallsyms: func() (io.ReadCloser, error) { return nil, errKernel },
	}
	return r.Resolve(p, ids)
}

func (x *Index) file(m *profile.Mapping) (*object.File, error) {
	if m.BuildID == "" {
		return nil, errNoID
	}
	c := x.Find(m.BuildID)
	if c == nil {
		return nil, fmt.Errorf("%w: %v", errNoFile, x.missing[m.BuildID])
	}
	if c.Mapped != nil {
		return c.Mapped, nil
	}
	return c.Named, nil
}

// debug is what the resolver asks for when it has an object, or a debug file
// for want of one.
func (x *Index) debug(f *object.File) (symbol.Debug, error) {
	c := x.Find(f.BuildID())
	if c == nil { // of an object that is not ours; there is none
		return symbol.Debug{}, errNoFile
	}
	d := symbol.Debug{Calls: symbol.DebugInfo(c.Named, x.options(c))}
	if c.Named != f {
		d.File = c.Named
	}
	return d, nil
}

// options finds what debug information goes on in. Paths that stand in it are
// those of another machine, so only names count: of files beside it.
func (x *Index) options(c *Candidates) dwarf.Options {
	beside := func(name string) (*object.File, error) {
		if c.path == "" {
			return nil, fs.ErrNotExist
		}
		return openObject(filepath.Join(filepath.Dir(c.path), name))
	}
	return dwarf.Options{
		Alternate: func(_ string, buildID []byte) (*object.File, error) {
			return x.alternate(profile.BuildID(hex.EncodeToString(buildID)))
		},
		Split:   func(path string) (*object.File, error) { return beside(filepath.Base(path)) },
		Package: func() (*object.File, error) { return beside(filepath.Base(c.path) + ".dwp") },
	}
}

// alternate opens what dwz made of several debug files, for the caller to close.
func (x *Index) alternate(id profile.BuildID) (*object.File, error) {
	for _, p := range append(x.placesOf(id), x.search()[id]...) {
		f, err := openObject(p)
		if err != nil {
			continue
		}
		if f.BuildID() == id {
			return f, nil
		}
		f.Close()
	}
	return x.finder.ByID(id)
}

// place finds where an address lies in its object, unless the profile knows.
func (x *Index) place(p *profile.Profile, a *profile.Address) {
	m := p.Mapping(a.Mapping)
	if a.ObjAddr != 0 || m == nil {
		return
	}
	if c := x.Find(m.BuildID); c != nil && c.Mapped != nil {
		a.ObjAddr, _ = c.Mapped.ObjAddr(m, a.Lookup())
	} else if c != nil {
		a.ObjAddr, _ = c.Named.ObjAddrInMemory(m, a.Lookup())
	}
}

// remember gives what was not found the reason that it had when the process was
// still there: it says which package is missing, for instance.
func remember(us, old []profile.Unnamed) []profile.Unnamed {
	for i := range us {
		u := &us[i]
		if u.Reason != profile.ReasonNoFile && u.Reason != profile.ReasonMade {
			continue // something was found, and is what counts now
		}
		for j := range old {
			if o := &old[j]; o.Object == u.Object && (u.BuildID == "" || o.BuildID == u.BuildID) {
				u.Reason, u.Why, u.Remedy = o.Reason, o.Why, o.Remedy
				if u.Path == "" {
					u.Path, u.BuildID = o.Path, o.BuildID
				}
				break
			}
		}
	}
	return us
}
