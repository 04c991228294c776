// SPDX-License-Identifier: Apache-2.0

// Package symbol turns addresses into frames: it finds which function of which
// object (or of the kernel) each one lies in, and what people call it.
//
// A profile has some thousand addresses; the tables that name them have up to
// millions of entries. So nothing is loaded and indexed. The addresses are
// sorted, and each table is read once, front to back, in pieces of 64 KiB;
// only the chosen names are read after that. The price: a table is read again
// for each call of [Resolver.Resolve] that has new addresses in its object.
//
// Tables belong to the profiled programs, so they are hostile until checked:
// wrong ones give errors or no names, never a panic, in time proportional to
// the file's size and memory proportional to the number of addresses.
package symbol

import (
	"errors"
	"io"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Symbol is a named range of an object, as the object's own table has it.
type Symbol struct {
	Name         string // as in the table: mangled, but without a version
	Start, Limit profile.ObjAddr
	Module       string // in brackets, of a symbol of the kernel that is not in the kernel itself
}

// Source is where names come from: one table of one object, or the kernel's
// list of symbols, where Addr and ObjAddr are the same.
type Source interface {
	// Find calls found for each address that has a symbol, with the address's
	// index and not necessarily in order. The addresses are sorted and unique.
	// After an error what was found so far still holds.
	Find(addrs []profile.ObjAddr, found func(i int, s Symbol)) error
}

// Call is a function that is active at an address: inlined into the next one,
// or, the last one, compiled on its own.
type Call struct {
	Name string // as in the object: mangled, if it is a language's that mangles
	File string // "" if not known
	Line int    // in File, 0 if not known
}

// CallSource is a source that knows of inlined calls and lines: debug
// information. What it knows of an address is better than any symbol.
type CallSource interface {
	// Find calls found for each address that it knows something of, with all
	// calls there, innermost first; the slice is good until found returns.
	// Otherwise it is as Source's.
	Find(addrs []profile.ObjAddr, found func(i int, calls []Call)) error
}

// Why an address has no name.
var (
	// ErrHidden: the kernel shows no addresses of its symbols. It does to
	// readers with CAP_SYSLOG, unless sysctl kernel.kptr_restrict is 2.
	ErrHidden = errors.New("the kernel hides its addresses (no CAP_SYSLOG, or sysctl kernel.kptr_restrict is 2)")
	// ErrNoTable: the object has no table of functions: it is stripped.
	ErrNoTable = errors.New("it has no symbol table (stripped)")
	// ErrNoSymbol: there is a table, but no symbol in it covers the address.
	ErrNoSymbol = errors.New("not covered by any symbol (stripped, or local functions)")
	// ErrNoFile: there is no file to look into, where the process is over.
	ErrNoFile = errors.New("there is no file with its names")
	// ErrNoMapping: the address lies in no known mapping, or the mapping shows
	// no part of its object that could be code.
	ErrNoMapping = errors.New("outside all mappings (a frame-pointer walk reads such from code built without frame pointers)")
)

// chunkSize is how many bytes of a list are read at a time, as of tables
// (object.Chunks).
const chunkSize = 64 << 10

// readFull fills p from off, or says why not.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// maxName bounds names, in bytes: a longer one is cut. The longest that C++
// compilers make go beyond this, but nobody reads them in a flame graph; and a
// hostile table could otherwise have a megabyte for each address.
const maxName = 8 << 10

// readName reads a zero-terminated string; "" if there is none.
func readName(r io.ReaderAt, off int64, scratch *[maxName]byte) string {
	// Most names are short. What is read in vain is copied in vain.
	for start, limit := 0, 128; start < maxName; start, limit = limit, maxName {
		n, _ := r.ReadAt(scratch[start:limit], off+int64(start))
		for i, c := range scratch[start : start+n] {
			if c == 0 {
				return string(scratch[:start+i])
			}
		}
		if n < limit-start { // no terminator: the table is cut
			return ""
		}
	}
	return string(scratch[:])
}

var (
	_ = []Source{(*elfTable)(nil), (*pltTable)(nil), (*kallsyms)(nil), (*PerfMap)(nil), (*JITDump)(nil)}
	_ = []CallSource{(*pclntab)(nil)}
)
