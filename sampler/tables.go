// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/carverauto/serviceradar-profiler/bpf"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

const (
	chunkRows   = 512 // CHUNK_ROWS of abi.h
	rowBytes    = 8
	pageSize    = 1024 // 1 << PAGE_SHIFT
	blockPages  = 1024 // PAGES_IN_BLOCK
	maxPageRows = 511  // what the page index has bits for
	maxChunks   = 1 << 14
)

// TableID is a table in the kernel, of the code in [Base, Limit).
type TableID struct {
	Base, Limit profile.ObjAddr
	page, pages uint32
}

// tables feeds unwind tables to the kernel.
//
// A table is cut into pages of 1 KiB of code. The rows of a page lie in one
// chunk, beginning with the row that is in force where the page begins (a
// copy of the last one before it), so that the kernel finds the page by
// dividing and the row by a search of at most nine steps. Chunks are 4 KiB
// elements of an array: filling one is one system call for 512 rows.
type tables struct {
	rows  *ebpf.Map
	pages *ebpf.Map

	chunks, blocks uint32 // used; the last of each may have room
	chunk          bpf.SampleChunk
	inChunk        int
	block          bpf.SampleBlock
	inBlock        int
	page           []unwind.Row // scratch
}

// need is how many chunks and blocks there must be for other tables.
func (t *tables) need(all []unwind.Draft) (chunks, blocks uint32) {
	chunks, inChunk := t.chunks, t.inChunk
	pages := t.blocks*blockPages + uint32(t.inBlock)
	for i := range all {
		pages += pagesOf(&all[i])
		_ = t.each(&all[i], func(rows []unwind.Row) error { // which only counts
			if inChunk+len(rows) > chunkRows {
				chunks, inChunk = chunks+1, 0
			}
			inChunk += len(rows)
			return nil
		})
	}
	return chunks + 1, pages/blockPages + 1
}

// roomFor is how many there must be for so many rows and bytes of code more.
func (t *tables) roomFor(rows, code int) (chunks, blocks uint32) {
	// A chunk keeps a free end where the next page's rows do not fit.
	return min(maxChunks, t.chunks+uint32(min(maxChunks, rows/(chunkRows-64)+2))), t.blocks + uint32(code/pageSize/blockPages+2)
}

// bytes is how much is used.
func (t *tables) bytes() int64 {
	return int64(t.chunks)*chunkRows*rowBytes + int64(t.inChunk)*rowBytes + (int64(t.blocks)*blockPages+int64(t.inBlock))*4
}

func pagesOf(u *unwind.Draft) uint32 {
	return uint32((uint64(u.Limit-u.Base) + pageSize - 1) / pageSize)
}

// add puts a table into the kernel, where there is room for it.
func (t *tables) add(u *unwind.Draft) (TableID, error) {
	id := TableID{Base: u.Base, Limit: u.Limit, page: t.blocks*blockPages + uint32(t.inBlock), pages: pagesOf(u)}
	err := t.each(u, func(rows []unwind.Row) error {
		where, err := t.place(rows)
		if err != nil {
			return err
		}
		return t.index(where)
	})
	if err != nil {
		return TableID{}, err
	}
	return id, t.flush()
}

// each calls place with the rows of each page, the one that is in force at its
// start first.
func (t *tables) each(u *unwind.Draft, place func(rows []unwind.Row) error) error {
	pages, limit := pagesOf(u), uint64(pageSize) // of the page
	t.page = append(t.page[:0], unwind.Row{Rule: unwind.Rule(unwind.OpNone)})
	done := func() error {
		last := t.page[len(t.page)-1]
		if len(t.page) > maxPageRows { // never seen; what is cut off must not borrow a rule
			t.page = t.page[:maxPageRows]
			t.page[maxPageRows-1].Rule = unwind.Rule(unwind.OpInvalid)
		}
		err := place(t.page)
		t.page = append(t.page[:0], last)
		limit += pageSize
		pages--
		return err
	}
	for r := range u.Rows() {
		for pages > 0 && uint64(r.Addr) >= limit {
			if err := done(); err != nil {
				return err
			}
		}
		if uint64(r.Addr)+pageSize <= limit { // it is what is in force at the start
			t.page = t.page[:0]
		}
		t.page = append(t.page, r)
	}
	for pages > 0 {
		if err := done(); err != nil {
			return err
		}
	}
	return nil
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
	clear(t.block.Page[:])
	return nil
}

// flush writes the last chunk and block, which are not full yet.
func (t *tables) flush() error { return errors.Join(t.flushChunk(), t.flushBlock()) }

func (t *tables) flushChunk() error {
	if t.inChunk == 0 {
		return nil
	}
	if err := t.rows.Put(t.chunks, &t.chunk); err != nil {
		return fmt.Errorf("fill unwind rows: %w", err)
	}
	return nil
}

func (t *tables) flushBlock() error {
	if t.inBlock == 0 {
		return nil
	}
	if err := t.pages.Put(t.blocks, &t.block); err != nil {
		return fmt.Errorf("fill unwind pages: %w", err)
	}
	return nil
}

// copyTo copies everything into bigger maps, to the same places.
func (t *tables) copyTo(rows, pages *ebpf.Map) error {
	var chunk bpf.SampleChunk
	for i := range t.chunks + 1 {
		if err := copyElement(t.rows, rows, i, &chunk); err != nil {
			return fmt.Errorf("copy unwind rows: %w", err)
		}
	}
	var block bpf.SampleBlock
	for i := range t.blocks + 1 {
		if err := copyElement(t.pages, pages, i, &block); err != nil {
			return fmt.Errorf("copy unwind pages: %w", err)
		}
	}
	return nil
}

// copyElement copies an element of an array, if there is one: the next to be
// filled may be beyond the end.
func copyElement(from, to *ebpf.Map, i uint32, v any) error {
	if i >= from.MaxEntries() {
		return nil
	}
	if err := from.Lookup(i, v); err != nil {
		return err
	}
	return to.Put(i, v)
}
