// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

var le = binary.LittleEndian

const symbolSize = 24 // Elf64_Sym (gABI chapter 4, "Symbol Table")

// elfTable is an ELF symbol table: .symtab, or .dynsym, which strip leaves.
//
// Which symbol names an address:
//
//   - Only functions, and symbols without a type (assembly), in executable
//     sections. STT_GNU_IFUNC is a function: it has the resolver's address.
//   - Of those whose range covers the address the one that starts last: the
//     innermost, where somebody nested them. A range ends with its section.
//   - If none does, the last symbol before it in the same section, if it has
//     no size: assembly often states none, and goes on until the next symbol.
//     Never one whose size excludes the address: padding and functions without
//     a symbol are better unknown than wrong. In .dynsym this rule is off,
//     since the next function is probably not exported.
//   - Among equals: global before weak before local, functions before symbols
//     without a type, then the fewest leading underscores, because of aliases
//     it is the plain one that people write in their programs; then the first.
type elfTable struct {
	table, names *object.Section
	code         []codeSection // by section index
	complete     bool          // has local symbols
	labels       bool          // the architecture's ABI marks code and data by symbols
	prefix       [8]byte       // buffer for the start of a name
}

// codeSection is where an executable section lies; empty for other sections.
type codeSection struct{ start, limit profile.ObjAddr }

// openELF returns a symbol table of an object, nil if it has none.
func openELF(f *object.File, name string) *elfTable {
	table := f.Section(name)
	if table == nil || table.FileSize < 2*symbolSize || table.EntrySize != symbolSize || int64(table.Link) >= int64(len(f.Sections())) {
		return nil
	}
	t := &elfTable{
		table:    table,
		names:    &f.Sections()[table.Link],
		code:     make([]codeSection, len(f.Sections())),
		complete: table.Type == elf.SHT_SYMTAB,
		labels:   f.Machine() != elf.EM_X86_64,
	}
	for i := range t.code {
		if s := &f.Sections()[i]; s.Executable() && s.Size <= math.MaxUint64-uint64(s.ObjAddr) {
			t.code[i] = codeSection{s.ObjAddr, s.ObjAddr + profile.ObjAddr(s.Size)}
		}
	}
	return t
}

func (t *elfTable) Find(addrs []profile.ObjAddr, found func(i int, s Symbol)) error {
	if len(addrs) == 0 {
		return nil
	}
	scratch := new([maxName]byte)
	c := newCover(addrs, t.underscores)
	index := uint32(0)
	mapping := map[uint32]bool{}
	err := object.Chunks(t.table, t.table.FileSize, symbolSize, func(b []byte) {
		for ; len(b) >= symbolSize; b = b[symbolSize:] {
			index++
			if s, ok := t.candidate(b); ok && !(t.labels && s.rank == 0 && t.isMappingSymbol(s.name, mapping)) {
				s.index = index
				c.add(s)
			}
		}
	})
	var last candidate
	var name string
	c.best(func(i int, s candidate) {
		if s.index != last.index {
			last, name = s, withoutVersion(readName(t.names, int64(s.name), scratch))
		}
		if name != "" {
			found(i, Symbol{Name: name, Start: s.start, Limit: s.limit})
		}
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", t.table.Name, err)
	}
	return nil
}

// candidate decodes an entry; false if it cannot be the name of code.
func (t *elfTable) candidate(b []byte) (s candidate, ok bool) {
	s.name = le.Uint32(b)
	info, section := b[4], int(le.Uint16(b[6:]))
	kind, binding := elf.ST_TYPE(info), elf.ST_BIND(info)
	if s.name == 0 || section >= len(t.code) {
		return s, false
	}
	switch kind {
	case elf.STT_FUNC, elf.STT_GNU_IFUNC:
		s.rank = 1
	case elf.STT_NOTYPE:
	default:
		return s, false
	}
	switch binding {
	case elf.STB_LOCAL:
	case elf.STB_WEAK:
		s.rank += 2
	default: // global, or unique, which is global to all namespaces
		s.rank += 4
	}
	code := t.code[section]
	s.start = profile.ObjAddr(le.Uint64(b[8:]))
	if s.start < code.start || s.start >= code.limit {
		return s, false
	}
	s.limit = code.limit
	if size := le.Uint64(b[16:]); size > 0 {
		s.sized = true
		s.limit = s.start + profile.ObjAddr(min(size, uint64(code.limit-s.start)))
	}
	return s, s.sized || t.complete
}

// isMappingSymbol says whether a local symbol without a type is one of the
// marks that ARM's and RISC-V's ABIs put wherever code ($x, $a, $t) or data
// ($d) begins. There are thousands, but linkers store each name once: hence
// the memory of offsets, bounded because hostile tables don't.
func (t *elfTable) isMappingSymbol(name uint32, known map[uint32]bool) bool {
	is, ok := known[name]
	if ok {
		return is
	}
	b := t.prefix[:3]
	n, _ := t.names.ReadAt(b, int64(name))
	is = n == 3 && b[0] == '$' && strings.IndexByte("xdat", b[1]) >= 0 && (b[2] == 0 || b[2] == '.')
	if len(known) < 4096 {
		known[name] = is
	}
	return is
}

func (t *elfTable) underscores(name uint32) int8 {
	n, _ := t.names.ReadAt(t.prefix[:], int64(name))
	for i, c := range t.prefix[:n] {
		if c != '_' {
			return int8(i)
		}
	}
	return int8(n)
}

// withoutVersion drops what follows the name of a symbol with a version
// (memcpy@@GLIBC_2.14): it says which of several functions of the same name
// the linker takes, not what the function is.
func withoutVersion(name string) string {
	at := strings.IndexByte(name, '@')
	if at <= 0 || strings.ContainsAny(name[at:], "/ ([*") { // Go's import paths may have an @
		return name
	}
	return name[:at]
}
