// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/carverauto/serviceradar-profiler/bpf"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// ErrNoRoom says that the kernel's maps for unwind tables or mappings are full.
// Code without a table is walked by frame pointer.
var ErrNoRoom = errors.New("no room for more unwind tables")

// walkObjects is what walking by tables needs besides the tables.
type walkObjects struct {
	Walk   *ebpf.Program `ebpf:"walk"`
	Caches *ebpf.Map     `ebpf:"caches"`
}

func (w *walkObjects) Close() error {
	return errors.Join(w.Walk.Close(), w.Caches.Close()) // to close nil is no error
}

// tabled is what a sampler has of a TableStore. It is guarded by
// BPF.loading.
type tabled struct {
	set     *tableSet  // nil until it joined
	maps    *tableMaps // those that the walk is loaded with
	least   int32      // the number of the maps that it must see
	begun   bool       // it is no spare any more
	opened  bool       // the walk has taken over
	used    map[unwind.Key]bool
	planned map[unwind.Key]bool // and not there yet
}

// PrepareTables loads the walk by unwind tables, with room for so many rows and
// bytes of code in all, for OpenTables to use if that is enough. Called again it
// loads one that sees the tables that there are now; once the sampler is used,
// or closed, it does nothing.
//
// Where the kernel lets no program read memory, the error is
// errors.ErrUnsupported.
func (s *BPF) PrepareTables(rows, code int) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	switch {
	case s.program.locked:
		return errLocked
	case s.tabled.begun:
		return nil
	}
	s.join()
	err := s.tabled.set.atLeast(rows, code)
	if err == nil {
		err = s.load()
	}
	if err != nil {
		s.leave()
	}
	return err
}

var errLocked = fmt.Errorf("walk by unwind tables in a kernel locked down for confidentiality: %w", errors.ErrUnsupported)

// Current says whether the walk that is prepared sees all tables that there
// are. If not, it has to be loaded again when it is used.
func (s *BPF) Current() bool {
	s.loading.Lock()
	defer s.loading.Unlock()
	t := &s.tabled
	return t.set == nil || s.options.Tables.newest(t.set, t.maps)
}

// begin is called by all that uses tables. loading is held.
func (s *BPF) begin() {
	t := &s.tabled
	if t.begun {
		return
	}
	t.begun, t.used, t.planned = true, map[unwind.Key]bool{}, map[unwind.Key]bool{}
	s.join()
}

// join joins the tables of now, and leaves those of before if they are others.
// loading is held.
func (s *BPF) join() {
	t := &s.tabled
	switch set := s.options.Tables.join(); {
	case t.set == nil:
		t.set = set
	case s.options.Tables == nil || t.set == set: // it has its own, or these already
		set.leave()
	default:
		s.leave()
		t.set = set
	}
}

// leave lets go of the tables. loading is held.
func (s *BPF) leave() {
	t := &s.tabled
	if t.set != nil {
		t.set.unuse(t.used, t.planned)
		t.set.leave()
	}
	if t.maps != nil {
		t.maps.release()
	}
	t.set, t.maps = nil, nil
}

// UseTables finds the tables of an object that are in the kernel already.
func (s *BPF) UseTables(key unwind.Key) (ids []TableID, ok bool, err error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.program.locked {
		return nil, false, nil
	}
	s.begin()
	k := s.tabled.set.use(key, s.tabled.used[key])
	if k == nil {
		return nil, false, nil
	}
	if err := s.see(key, k); err != nil {
		return nil, true, err
	}
	return k.ids, true, nil
}

