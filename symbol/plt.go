// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"debug/elf"
	"fmt"
	"strings"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// pltTable names the stubs through which an object calls functions of others:
// "read@plt". Tables have no symbols for them. A stub is an indirect jump
// through a slot of the global offset table, and a relocation says which
// symbol's address the dynamic linker puts into that slot. Reading the stub's
// own instruction instead of counting stubs makes .plt, .plt.sec (CET),
// .plt.got and the layouts of different linkers one case. The price: stubs
// that are not 16 or 8 bytes, such as those of arm64 with BTI, stay unknown.
type pltTable struct {
	file    *object.File
	stubs   []*object.Section
	relocs  []*object.Section
	symbols *object.Section // .dynsym
	names   *object.Section
}

const (
	relaSize = 24 // Elf64_Rela: where, type and symbol, addend
	stubSize = 16

	// Real objects have up to three sections of stubs and three of relocations;
	// hostile ones could have thousands, each the whole file.
	maxSections = 16
)

// openPLT returns nil if the object has no such stubs.
func openPLT(f *object.File) *pltTable {
	t := &pltTable{file: f, relocs: relocations(f), symbols: f.Section(".dynsym")}
	for i := range f.Sections() {
		if s := &f.Sections()[i]; len(t.stubs) < maxSections && s.Executable() && (s.Name == ".plt" || strings.HasPrefix(s.Name, ".plt.")) {
			t.stubs = append(t.stubs, s)
		}
	}
	if len(t.stubs) == 0 || t.symbols == nil || int64(t.symbols.Link) >= int64(len(f.Sections())) {
		return nil
	}
	t.names = &f.Sections()[t.symbols.Link]
	return t
}

// relocations returns the tables that the dynamic linker works off.
func relocations(f *object.File) []*object.Section {
	var rs []*object.Section
	for i := range f.Sections() {
		if s := &f.Sections()[i]; len(rs) < maxSections && s.Type == elf.SHT_RELA && s.Flags&elf.SHF_ALLOC != 0 && s.EntrySize == relaSize {
			rs = append(rs, s)
		}
	}
	return rs
}

type stub struct {
	start, limit profile.ObjAddr
	addrs        []int // indices of the addresses in it
}

func (t *pltTable) Find(addrs []profile.ObjAddr, found func(i int, s Symbol)) error {
	slots := map[profile.ObjAddr]*stub{} // by the slot of the jump
	for i, a := range addrs {
		for _, s := range t.stubs {
			if !s.Contains(a) {
				continue
			}
			size := profile.ObjAddr(stubSize)
			if s.EntrySize == 8 {
				size = 8
			}
			start := a - (a-s.ObjAddr)%size
			if slot, ok := t.slot(start, size); ok {
				if slots[slot] == nil {
					slots[slot] = &stub{start: start, limit: start + size}
				}
				if st := slots[slot]; st.start == start {
					st.addrs = append(st.addrs, i)
				}
			}
		}
	}
	if len(slots) == 0 {
		return nil
	}
	scratch := new([maxName]byte)
	for _, r := range t.relocs {
		err := object.Chunks(r, r.FileSize, relaSize, func(b []byte) {
			for ; len(b) >= relaSize; b = b[relaSize:] {
				st := slots[profile.ObjAddr(le.Uint64(b))]
				if st == nil {
					continue
				}
				// The first relocation of a slot names it, so that hostile tables
				// make no more work than honest ones.
				delete(slots, profile.ObjAddr(le.Uint64(b)))
				if name := t.name(le.Uint64(b[8:])>>32, scratch); name != "" {
					for _, i := range st.addrs {
						found(i, Symbol{Name: name + pltSuffix, Start: st.start, Limit: st.limit})
					}
				}
			}
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", r.Name, err)
		}
	}
	return nil
}

const pltSuffix = "@plt"

func (t *pltTable) name(symbol uint64, scratch *[maxName]byte) string {
	var b [symbolSize]byte
	if symbol == 0 || readFull(t.symbols, b[:], int64(symbol)*symbolSize) != nil {
		return ""
	}
	return readName(t.names, int64(le.Uint32(b[:])), scratch)
}

// slot decodes which slot the stub at an address jumps through.
func (t *pltTable) slot(start, size profile.ObjAddr) (profile.ObjAddr, bool) {
	var b [stubSize]byte
	if t.file.ReadObj(b[:size], start) != nil {
		return 0, false
	}
	switch t.file.Machine() {
	case elf.EM_X86_64:
		return slotAMD64(b[:size], start)
	case elf.EM_AARCH64:
		return slotARM64(b[:size], start)
	}
	return 0, false
}

// slotAMD64: jmp *disp32(%rip), maybe after endbr64 or with a bnd prefix. The
// displacement counts from the end of the instruction.
func slotAMD64(b []byte, start profile.ObjAddr) (profile.ObjAddr, bool) {
	for i := 0; i+6 <= len(b); i++ {
		if b[i] == 0xff && b[i+1] == 0x25 {
			return start + profile.ObjAddr(i+6) + profile.ObjAddr(int64(int32(le.Uint32(b[i+2:])))), true
		}
	}
	return 0, false
}

// slotARM64: adrp x16, page of the slot; ldr x17, [x16, offset in the page].
func slotARM64(b []byte, start profile.ObjAddr) (profile.ObjAddr, bool) {
	for i := 0; i+8 <= len(b); i += 4 {
		adrp, ldr := le.Uint32(b[i:]), le.Uint32(b[i+4:])
		if adrp&0x9f00001f != 0x90000010 || ldr&0xffc003ff != 0xf9400211 {
			continue
		}
		// The page number is signed, 21 bits: 19 high ones at bit 5, 2 low ones at bit 29.
		pages := int64(int32((adrp>>5&0x7ffff)<<2|adrp>>29&3)<<11) >> 11
		page := (start+profile.ObjAddr(i))&^0xfff + profile.ObjAddr(pages<<12)
		return page + profile.ObjAddr(ldr>>10&0xfff)*8, true
	}
	return 0, false
}
