// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

func FuzzPclntab(f *testing.F) {
	for _, magic := range []uint32{object.MagicGo12, object.MagicGo116, object.MagicGo118, object.MagicGo120} {
		f.Add(assemble(magic, 0x1000, []string{"main.a", "main.b"}, []uint32{0, 0x20, 0x60}))
	}
	f.Fuzz(func(t *testing.T, b []byte) { exercisePclntab(b) })
}

func FuzzKallsyms(f *testing.F) {
	f.Add([]byte(kernelList))
	f.Add([]byte("ffffffff81000000 T"))
	f.Add([]byte("\nffffffff81000000 T \n"))
	addrs := []profile.ObjAddr{0, 1, 0xffffffff81000000, 0xffffffff81000150, 0xffffffffc0a00000, ^profile.ObjAddr(0)}
	f.Fuzz(func(t *testing.T, b []byte) {
		findKernel(bytes.NewReader(b), addrs, func(i int, s Symbol) {
			if addrs[i] < s.Start || s.Name == "" {
				t.Errorf("%v: %+v", addrs[i], s)
			}
		})
	})
}

// FuzzResolve gives a whole hostile object to a Resolver.
func FuzzResolve(f *testing.F) {
	f.Add(tinyELF(elf.SHT_SYMTAB, ".symtab", nil))
	f.Add(tinyELF(elf.SHT_DYNSYM, ".dynsym", nil))
	f.Add(tinyELF(elf.SHT_PROGBITS, ".gopclntab", assemble(object.MagicGo120, tinyText, []string{"main.a"}, []uint32{0, 0x20})))
	f.Add(tinyELF(elf.SHT_PROGBITS, ".gopclntab", assemble(object.MagicGo12, tinyText, []string{"main.a"}, []uint32{0, 0x20})))
	f.Fuzz(func(t *testing.T, image []byte) { exerciseResolver(image) })
}

func exerciseResolver(image []byte) *profile.Profile {
	o, err := object.New(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return nil
	}
	b := profile.NewBuilder()
	m := b.Mapping(profile.Mapping{Start: tinyText - tinyCode, Limit: 0x100000, Path: "/x"})
	for _, a := range []profile.Addr{0x1000, tinyText, tinyText + 4, tinyText + 0x18, tinyText + 0x1f, 0x2000, 0xfffff} {
		b.Address(a, m, a%2 == 1)
	}
	r := &Resolver{
		Open:     func(profile.MappingID) (*object.File, error) { return o, nil },
		Kallsyms: func() (io.ReadCloser, error) { return nil, os.ErrPermission },
	}
	r.Resolve(b.Profile(), nil)
	return b.Profile()
}

const (
	tinyText = 0x1040    // where the code of tinyELF is
	tinyCode = 0x40 + 56 // its file offset, after the headers
)

// symbols of tinyELF's .text: value, size, type and binding, name.
var tinySymbols = []struct {
	value, size uint64
	info        byte
	name        string
}{
	{tinyText, 0x10, elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC), "first"},
	{tinyText, 0x10, elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC), "local"},
	{tinyText + 0x18, 0, elf.ST_INFO(elf.STB_LOCAL, elf.STT_NOTYPE), "label"},
}

// tinyELF assembles a fixed object with 0x40 bytes of code and one table, of
// a type, name and content; nil means a symbol table with tinySymbols.
func tinyELF(kind elf.SectionType, name string, content []byte) []byte {
	names := "\x00.text\x00" + name + "\x00"
	entry := uint64(0)
	if content == nil {
		entry = symbolSize
		content = make([]byte, symbolSize)
		for _, s := range tinySymbols {
			b := make([]byte, symbolSize)
			le.PutUint32(b, uint32(len(names)))
			b[4], b[6] = s.info, 1
			le.PutUint64(b[8:], s.value)
			le.PutUint64(b[16:], s.size)
			content = append(content, b...)
			names += s.name + "\x00"
		}
	}
	const codeAt, codeSize = tinyCode, 0x40
	b := make([]byte, codeAt+codeSize)
	copy(b, elf.ELFMAG+"\x02\x01\x01")
	le.PutUint16(b[16:], uint16(elf.ET_EXEC))
	le.PutUint16(b[18:], uint16(elf.EM_X86_64))
	le.PutUint64(b[24:], tinyText)
	le.PutUint64(b[32:], 0x40)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	le.PutUint16(b[58:], 64)
	le.PutUint16(b[60:], 4)
	le.PutUint16(b[62:], 3)
	program := b[0x40:]
	le.PutUint32(program, uint32(elf.PT_LOAD))
	le.PutUint32(program[4:], uint32(elf.PF_R|elf.PF_X))
	le.PutUint64(program[16:], tinyText-codeAt)
	le.PutUint64(program[32:], codeAt+codeSize)
	le.PutUint64(program[40:], codeAt+codeSize)
	contentAt := len(b)
	b = append(b, content...)
	namesAt := len(b)
	b = append(b, names...)
	le.PutUint64(b[40:], uint64(len(b)))
	section := func(name int, kind elf.SectionType, flags elf.SectionFlag, addr, off, size, link, entry uint64) {
		s := make([]byte, 64)
		le.PutUint32(s, uint32(name))
		le.PutUint32(s[4:], uint32(kind))
		le.PutUint64(s[8:], uint64(flags))
		le.PutUint64(s[16:], addr)
		le.PutUint64(s[24:], off)
		le.PutUint64(s[32:], size)
		le.PutUint32(s[40:], uint32(link))
		le.PutUint64(s[56:], entry)
		b = append(b, s...)
	}
	section(0, elf.SHT_NULL, 0, 0, 0, 0, 0, 0)
	section(1, elf.SHT_PROGBITS, elf.SHF_ALLOC|elf.SHF_EXECINSTR, tinyText, codeAt, codeSize, 0, 0)
	section(7, kind, 0, 0, uint64(contentAt), uint64(len(content)), 3, entry)
	section(0, elf.SHT_STRTAB, 0, 0, uint64(namesAt), uint64(len(names)), 0, 0)
	return b
}