// OpenTables lets the walk by unwind tables take over from the kernel's walk,
// loading it unless one is prepared that will do. Of mappings it knows nothing
// yet, so at first it goes by frame pointer. What tables are going to be added
// it wants to know beforehand, to make room for all at once. It may be called
// while sampling goes on. Errors are PrepareTables'.
func (s *BPF) OpenTables(needs ...TableNeed) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.program.locked {
		return errLocked
	}
	s.begin()
	t := &s.tabled
	fresh, err := t.set.plan(needs)
	for _, key := range fresh {
		t.planned[key] = true
	}
	if err != nil {
		return err
	}
	if t.maps == nil || t.maps.number < t.least || len(needs) > 0 && !t.maps.newestOf(t.set) {
		if err := s.load(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.spaces = newSpaces(s.objs.Spaces)
	s.mu.Unlock()
	t.opened = true
	return s.takeOver(&s.walk)
}

// AddTables puts the unwind tables of an object's segments into the kernel,
// for the mappings of any target. The error is ErrNoRoom when the maps are full.
// OpenTables must have succeeded.
func (s *BPF) AddTables(key unwind.Key, all []unwind.Draft) ([]TableID, error) {
	s.loading.Lock()
	defer s.loading.Unlock()
	k, err := s.tabled.set.add(key, all, s.tabled.used[key])
	if err != nil {
		return nil, err
	}
	delete(s.tabled.planned, key)
	if err := s.see(key, k); err != nil {
		return nil, err
	}
	return k.ids, nil
}

// see notes that tables are used, and makes sure that the walk sees them. Which
// maps a program uses is decided when it is loaded, so for newer ones there is
// another program. Nothing moves, so what the kernel knows of mappings stays
// true. loading is held.
func (s *BPF) see(key unwind.Key, k *keptTables) error {
	t := &s.tabled
	t.used[key] = true
	t.least = max(t.least, k.maps)
	if !t.opened || t.maps.number >= t.least {
		return nil
	}
	return s.load()
}

// load loads the walk with the newest maps. If it was there before, the new one
// takes over. loading is held.
func (s *BPF) load() error {
	m := s.tabled.set.take()
	w, err := s.loadWalk(m)
	if err != nil {
		m.release()
		return err
	}
	if s.tabled.opened {
		if err := s.takeOver(&w); err != nil {
			m.release()
			return errors.Join(err, w.Close())
		}
	}
	old, oldMaps := s.walk, s.tabled.maps
	s.walk, s.tabled.maps = w, m
	if oldMaps != nil {
		oldMaps.release()
	}
	return old.Close()
}

// loadWalk loads the walk with maps for tables.
func (s *BPF) loadWalk(m *tableMaps) (walkObjects, error) {
	var w walkObjects
	spec, err := s.spec(s.program)
	if err != nil {
		return w, err
	}
	spec.Maps[bpf.SampleMapRows].MaxEntries = m.rows.MaxEntries()
	spec.Maps[bpf.SampleMapPages].MaxEntries = m.pages.MaxEntries()
	o := &s.objs
	shared := map[string]*ebpf.Map{
		bpf.SampleMapRows: m.rows, bpf.SampleMapPages: m.pages,
		bpf.SampleMapCpus: o.Cpus, bpf.SampleMapWalks: o.Walks, bpf.SampleMapRegions: o.Regions,
		bpf.SampleMapCounts0: o.Counts0, bpf.SampleMapCounts1: o.Counts1,
		bpf.SampleMapStacks0: o.Stacks0, bpf.SampleMapStacks1: o.Stacks1,
		bpf.SampleMapSpaces: o.Spaces, bpf.SampleMapPrograms: o.Programs,
	}
	if s.walk.Caches != nil {
		shared[bpf.SampleMapCaches] = s.walk.Caches
	}
	if err := spec.LoadAndAssign(&w, &ebpf.CollectionOptions{MapReplacements: shared}); err != nil {
		return walkObjects{}, loadError(err, nil)
	}
	return w, nil
}

// takeOver makes the program the one that walks, from the next sample on (and
// in the middle of one that is being walked: all it needs is in shared maps).
func (s *BPF) takeOver(w *walkObjects) error {
	if err := s.objs.Programs.Put(uint32(0), uint32(w.Walk.FD())); err != nil {
		return fmt.Errorf("let the walk take over: %w", err)
	}
	return nil
}
