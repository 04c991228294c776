// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"cmp"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// ask gives frames to the lookups that a source has names for, and returns the
// others. The lookups are sorted by address.
func (r *run) ask(s Source, lookups []lookup, kernel bool) ([]lookup, error) {
	return r.each(lookups, func(addrs []profile.ObjAddr, found func(i int, of func(profile.AddressID))) error {
		return s.Find(addrs, func(i int, sym Symbol) {
			f := r.frame(sym.Name, kernel, false)
			found(i, func(id profile.AddressID) {
				r.set(id, f)
				if sym.Module != "" {
					r.p.Addresses[id].Mapping = r.module(&sym)
				}
			})
		})
	})
}

// module returns the mapping that stands for a kernel module, wide enough for
// one of its symbols. Profiles are collected with one mapping for the kernel:
// what is in a module is known only now.
func (r *run) module(s *Symbol) profile.MappingID {
	if r.modules == nil {
		r.modules = map[string]profile.MappingID{}
		for i := range r.p.Mappings {
			if m := &r.p.Mappings[i]; m.Kind == profile.MappingKernel && m.Path != profile.KernelPath {
				r.modules[m.Path] = profile.MappingID(i)
			}
		}
	}
	id, ok := r.modules[s.Module]
	if !ok {
		id = profile.MappingID(len(r.p.Mappings))
		r.modules[s.Module] = id
		r.p.Mappings = append(r.p.Mappings, profile.Mapping{Kind: profile.MappingKernel,
			Path: printable(s.Module), Start: profile.Addr(s.Start), Limit: profile.Addr(s.Limit)})
	}
	m := &r.p.Mappings[id]
	m.Start, m.Limit = min(m.Start, profile.Addr(s.Start)), max(m.Limit, profile.Addr(s.Limit))
	return id
}

// askCalls is ask for a source that knows of inlined calls. A function that was
// compiled on its own is called what a symbol, if there are any, calls it:
// debug information has what it is called in the source, where one function may
// have several names (__libc_malloc, which everybody knows as malloc).
func (r *run) askCalls(s CallSource, symbols Source, lookups []lookup) ([]lookup, error) {
	_, isGo := s.(*pclntab)
	var frames []profile.Frame
	return r.each(lookups, func(addrs []profile.ObjAddr, found func(i int, of func(profile.AddressID))) error {
		outer := make([]string, len(addrs))
		var failed error
		if symbols != nil {
			failed = symbols.Find(addrs, func(i int, sym Symbol) { outer[i] = sym.Name })
		}
		err := s.Find(addrs, func(i int, calls []Call) {
			frames = frames[:0]
			for n, c := range calls {
				if n == len(calls)-1 {
					c.Name = cmp.Or(outer[i], c.Name)
				}
				if c.Name == "" { // half a truth: the symbols know better
					return
				}
				f := r.frame(c.Name, false, isGo)
				f.File, f.Line = printable(c.File), max(c.Line, 0)
				frames = append(frames, f)
			}
			if len(frames) > 0 {
				outer[i] = ""
				found(i, func(id profile.AddressID) { r.set(id, frames...) })
			}
		})
		for i, name := range outer {
			if name != "" {
				f := r.frame(name, false, false)
				found(i, func(id profile.AddressID) { r.set(id, f) })
			}
		}
		return cmp.Or(err, failed)
	})
}

// each lets find look for the addresses of the lookups, each once, and returns
// the lookups of those that it did not find.
func (r *run) each(lookups []lookup, find func(addrs []profile.ObjAddr, found func(i int, of func(profile.AddressID))) error) ([]lookup, error) {
	addrs := make([]profile.ObjAddr, 0, len(lookups))
	first := make([]int32, 0, len(lookups)+1) // index of the first lookup of each address
	for i, l := range lookups {
		if i == 0 || l.addr != lookups[i-1].addr {
			addrs, first = append(addrs, l.addr), append(first, int32(i))
		}
	}
	first = append(first, int32(len(lookups)))
	named := make([]bool, len(addrs))
	err := find(addrs, func(i int, of func(profile.AddressID)) {
		named[i] = true
		for _, l := range lookups[first[i]:first[i+1]] {
			of(l.id)
		}
	})
	var rest []lookup
	for i, ok := range named {
		if !ok {
			rest = append(rest, lookups[first[i]:first[i+1]]...)
		}
	}
	return rest, err
}

// frame returns the frame of a name. Names come again, in this call and the
// next: they are demangled and kept once.
func (r *run) frame(name string, kernel, isGo bool) profile.Frame {
	k := frameKey{name: name, goes: isGo}
	if kernel {
		k.kind = profile.FrameKernel
	}
	f, ok := r.resolver.frames[k]
	if !ok {
		f = profile.Frame{SystemName: printable(name), Kind: k.kind}
		f.Name = f.SystemName
		if isGo {
			f.Name = profile.ShortGoName(f.SystemName)
		} else if r.resolver.demangling < maxDemangling {
			begin := time.Now()
			f.Name = Demangle(name)
			r.resolver.demangling += time.Since(begin)
		}
		r.resolver.frames[k] = f
	}
	return f
}

// set gives an address its frames, innermost first.
func (r *run) set(id profile.AddressID, fs ...profile.Frame) {
	n := len(fs)
	if len(r.block) < n {
		r.block = make([]profile.Frame, max(n, 256))
	}
	frames := r.block[:n:n]
	r.block = r.block[n:]
	copy(frames, fs)
	r.p.Addresses[id].Frames = frames
}