func namesOf(p *profile.Profile) (names []string) {
	for i := range p.Addresses {
		names = append(names, p.Addresses[i].Frames[0].Name)
	}
	return names
}

func TestTinyELF(t *testing.T) {
	for _, c := range []struct {
		image []byte
		want  []string
	}{
		{tinyELF(elf.SHT_SYMTAB, ".symtab", nil), []string{"[x]", "first", "first", "label", "label", "[x]", "[x]"}},
		{tinyELF(elf.SHT_DYNSYM, ".dynsym", nil), []string{"[x]", "first", "first", "[x]", "[x]", "[x]", "[x]"}},
		{tinyELF(elf.SHT_PROGBITS, ".gopclntab", assemble(object.MagicGo120, tinyText, []string{"main.a"}, []uint32{0, 0x20})),
			[]string{"[x]", "main.a", "main.a", "main.a", "main.a", "[x]", "[x]"}},
	} {
		// File offset 0 is tinyText−codeAt in memory, and not at the start of a page.
		o, err := object.New(bytes.NewReader(c.image), int64(len(c.image)))
		if err != nil {
			t.Fatal(err)
		}
		b := profile.NewBuilder()
		base := profile.Addr(o.Segments()[0].ObjAddr)
		m := b.Mapping(profile.Mapping{Start: base, Limit: base + 0x10000, Path: "/x"})
		for _, a := range []profile.Addr{base, tinyText, tinyText + 4, tinyText + 0x18, tinyText + 0x1f, tinyText + 0x40, base + 0xffff} {
			b.Address(a, m, false)
		}
		r := &Resolver{Open: func(profile.MappingID) (*object.File, error) { return o, nil }}
		r.Resolve(b.Profile(), nil)
		if got := namesOf(b.Profile()); !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// Every byte of a tiny object changed in several ways: no panic.
func TestDamagedELF(t *testing.T) {
	for _, image := range [][]byte{
		tinyELF(elf.SHT_SYMTAB, ".symtab", nil),
		tinyELF(elf.SHT_PROGBITS, ".gopclntab", assemble(object.MagicGo120, tinyText, []string{"main.a"}, []uint32{0, 0x20})),
	} {
		for i := range image {
			for _, v := range []byte{0, 1, 0x7f, 0xff} {
				damaged := bytes.Clone(image)
				damaged[i] = v
				exerciseResolver(damaged)
			}
			exerciseResolver(image[:i])
		}
	}
}

// Symbols that all cover everything: work grows with their number alone.
func TestOverlappingSymbols(t *testing.T) {
	const count = 300_000
	addrs := make([]profile.ObjAddr, 4000)
	for i := range addrs {
		addrs[i] = profile.ObjAddr(i * 16)
	}
	begin := time.Now()
	c := newCover(addrs, func(uint32) int8 { return 0 })
	for i := range count {
		c.add(candidate{start: profile.ObjAddr(i % 7), limit: 1 << 40, index: uint32(i + 1), sized: true})
	}
	c.best(func(i int, s candidate) {
		if want := profile.ObjAddr(min(i*16, 6)); s.start != want {
			t.Errorf("address %v: starts at %v, want %v", addrs[i], s.start, want)
		}
	})
	// One by one it would be 1.2 billion comparisons; this is some 10 million.
	t.Logf("%d symbols over %d addresses: %v", count, len(addrs), time.Since(begin))
}
