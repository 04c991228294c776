// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"math"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/symbol"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// images are what processes have mapped, by process: the one judge of the
// addresses of both tools.
type images map[int]*image

type image struct {
	mappings []process.Mapping
	objects  []*code // by mapping; nil where no object is behind it
}

// code is an object with its unwind tables.
type code struct {
	object *object.File
	tables []unwind.Table
}

func readImages(pids []int) (images, error) {
	all := images{}
	read := map[string]*code{} // by device, inode and path
	for _, pid := range pids {
		ms, err := process.ReadMaps(pid)
		if err != nil {
			return nil, err
		}
		files := process.OpenFiles(pid)
		defer files.Close()
		im := &image{mappings: ms}
		for i := range ms {
			m := &ms[i]
			key := fmt.Sprint(m.Device, m.Inode, m.Path)
			c, known := read[key]
			if !known {
				if c, err = readCode(pid, files, m); err != nil {
					return nil, fmt.Errorf("%s: %w", m.Path, err)
				}
				read[key] = c
			}
			im.objects = append(im.objects, c)
		}
		all[pid] = im
	}
	return all, nil
}

// readCode is nil for mappings that are no objects.
func readCode(pid int, files *process.Files, m *process.Mapping) (*code, error) {
	var o *object.File
	switch m.Kind {
	case profile.MappingVDSO:
		b, err := process.ReadVDSO(pid, m)
		if err != nil {
			return nil, err
		}
		if o, err = object.New(bytes.NewReader(b), int64(len(b))); err != nil {
			return nil, err
		}
	case profile.MappingObject:
		f, err := files.Open(m)
		if err != nil {
			return nil, nil // a file that was deleted, shared memory, say: its frames are no roots
		}
		if o, err = object.Open(f); err != nil {
			return nil, nil // mapped, but no program
		}
	default:
		return nil, nil
	}
	tables, _, err := unwind.Build(o)
	return &code{o, tables}, err
}

// find returns the mapping of an address, and its code and object address if
// there are such.
func (all images) find(pid int, a profile.Addr) (*process.Mapping, *code, profile.ObjAddr) {
	im := all[pid]
	if im == nil {
		return nil, nil, 0
	}
	for i := range im.mappings {
		m := &im.mappings[i]
		if !m.Contains(a) {
			continue
		}
		if c := im.objects[i]; c != nil {
			if at, ok := c.object.ObjAddr(&m.Mapping, a); ok {
				return m, c, at
			}
		}
		return m, nil, 0
	}
	return nil, nil, 0
}

// mapped is where a place in a file is in memory; of what is no file, itself.
func (all images) mapped(pid int, path string, at uint64) profile.Addr {
	if im := all[pid]; im != nil {
		for i := range im.mappings {
			m := &im.mappings[i]
			if m.Path == path && at >= uint64(m.Offset) && at-uint64(m.Offset) < uint64(m.Limit-m.Start) {
				return m.Start + profile.Addr(at-uint64(m.Offset))
			}
		}
	}
	return profile.Addr(at)
}

// isRoot says whether an address lies in code without a caller: one whose call
// frame information has an undefined return address. That is so of _start and
// where clone and clone3 call the thread's function, named or stripped, and of
// nothing that is called. A return address may be the first byte behind it.
func (all images) isRoot(pid int, a profile.Addr) bool {
	for _, try := range []profile.Addr{a, a - 1} {
		_, c, at := all.find(pid, try)
		if c == nil {
			continue
		}
		for i := range c.tables {
			if c.tables[i].Rule(at).Op() == unwind.OpRoot {
				return true
			}
		}
	}
	return false
}

// name is object and object address, for people.
func (all images) name(pid int, a profile.Addr) string {
	if a >= kernelStart {
		return fmt.Sprintf("kernel:%#x", uint64(a))
	}
	m, c, at := all.find(pid, a)
	switch {
	case m == nil:
		return fmt.Sprintf("unmapped:%#x", uint64(a))
	case c == nil:
		return fmt.Sprintf("%s:%#x", m.Object(), uint64(a))
	}
	return fmt.Sprintf("%s+%#x", m.Object(), uint64(at))
}

// kernelStart is where user addresses are over, on both architectures.
const kernelStart = profile.Addr(1) << 63

// page is how finely code without names is told apart.
const page = 4096

// functions counts samples by the function that ran. Both tools' addresses are
// named by the same tables: it is the samples that are compared, not the names.
func (all images) functions(one, other []stack) (a, b map[string]float64) {
	p := &profile.Profile{Mappings: []profile.Mapping{{Start: kernelStart, Limit: math.MaxUint64, Path: profile.KernelPath, Kind: profile.MappingKernel}}}
	behind := []*code{nil}
	ids := map[*process.Mapping]profile.MappingID{}
	number := func(s *stack) profile.AddressID {
		leaf := profile.Address{Addr: s.addresses[0], Mapping: 0}
		if leaf.Addr < kernelStart {
			m, c, _ := all.find(s.pid, leaf.Addr)
			if m == nil {
				m = &process.Mapping{}
			}
			id, known := ids[m]
			if !known {
				id = profile.MappingID(len(p.Mappings))
				p.Mappings, behind = append(p.Mappings, m.Mapping), append(behind, c)
				ids[m] = id
			}
			leaf.Mapping = id
		}
		p.Addresses = append(p.Addresses, leaf)
		return profile.AddressID(len(p.Addresses) - 1)
	}
	for _, stacks := range [][]stack{one, other} {
		for i := range stacks {
			stacks[i].leaf = number(&stacks[i])
		}
	}
	r := symbol.Resolver{Open: func(id profile.MappingID) (*object.File, error) {
		if behind[id] == nil {
			return nil, symbol.ErrAnonymous
		}
		return behind[id].object, nil
	}}
	r.Resolve(p, nil) // what has no name counts by its page
	count := func(stacks []stack) map[string]float64 {
		n := map[string]float64{}
		for i := range stacks {
			at := &p.Addresses[stacks[i].leaf]
			key := p.Mappings[at.Mapping].Object() + " "
			if f := at.Frames; len(f) > 0 && !f[0].Unknown {
				key += f[0].Name
			} else {
				key += fmt.Sprintf("%#x", uint64(at.Addr)/page*page)
			}
			n[key] += stacks[i].count
		}
		return n
	}
	return count(one), count(other)
}
