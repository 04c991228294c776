// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// Resolver symbolizes the addresses of profiles. One belongs to one session:
// it remembers the names it has seen, and what tables the objects have. It is
// not safe for concurrent use.
type Resolver struct {
	// Open gives the object behind a mapping; the same *object.File for mappings
	// of the same file, so that they share one pass. The resolver does not close
	// it, and uses it until its last call of Resolve. Nil means that no object
	// can be had.
	Open func(id profile.MappingID) (*object.File, error)
	// RunTime gives what names the code that a process made, for a mapping that
	// has no object: the same pointer for all mappings of one process, so that
	// they share one pass. Nil, or if it returns nil: nothing does.
	RunTime func(id profile.MappingID) *RunTimeCode
	// Debug gives what is known of an object outside of it, and with it or instead
	// an error that says why there is not more. It is called when the object itself
	// leaves an address without a name, once in a call of Resolve, and remembered
	// where it can be. Nil: only what lies in the object, uncompressed, has names.
	Debug func(f *object.File) (Debug, error)
	// Kallsyms opens the kernel's symbol list; nil means /proc/kallsyms.
	Kallsyms func() (io.ReadCloser, error)

	// Cache, if there is one, knows names of earlier sessions, of the files that
	// FileID identifies.
	Cache  *Cache
	FileID func(*object.File) process.FileID

	objects map[*object.File]*tables
	frames  map[frameKey]profile.Frame
	hidden  error // why it is no use to read the kernel's list again
	// demangling is the time spent on that so far. A real name takes some 10 µs,
	// one made for the purpose up to 0.1 s, so many of them would hold up the
	// session: after maxDemangling, names stay as they are in the table.
	demangling time.Duration
	unpacked   int64         // bytes of mini debug information so far
	reading    time.Duration // spent on debug information so far
}

const maxDemangling = 2 * time.Second

type frameKey struct {
	name string
	kind profile.FrameKind
	goes bool // a Go name: never mangled
}

// Problem says why addresses of an object have no name.
type Problem struct {
	Object    string // short name, as in Mapping.Object; "[unknown]" where there is none
	Addresses int    // how many have no name for this reason
	Err       error
	Remedy    string // what to do about it; "" if nothing is known

	ids     []profile.AddressID
	mapping profile.MappingID // of the first of them
}

// Resolve fills in Frames of the given addresses of p (nil: of all that have
// none yet), and BuildID of the mappings whose object it opened. Each address
// looked at has a frame afterwards: [profile.UnknownFrame] if there is no
// name, and then it is counted in one of the problems.
//
// It may be called again and again while the profile grows. Addresses with a
// name are never looked up twice; those found to have none only when they are
// asked for by ID. Each table is read at most once a call.
func (r *Resolver) Resolve(p *profile.Profile, ids []profile.AddressID) []Problem {
	run := &run{resolver: r, p: p, pending: pending(p, ids)}
	if len(run.pending) == 0 {
		return nil
	}
	if r.frames == nil {
		r.frames = map[frameKey]profile.Frame{}
		r.objects = map[*object.File]*tables{}
	}
	run.block = make([]profile.Frame, len(run.pending))
	for _, g := range run.group() {
		run.resolve(g)
	}
	return run.problems
}

