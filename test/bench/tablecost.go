// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// tableCost measures how long it takes to compile the unwind tables of objects
// of different sizes, and to put them into the kernel.
func (b *bench) tableCost() error {
	out := table{title: "Making unwind tables", columns: []string{"object", "rows", "compiled in", "a row", "allocated", "kept", "put into the kernel in", "a row"}}
	n := b.rounds(2, 9)
	for _, pattern := range []string{"/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "/usr/bin/node", "/usr/lib/gcc/x86_64-linux-gnu/*/cc1", "/usr/lib/x86_64-linux-gnu/libLLVM-14.so.1"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		if len(paths) == 0 { // this machine's may be elsewhere
			out.row(filepath.Base(pattern), missing, missing, missing, missing, missing, missing, missing)
			continue
		}
		path := paths[len(paths)-1]
		var compile, fill []float64
		var c tableRun
		for range n {
			if c, err = makeTables(path); err != nil {
				return err
			}
			compile, fill = append(compile, float64(c.compile)), append(fill, float64(c.fill))
		}
		rows, made, put := float64(c.rows), slices.Min(compile), slices.Min(fill)
		const mib = 1 << 20
		out.row(filepath.Base(path), number(rows, 0, ""), number(made/1e6, 1, " ms"), number(made/rows, 0, " ns"),
			number(float64(c.allocated)/mib, 1, " MB"), number(float64(c.kept)/mib, 1, " MB"), number(put/1e6, 2, " ms"), number(put/rows, 1, " ns"))
	}
	out.note("The fastest of %d, in this process, on one CPU. Allocated: all memory that compiling asked for; kept: what the tables hold. Into the kernel: maps of the right size are there.", n)
	out.print()
	return nil
}

// tableRun is one making of an object's tables.
type tableRun struct {
	rows, code      int
	compile, fill   time.Duration
	allocated, kept uint64 // bytes
}

func makeTables(path string) (r tableRun, err error) {
	f, err := os.Open(path)
	if err != nil {
		return r, err
	}
	o, err := object.Open(f)
	if err != nil {
		return r, err
	}
	defer o.Close()
	var before, after, settled runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begun := time.Now()
	tables, stats, err := unwind.Build(o)
	r.compile = time.Since(begun)
	if err != nil {
		return r, err
	}
	runtime.ReadMemStats(&after)
	runtime.GC()
	runtime.ReadMemStats(&settled)
	r.allocated = after.TotalAlloc - before.TotalAlloc
	r.kept = settled.HeapAlloc - min(settled.HeapAlloc, before.HeapAlloc)
	r.rows = stats.Rows
	for i := range tables {
		r.code += int(tables[i].Limit - tables[i].Base)
	}
	r.fill, err = fillKernel(unwind.KeyOf(o, process.FileID{}), tables, r.rows, r.code)
	return r, err
}

func fillKernel(key unwind.Key, tables []unwind.Table, rows, code int) (took time.Duration, err error) {
	s, err := sampler.OpenBPF(sampler.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	const spare = 1 << 20
	if err := s.OpenTables(sampler.TableNeed{Key: key, Rows: rows + rows/4 + spare/8, Code: code + spare}); err != nil {
		return 0, err
	}
	begun := time.Now()
	if _, err := s.AddTables(key, unwind.Drafts(tables)); err != nil {
		return 0, err
	}
	return time.Since(begun), nil
}
