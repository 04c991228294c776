// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/carverauto/serviceradar-profiler/bpf"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// ErrNoRoom says that the kernel's maps for unwind tables are full. Code
// without a table is walked by frame pointer.
var ErrNoRoom = errors.New("no room for more unwind tables")

const (
	chunkRows     = 512  // CHUNK_ROWS of abi.h
	pageSize      = 1024 // 1 << PAGE_SHIFT
	blockPages    = 1024 // PAGES_IN_BLOCK
	spaceMappings = 512  // SPACE_MAPPINGS
	maxPageRows   = 511  // what the page index has bits for
)

// TableID is a table in the kernel.
type TableID struct {
	page, pages uint32
	base        profile.ObjAddr
}

// OpenTables loads the walk by unwind tables, with room for so many rows and
// bytes of code, and lets it take over from the kernel's walk. Of mappings it
// knows nothing yet, so at first it goes by frame pointer. It may be called
// while sampling goes on.
//
// Where the kernel lets no program read memory, the error is
// errors.ErrUnsupported.
func (s *Sampler) OpenTables(rows, code int) error {
	if s.program.locked {
		return fmt.Errorf("walk by unwind tables in a kernel locked down for confidentiality: %w", errors.ErrUnsupported)
	}
	spec, err := s.spec(s.program)
	if err != nil {
		return err
	}
	// A chunk keeps a free end where the next page's rows do not fit.
	spec.Maps[bpf.SampleMapRows].MaxEntries = uint32(min(1<<14, rows/(chunkRows-64)+2))
	spec.Maps[bpf.SampleMapPages].MaxEntries = uint32(code/pageSize/blockPages + 2)
	o := &s.objs
	shared := map[string]*ebpf.Map{
		bpf.SampleMapCpus: o.Cpus, bpf.SampleMapWalks: o.Walks, bpf.SampleMapRegions: o.Regions,
		bpf.SampleMapCounts0: o.Counts0, bpf.SampleMapCounts1: o.Counts1,
		bpf.SampleMapStacks0: o.Stacks0, bpf.SampleMapStacks1: o.Stacks1,
		bpf.SampleMapSpaces: o.Spaces, bpf.SampleMapPrograms: o.Programs,
	}
	var w walkObjects
	if err := spec.LoadAndAssign(&w, &ebpf.CollectionOptions{MapReplacements: shared}); err != nil {
		return loadError(err, nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.walk = w
	s.tables = &tables{rows: w.Rows, pages: w.Pages, spaces: o.Spaces}
	for i := range uint32(2 * s.options.Targets) {
		s.tables.free = append(s.tables.free, i+1)
	}
	if err := o.Programs.Put(uint32(0), uint32(w.Walk.FD())); err != nil {
		return fmt.Errorf("let the walk take over: %w", err)
	}
	return nil
}

// AddTable puts the unwind table of an object's segment into the kernel, for
// the mappings of any target. The error is ErrNoRoom when the maps are full.
// OpenTables must have succeeded.
func (s *Sampler) AddTable(t *unwind.Table) (TableID, error) { return s.tables.add(t) }

// SetMappings tells the kernel what a target has mapped. The error is
// ErrNoRoom when there are more targets than can be described at once.
// OpenTables must have succeeded.
func (s *Sampler) SetMappings(pid int, ms []Mapping) error {
	space, err := s.tables.describe(ms)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.targets[pid]
	if !ok {
		s.tables.release(space)
		return nil // removed meanwhile
	}
	if err := s.objs.Targets.Put(uint32(pid), space); err != nil {
		return fmt.Errorf("describe the mappings of process %d: %w", pid, err)
	}
	s.targets[pid] = space
	s.tables.release(old)
	return nil
}

// tables feeds unwind tables to the kernel.
//
// A table is cut into pages of 1 KiB of code. The rows of a page lie in one
// chunk, beginning with the row that is in force where the page begins (a
// copy of the last one before it), so that the kernel finds the page by
// dividing and the row by a search of at most nine steps. Chunks are 4 KiB
// elements of an array: filling one is one system call for 512 rows.
type tables struct {
	mu     sync.Mutex
	rows   *ebpf.Map
	pages  *ebpf.Map
	spaces *ebpf.Map

	chunks, blocks uint32 // used; the last of each may have room
	chunk          bpf.SampleChunk
	inChunk        int
	block          bpf.SampleBlock
	inBlock        int
	page           []unwind.Row // scratch
	generation     uint64
	free           []uint32 // spaces not in use
}

// add puts a table into the kernel.
func (t *tables) add(u *unwind.Table) (TableID, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	size := uint64(u.Limit - u.Base)
	id := TableID{base: u.Base, page: t.blocks*blockPages + uint32(t.inBlock), pages: uint32((size + pageSize - 1) / pageSize)}
	if uint64(id.page)+uint64(id.pages) > uint64(t.pages.MaxEntries())*blockPages {
		return TableID{}, ErrNoRoom
	}
	row := 0
	for p := range id.pages {
		start := p * pageSize
		for row < len(u.Rows) && u.Rows[row].Addr <= start {
			row++
		}
		end := row
		for end < len(u.Rows) && u.Rows[end].Addr < start+pageSize {
			end++
		}
		t.page = append(t.page[:0], inForce(u, row, start))
		t.page = append(t.page, u.Rows[row:end]...)
		if len(t.page) > maxPageRows { // never seen; what is cut off must not borrow a rule
			t.page = t.page[:maxPageRows]
			t.page[maxPageRows-1].Rule = unwind.Rule(unwind.OpInvalid)
		}
		where, err := t.place(t.page)
		if err != nil {
			return TableID{}, err
		}
		if err := t.index(where); err != nil {
			return TableID{}, err
		}
		row = end
	}
	return id, t.flush()
}

// inForce is the row that holds at start, which is before row.
func inForce(u *unwind.Table, row int, start uint32) unwind.Row {
	if row == 0 {
		return unwind.Row{Addr: start, Rule: unwind.Rule(unwind.OpNone)}
	}
	return u.Rows[row-1]
}

// place stores a page's rows in one chunk and returns what the page index says
// of them: chunk:14 first:9 count:9.
func (t *tables) place(rows []unwind.Row) (uint32, error) {
	if t.inChunk+len(rows) > chunkRows {
		if err := t.flushChunk(); err != nil {
			return 0, err
		}
		t.chunks++
		t.inChunk = 0
		clear(t.chunk.Rows[:])
	}
	if t.chunks >= t.rows.MaxEntries() {
		return 0, ErrNoRoom
	}
	where := t.chunks<<18 | uint32(t.inChunk)<<9 | uint32(len(rows))
	for i, r := range rows {
		t.chunk.Rows[t.inChunk+i] = bpf.SampleRow{Addr: r.Addr, Rule: uint32(r.Rule)}
	}
	t.inChunk += len(rows)
	return where, nil
}

func (t *tables) index(where uint32) error {
	t.block.Page[t.inBlock] = where
	if t.inBlock++; t.inBlock < blockPages {
		return nil
	}
	if err := t.flushBlock(); err != nil {
		return err
	}
	t.blocks++
	t.inBlock = 0
	return nil
}

// flush writes the last chunk and block, which are not full yet.
func (t *tables) flush() error { return errors.Join(t.flushChunk(), t.flushBlock()) }

func (t *tables) flushChunk() error {
	if t.inChunk == 0 || t.chunks >= t.rows.MaxEntries() {
		return nil
	}
	if err := t.rows.Put(t.chunks, &t.chunk); err != nil {
		return fmt.Errorf("fill unwind rows: %w", err)
	}
	return nil
}

func (t *tables) flushBlock() error {
	if t.inBlock == 0 || t.blocks >= t.pages.MaxEntries() {
		return nil
	}
	if err := t.pages.Put(t.blocks, &t.block); err != nil {
		return fmt.Errorf("fill unwind pages: %w", err)
	}
	return nil
}

// Mapping is an executable mapping of a target. Without a table it is walked
// by frame pointer.
type Mapping struct {
	Start, Limit profile.Addr
	Bias         profile.Addr // Addr − ObjAddr
	Table        *TableID     // nil: none
}

// describe writes the mappings of a target to a space that is not in use and
// returns it. The caller lets the target point to it, and only then gives back
// the old one: so the kernel never sees a space that is being written.
func (t *tables) describe(ms []Mapping) (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.free) == 0 {
		return 0, ErrNoRoom
	}
	space := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	t.generation++
	v := bpf.SampleSpace{Generation: t.generation}
	// The kernel side compares signed; in the upper half is only [vsyscall].
	ms = slices.DeleteFunc(ms, func(m Mapping) bool { return m.Limit > 1<<63 })
	slices.SortFunc(ms, func(a, b Mapping) int { return cmp.Compare(a.Start, b.Start) })
	for i, m := range ms[:min(len(ms), spaceMappings)] {
		to := &v.Mappings[i]
		to.Start, to.Limit = uint64(m.Start), uint64(m.Limit)
		if m.Table != nil {
			to.Bias = uint64(m.Bias) + uint64(m.Table.base)
			to.Page, to.Pages = m.Table.page, m.Table.pages
		}
		v.Count++
	}
	if err := t.spaces.Put(space, &v); err != nil {
		t.free = append(t.free, space)
		return 0, fmt.Errorf("describe mappings to the kernel: %w", err)
	}
	return space, nil
}

// release gives a space back. Space 0 is never in use: it stays empty.
func (t *tables) release(space uint32) {
	if space == 0 {
		return
	}
	t.mu.Lock()
	t.free = append(t.free, space)
	t.mu.Unlock()
}