// pending returns the addresses without a name, each once.
func pending(p *profile.Profile, ids []profile.AddressID) []profile.AddressID {
	var out []profile.AddressID
	if ids == nil {
		for i := range p.Addresses {
			if len(p.Addresses[i].Frames) == 0 {
				out = append(out, profile.AddressID(i))
			}
		}
		return out
	}
	for _, id := range ids {
		if int64(id) < int64(len(p.Addresses)) {
			if fs := p.Addresses[id].Frames; len(fs) == 0 || (len(fs) == 1 && fs[0].Unknown) {
				out = append(out, id)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// run is one call of Resolve.
type run struct {
	resolver *Resolver
	p        *profile.Profile
	pending  []profile.AddressID
	problems []Problem
	block    []profile.Frame // unused; one allocation for the frames of all addresses
	modules  map[string]profile.MappingID
}

// group is the addresses that are looked up together: those of one object, of
// the code that one process made, or of the kernel.
type group struct {
	behind
	lookups []lookup
}

// behind is what may be behind a mapping: an object, or the code that a process
// made. The kernel is neither.
type behind struct {
	file *object.File
	code *RunTimeCode
}

func (b behind) kernel() bool { return b == behind{} }

type lookup struct {
	addr profile.ObjAddr
	id   profile.AddressID
}

// opened is what is behind one mapping: a group, or an error.
type opened struct {
	group *group
	err   error
}

// group sorts the pending addresses by object. Those that have none get their
// unknown frame at once.
func (r *run) group() []*group {
	var groups []*group
	groupOf := map[behind]*group{}
	byMapping := map[profile.MappingID]opened{}
	for _, id := range r.pending {
		a := &r.p.Addresses[id]
		m := r.p.Mapping(a.Mapping)
		if m == nil {
			r.unknown(id, ErrNoMapping)
			continue
		}
		o, ok := byMapping[a.Mapping]
		if !ok {
			var of behind
			if of, o.err = r.open(a.Mapping, m); o.err == nil {
				if o.group = groupOf[of]; o.group == nil {
					o.group = &group{behind: of}
					groupOf[of] = o.group
					groups = append(groups, o.group)
				}
			}
			byMapping[a.Mapping] = o
		}
		if o.err != nil {
			r.unknown(id, o.err)
			continue
		}
		addr := profile.ObjAddr(a.Lookup())
		if o.group.file != nil {
			if addr, ok = objAddr(o.group.file, m, a); !ok {
				r.unknown(id, ErrNoMapping)
				continue
			}
		}
		o.group.lookups = append(o.group.lookups, lookup{addr, id})
	}
	return groups
}

// objAddr is where an address lies in its object. Where the profile knows it
// already, that counts: the file may be another one of the same build, a debug
// file for instance, whose headers do not tell.
func objAddr(f *object.File, m *profile.Mapping, a *profile.Address) (profile.ObjAddr, bool) {
	if a.ObjAddr != 0 {
		return a.ObjAddr, true
	}
	at, ok := f.ObjAddr(m, a.Lookup())
	a.ObjAddr = at
	return at, ok
}

// open returns what is behind a mapping.
func (r *run) open(id profile.MappingID, m *profile.Mapping) (behind, error) {
	switch m.Kind {
	case profile.MappingKernel:
		return behind{}, r.resolver.hidden
	case profile.MappingAnonymous:
		return r.runTime(id, ErrAnonymous)
	}
	if r.resolver.Open == nil {
		return behind{}, ErrNoTable
	}
	f, err := r.resolver.Open(id)
	if errors.Is(err, object.ErrFormat) {
		if strings.HasPrefix(m.Path, "/memfd:") { // memory with a name, as some compilers use to write and run it at two addresses
			m.Kind = profile.MappingAnonymous
		}
		return r.runTime(id, err)
	}
	if err != nil {
		return behind{}, err
	}
	if f == nil {
		return behind{}, ErrNoTable
	}
	m.BuildID = f.BuildID()
	return behind{file: f}, nil
}

// runTime returns what names code without an object; an error if nothing does.
func (r *run) runTime(id profile.MappingID, err error) (behind, error) {
	if r.resolver.RunTime == nil {
		return behind{}, err
	}
	code := r.resolver.RunTime(id)
	if code == nil {
		return behind{}, err
	}
	return behind{code: code}, nil
}

// resolve asks the sources of a group one after the other, each only for what
// the ones before did not know.
func (r *run) resolve(g *group) {
	slices.SortFunc(g.lookups, func(a, b lookup) int {
		return cmp.Or(cmp.Compare(a.addr, b.addr), cmp.Compare(a.id, b.id))
	})
	rest := g.lookups
	if c := r.resolver.Cache; c != nil && g.code == nil {
		id := r.cacheID(g)
		rest = c.get(id, rest, func(l lookup, frames []profile.Frame) { r.p.Addresses[l.id].Frames = frames })
		if asked := rest; len(asked) > 0 {
			defer func() { c.put(id, asked, r.lasting) }()
		}
	}
	t := r.tables(g)
	for i := 0; len(rest) > 0; i++ {
		s, ok := t.at(i)
		if !ok {
			break
		}
		var err error
		if rest, err = r.askTable(s, rest, g.kernel()); err != nil {
			t.failed(err)
		}
	}
	if len(rest) == 0 {
		return
	}
	why := t.why()
	if g.kernel() && errors.Is(why, ErrHidden) {
		r.resolver.hidden = why
	}
	for _, l := range rest {
		r.unknown(l.id, why)
	}
}

// cacheID is what the cache knows a group by. There is one kernel, and no file
// on a device of that number.
func (r *run) cacheID(g *group) process.FileID {
	if g.kernel() {
		return process.FileID{Device: math.MaxUint64}
	}
	return r.resolver.FileID(g.file)
}

// lasting are the frames of an address, if they are still true in another
// session: where a module or a BPF program is now there may be another one.
func (r *run) lasting(l lookup) []profile.Frame {
	a := &r.p.Addresses[l.id]
	if m := r.p.Mapping(a.Mapping); m != nil && m.Kind == profile.MappingKernel && m.Path != profile.KernelPath {
		return nil
	}
	return a.Frames
}

func (r *run) tables(g *group) *tables {
	if g.code != nil {
		return tablesOfCode(g.code)
	}
	if g.kernel() {
		open := r.resolver.Kallsyms
		if open == nil {
			open = openKallsyms
		}
		return &tables{opened: []table{{symbols: &kallsyms{open}}}}
	}
	t := r.resolver.objects[g.file]
	if t == nil {
		t = r.resolver.tablesOf(g.file)
		r.resolver.objects[g.file] = t
	}
	return t
}

func (r *run) unknown(id profile.AddressID, err error) {
	m := r.p.Mapping(r.p.Addresses[id].Mapping)
	r.set(id, profile.UnknownFrame(m))
	object := "[unknown]"
	if m != nil {
		object = m.Object()
	}
	for i := range r.problems {
		if p := &r.problems[i]; p.Object == object && (p.Err == err || p.Err.Error() == err.Error()) && r.sameBuild(p.mapping, m) {
			p.Addresses++
			p.ids = append(p.ids, id)
			return
		}
	}
	p := Problem{Object: object, Addresses: 1, Err: err, ids: []profile.AddressID{id}, mapping: r.p.Addresses[id].Mapping}
	if remedied := (*Remedied)(nil); errors.As(err, &remedied) {
		p.Remedy = remedied.Remedy
	}
	r.problems = append(r.problems, p)
}

// sameBuild says whether two mappings are of one object as far as is known.
func (r *run) sameBuild(id profile.MappingID, m *profile.Mapping) bool {
	a := r.p.Mapping(id)
	return a == m || a != nil && m != nil && a.BuildID == m.BuildID
}

// String is one line for people.
func (p Problem) String() string {
	line := fmt.Sprintf("%s: %d addresses have no name: %v", p.Object, p.Addresses, p.Err)
	switch p.Addresses {
	case 0:
		line = fmt.Sprintf("%s: %v", p.Object, p.Err)
	case 1:
		line = fmt.Sprintf("%s: 1 address has no name: %v", p.Object, p.Err)
	}
	if p.Remedy != "" {
		line += "; " + p.Remedy
	}
	return line
}
