// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"

	"github.com/carverauto/serviceradar-profiler/bpf"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// ErrNoRoom says that the kernel's maps for unwind tables or mappings are full.
// Code without a table is walked by frame pointer.
var ErrNoRoom = errors.New("no room for more unwind tables")

// walkObjects is what walking by tables needs besides.
type walkObjects struct {
	Walk   *ebpf.Program `ebpf:"walk"`
	Rows   *ebpf.Map     `ebpf:"rows"`
	Pages  *ebpf.Map     `ebpf:"pages"`
	Caches *ebpf.Map     `ebpf:"caches"`
}

func (w *walkObjects) Close() error {
	var errs []error
	for _, c := range []io.Closer{w.Walk, w.Rows, w.Pages, w.Caches} {
		errs = append(errs, c.Close()) // to close nil is no error
	}
	return errors.Join(errs...)
}

// PrepareTables loads the walk by unwind tables, with room for so many rows and
// bytes of code, for OpenTables to use if that is enough.
//
// Where the kernel lets no program read memory, the error is
// errors.ErrUnsupported.
func (s *BPF) PrepareTables(rows, code int) error {
	if s.program.locked {
		return fmt.Errorf("walk by unwind tables in a kernel locked down for confidentiality: %w", errors.ErrUnsupported)
	}
	w, err := s.loadWalk(roomFor(rows, code))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.walk = w
	return nil
}

// roomFor is how many elements of the maps so much takes.
func roomFor(rows, code int) (chunks, blocks uint32) {
	// A chunk keeps a free end where the next page's rows do not fit.
	return uint32(min(maxChunks, rows/(chunkRows-64)+2)), uint32(code/pageSize/blockPages + 2)
}

// OpenTables lets the walk by unwind tables take over from the kernel's walk,
// loading it unless one is prepared with room for so many rows and bytes of
// code. Of mappings it knows nothing yet, so at first it goes by frame pointer.
// It may be called while sampling goes on. Errors are PrepareTables'.
func (s *BPF) OpenTables(rows, code int) error {
	chunks, blocks := roomFor(rows, code)
	if w := &s.walk; w.Walk == nil || chunks > w.Rows.MaxEntries() || blocks > w.Pages.MaxEntries() {
		small := s.walk
		if err := s.PrepareTables(rows, code); err != nil {
			return err
		}
		if err := small.Close(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables = &tables{rows: s.walk.Rows, pages: s.walk.Pages}
	s.spaces = newSpaces(s.objs.Spaces)
	return s.takeOver(&s.walk)
}

// loadWalk loads the walk with maps for tables of a size of their own.
func (s *BPF) loadWalk(chunks, blocks uint32) (walkObjects, error) {
	var w walkObjects
	spec, err := s.spec(s.program)
	if err != nil {
		return w, err
	}
	spec.Maps[bpf.SampleMapRows].MaxEntries = chunks
	spec.Maps[bpf.SampleMapPages].MaxEntries = blocks
	o := &s.objs
	shared := map[string]*ebpf.Map{
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

// AddTable puts the unwind table of an object's segment into the kernel, for
// the mappings of any target. The error is ErrNoRoom when the maps are full.
// OpenTables must have succeeded.
func (s *BPF) AddTable(t *unwind.Table) (TableID, error) {
	s.tables.mu.Lock()
	defer s.tables.mu.Unlock()
	chunks, blocks := s.tables.need(t)
	if chunks > s.tables.rows.MaxEntries() || blocks > s.tables.pages.MaxEntries() {
		if err := s.grow(chunks, blocks); err != nil {
			return TableID{}, err
		}
	}
	return s.tables.add(t)
}

// grow replaces the maps by bigger ones. A map cannot grow, and which maps a
// program uses is decided when it is loaded: so there is another program, which
// takes over when its maps hold the same. Nothing moves, so what the kernel
// knows of mappings stays true.
func (s *BPF) grow(chunks, blocks uint32) error {
	t := s.tables
	if chunks > maxChunks {
		return ErrNoRoom
	}
	// Half as much again as is there, so that it does not happen with every
	// library.
	w, err := s.loadWalk(min(maxChunks, chunks+t.rows.MaxEntries()/2), blocks+t.pages.MaxEntries()/2)
	if err != nil {
		return fmt.Errorf("make room for unwind tables: %w", err)
	}
	if err = t.copyTo(w.Rows, w.Pages); err == nil {
		err = s.takeOver(&w)
	}
	if err != nil {
		return errors.Join(err, w.Close())
	}
	s.mu.Lock()
	old := s.walk
	s.walk = w
	s.mu.Unlock()
	t.rows, t.pages = w.Rows, w.Pages
	return old.Close()
}
