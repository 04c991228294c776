// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/object"
)

// Debug is what is known of an object outside of it.
type Debug struct {
	// Calls is its debug information, wherever that is; nil without any.
	Calls CallSource
	// File is its debug file, for the symbols in it; nil without one.
	File *object.File
}

// tables are the sources of one object, best first. They are opened one after
// the other when those before have left addresses without a name.
type tables struct {
	opened   []table
	unopened []func(*tables)
	err      error // what is wrong with one that is there but cannot be used
	absent   error // why there is no debug file
	unnamed  error // why addresses have no name; nil: what they are the tables of says it
}

// table is one source, or calls and symbols that know of the same functions.
type table struct {
	symbols Source
	calls   CallSource
}

// at returns the i-th source.
func (t *tables) at(i int) (table, bool) {
	for i >= len(t.opened) && len(t.unopened) > 0 {
		open := t.unopened[0]
		t.unopened = t.unopened[1:]
		open(t)
	}
	if i >= len(t.opened) {
		return table{}, false
	}
	return t.opened[i], true
}

func (t *tables) add(s Source) { t.opened = append(t.opened, table{symbols: s}) }

// failed notes what is wrong with a source; the first is what is told.
func (t *tables) failed(err error) {
	if t.err == nil {
		t.err = err
	}
}

// why says why nothing has a name for an address.
func (t *tables) why() error {
	switch {
	case t.err != nil:
		return t.err
	case t.unnamed != nil:
		return t.unnamed
	case len(t.opened) == 0:
		return with(ErrNoTable, t.absent)
	}
	return with(ErrNoSymbol, t.absent)
}

// with adds what would have helped. What kind of error that is does not matter.
func with(err, absent error) error {
	if absent == nil {
		return err
	}
	return fmt.Errorf("%w; %v", err, absent)
}

// tablesOf lists what names the functions of an object. Go's own table is
// complete for Go's functions. Debug information comes next, since it knows of
// inlined calls; then the tables with local functions before the table without.
func (r *Resolver) tablesOf(f *object.File) *tables {
	t := &tables{}
	t.unopened = []func(*tables){
		func(t *tables) {
			s, err := openPclntab(f)
			switch {
			case s != nil && s.layout == nil: // names only: debug information knows more
				t.unopened = slices.Insert(t.unopened, 1, func(t *tables) { t.opened = append(t.opened, table{calls: s}) })
			case s != nil:
				t.opened = append(t.opened, table{calls: s})
			}
			t.failed(err)
		},
		func(t *tables) { r.addDebug(t, f) },
		func(t *tables) { r.addMini(t, f) },
		func(t *tables) { t.addELF(f, ".dynsym") },
		func(t *tables) {
			if s := openPLT(f); s != nil {
				t.add(s)
			}
		},
	}
	return t
}

// tablesOfCode are those of code that a process made at run time.
func tablesOfCode(code *RunTimeCode) *tables {
	t := &tables{unnamed: code.Err}
	for _, s := range code.Sources {
		t.add(s)
	}
	return t
}

func (t *tables) addELF(f *object.File, name string) {
	if s := openELF(f, name); s != nil {
		t.add(s)
	}
}

// addDebug opens the object's own symbols, and asks for what is known elsewhere.
func (r *Resolver) addDebug(t *tables, f *object.File) {
	var of Debug
	if r.Debug != nil {
		of, t.absent = r.Debug(f)
	}
	var symbols []Source
	for _, f := range []*object.File{f, of.File} {
		if f == nil {
			continue
		}
		if s := openELF(f, ".symtab"); s != nil {
			symbols = append(symbols, s)
		}
	}
	if of.Calls != nil {
		both := table{calls: of.Calls}
		if len(symbols) > 0 {
			both.symbols, symbols = symbols[0], symbols[1:]
		}
		t.opened = append(t.opened, both)
	}
	for _, s := range symbols {
		t.add(s)
	}
}

// maxUnpacked bounds what is decompressed of all objects together, in bytes: it
// takes a second for 20 MB, and the objects are a stranger's.
const maxUnpacked = 64 << 20

// addMini adds mini debug information, a symbol table that lies in the object
// compressed. It is not worth its time while sampling goes on, so it belongs to
// what Debug is for. In memory it would be as large as it is decompressed, so
// the tables of the object that have it are forgotten with the call.
func (r *Resolver) addMini(t *tables, f *object.File) {
	if r.Debug == nil || f.Section(".gnu_debugdata") == nil {
		return
	}
	if r.unpacked > maxUnpacked-object.MaxMiniDebug {
		t.failed(errors.New("too much mini debug information (.gnu_debugdata) in all objects"))
		return
	}
	mini, err := f.MiniDebug()
	if err != nil {
		r.unpacked += object.MaxMiniDebug // it may have taken as long
		t.failed(err)
	}
	if mini != nil {
		r.unpacked += mini.Size()
		t.addELF(mini, ".symtab")
		delete(r.objects, f)
	}
}

// maxReading bounds the time for the debug information of all objects together:
// that of one is bounded by its reader, but there may be hundreds. Real targets
// take a tenth of a second.
const maxReading = 20 * time.Second

// askTable asks one source.
func (r *run) askTable(t table, lookups []lookup, kernel bool) ([]lookup, error) {
	_, isDebugInfo := t.calls.(*debugInfo)
	switch {
	case t.calls == nil:
		return r.ask(t.symbols, lookups, kernel)
	case isDebugInfo && r.resolver.reading > maxReading && t.symbols == nil:
		return lookups, errReading
	case isDebugInfo && r.resolver.reading > maxReading:
		return r.ask(t.symbols, lookups, kernel)
	case isDebugInfo:
		defer func(begin time.Time) { r.resolver.reading += time.Since(begin) }(time.Now())
	}
	return r.askCalls(t.calls, t.symbols, lookups)
}

var errReading = fmt.Errorf("debug information took more than %v in all objects", maxReading)
