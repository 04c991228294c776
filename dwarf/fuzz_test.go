// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// part is a section of an assembled file.
type part struct {
	name  string
	flags elf.SectionFlag
	data  []byte
}

// assembleELF writes a file that has nothing but sections.
func assembleELF(parts []part) []byte {
	names := []byte{0}
	headers := make([]byte, 64)
	b := make([]byte, 64)
	section := func(name string, kind elf.SectionType, flags elf.SectionFlag, data []byte) {
		h := make([]byte, 64)
		le.PutUint32(h, uint32(len(names)))
		le.PutUint32(h[4:], uint32(kind))
		le.PutUint64(h[8:], uint64(flags))
		le.PutUint64(h[24:], uint64(len(b)))
		le.PutUint64(h[32:], uint64(len(data)))
		headers = append(headers, h...)
		b = append(b, data...)
		names = append(names, name...)
		names = append(names, 0)
	}
	for _, p := range parts {
		section(p.name, elf.SHT_PROGBITS, p.flags, p.data)
	}
	section(".shstrtab", elf.SHT_STRTAB, 0, append(names, ".shstrtab\x00"...))
	copy(b, elf.ELFMAG)
	b[4], b[5], b[6] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	le.PutUint16(b[16:], uint16(elf.ET_DYN))
	le.PutUint16(b[18:], uint16(elf.EM_X86_64))
	le.PutUint64(b[40:], uint64(len(b)))
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[58:], 64)
	le.PutUint16(b[60:], uint16(len(parts)+2))
	le.PutUint16(b[62:], uint16(len(parts)+1))
	return append(b, headers...)
}

// sectionsOf are the parts that a fuzzer gives, in order.
var sectionsOf = []string{"info", "abbrev", "line", "str", "line_str", "str_offsets", "addr", "ranges", "rnglists", "aranges"}

// probes are addresses that are looked for in everything that is assembled.
var probes = []profile.ObjAddr{0, 1, 4, 16, 0x1000, 0x1010, 0x1020, 0x1139, 0x1150, 0x1160, 0x1180, 0x1200, 0x2000, 0x401000, 1 << 40, ^profile.ObjAddr(0)}

// exercise looks for the probes twice, and checks what must hold of any input.
func exercise(t testing.TB, image []byte, o Options) (calls [][]Call, err error) {
	t.Helper()
	f, err := object.NewDebug(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return nil, err
	}
	d, err := Open(f, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	for range 2 {
		calls = make([][]Call, len(probes))
		err = d.Find(probes, func(i int, c []Call) {
			if calls[i] != nil || len(c) == 0 {
				t.Errorf("%v: %v, before %v", probes[i], c, calls[i])
			}
			calls[i] = append(calls[i], c...)
			for n, x := range c {
				if x.Inlined != (n < len(c)-1) || x.Line < 0 || len(x.Name) > maxString {
					t.Errorf("%v: call %d of %d: %v", probes[i], n, len(c), x)
				}
			}
		})
	}
	return calls, err
}

// seeds are the debug sections of small programs, by the names of sectionsOf.
func seeds(f *testing.F, suffix string, commands ...[]string) [][][]byte {
	const source = `static inline int twice(int x) { return x * 2; }
int alone(int x) { return twice(x) + 1; }
int main(int argc, char **argv) { return twice(alone(argc)); }`
	var all [][][]byte
	for _, args := range commands {
		need(f, args[0])
		dir := f.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a.c"), []byte(source), 0o600); err != nil {
			f.Fatal(err)
		}
		run(f, dir, append(args, "-nostdlib", "-shared", "-o", "a", "a.c")...)
		file := filepath.Join(dir, "a")
		if suffix != "" {
			found, err := filepath.Glob(filepath.Join(dir, "*.dwo"))
			if err != nil || len(found) != 1 {
				f.Fatal(err, found)
			}
			file = found[0]
		}
		e, err := elf.Open(file)
		if err != nil {
			f.Fatal(err)
		}
		var parts [][]byte
		for _, name := range sectionsOf {
			var b []byte
			if s := e.Section(".debug_" + name + suffix); s != nil {
				if b, err = s.Data(); err != nil {
					f.Fatal(err)
				}
			}
			parts = append(parts, b)
		}
		e.Close()
		all = append(all, parts)
	}
	return all
}

func FuzzFind(f *testing.F) {
	for _, p := range seeds(f, "", []string{"gcc", "-O2", "-gdwarf-5"}, []string{"gcc", "-O2", "-gdwarf-4"}, []string{"gcc", "-O2", "-gdwarf-2"},
		[]string{"clang-14", "-O2", "-gdwarf-5"}, []string{"clang-14", "-O2", "-gdwarf-4"}, []string{"gcc", "-O2", "-g", "-gsplit-dwarf"}) {
		f.Add(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9])
	}
	f.Fuzz(func(t *testing.T, info, abbrev, line, str, lineStr, strOffsets, addr, ranges, rnglists, aranges []byte) {
		var parts []part
		for i, b := range [][]byte{info, abbrev, line, str, lineStr, strOffsets, addr, ranges, rnglists, aranges} {
			parts = append(parts, part{name: ".debug_" + sectionsOf[i], data: b})
		}
		// The same file as its own alternate: references may go round.
		image := assembleELF(append(parts, part{name: ".gnu_debugaltlink", data: []byte("self\x00id")}))
		self := func() (*object.File, error) {
			return object.NewDebug(bytes.NewReader(image), int64(len(image)))
		}
		exercise(t, image, Options{
			Alternate: func(string, []byte) (*object.File, error) { return self() },
			Split:     func(string) (*object.File, error) { return self() },
		})
	})
}

func FuzzSplit(f *testing.F) {
	skeletons := seeds(f, "", []string{"gcc", "-O2", "-gdwarf-5", "-gsplit-dwarf"}, []string{"gcc", "-O2", "-gdwarf-4", "-gsplit-dwarf"})
	for i, p := range seeds(f, ".dwo", []string{"gcc", "-O2", "-gdwarf-5", "-gsplit-dwarf"}, []string{"gcc", "-O2", "-gdwarf-4", "-gsplit-dwarf"}) {
		s := skeletons[i]
		f.Add(s[0], s[1], s[6], p[0], p[1], p[3], p[5], p[8], indexOf(p))
	}
	f.Fuzz(func(t *testing.T, info, abbrev, addr, dwoInfo, dwoAbbrev, str, strOffsets, rnglists, index []byte) {
		image := assembleELF([]part{{name: ".debug_info", data: info}, {name: ".debug_abbrev", data: abbrev}, {name: ".debug_addr", data: addr}})
		dwo := assembleELF([]part{{name: ".debug_info.dwo", data: dwoInfo}, {name: ".debug_abbrev.dwo", data: dwoAbbrev}, {name: ".debug_str.dwo", data: str},
			{name: ".debug_str_offsets.dwo", data: strOffsets}, {name: ".debug_rnglists.dwo", data: rnglists}, {name: ".debug_cu_index", data: index}})
		open := func() (*object.File, error) { return object.NewDebug(bytes.NewReader(dwo), int64(len(dwo))) }
		exercise(t, image, Options{Split: func(string) (*object.File, error) { return open() }})
		exercise(t, image, Options{Package: open})
	})
}

// indexOf is the index of a package with one unit (DWARF 5, 7.3.5.3).
func indexOf(p [][]byte) []byte {
	words := []uint32{5, 4, 1, 2}
	id := p[0][12:20] // of the header, in DWARF 5
	b := make([]byte, 0, 128)
	for _, w := range words {
		b = le.AppendUint32(b, w)
	}
	slot := le.Uint64(id) & 1
	table := make([]byte, 16+8)
	copy(table[8*slot:], id)
	table[16+4*slot] = 1
	b = append(b, table...)
	for _, w := range []uint32{columnInfo, columnAbbrev, columnStrOffsets, columnRnglists, 0, 0, 0, 0,
		uint32(len(p[0])), uint32(len(p[1])), uint32(len(p[5])), uint32(len(p[8]))} {
		b = le.AppendUint32(b, w)
	}
	return b
}

func FuzzLine(f *testing.F) {
	for _, p := range seeds(f, "", []string{"gcc", "-O2", "-gdwarf-5"}, []string{"gcc", "-O2", "-gdwarf-3"}, []string{"clang-14", "-O2", "-gdwarf-5"}) {
		f.Add(p[2], p[4])
	}
	f.Fuzz(func(t *testing.T, line, lineStr []byte) {
		d := &Data{budget: budget{maxWork}}
		file := &file{data: d, budget: &d.budget, line: inMemory("line", line), lineStr: inMemory("line_str", lineStr),
			altOpened: true, altErr: ErrFormat} // it has no object to be named by
		u := &unit{file: file, format: format{version: 5, address: 8}, lines: value{form: formSecOffset}}
		var buffer []byte
		table, err := u.lineTable(&buffer)
		if err != nil || table == nil {
			return
		}
		addrs := make([]uint64, len(probes))
		for i, a := range probes {
			addrs[i] = uint64(a)
		}
		found := make([]position, len(addrs))
		if err := table.find(addrs, found); err != nil && !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
		want := map[uint64]string{0: "", 1: "", 2: "", 1 << 40: ""}
		if err := table.names(want); err != nil && !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
	})
}

func inMemory(name string, b []byte) *section {
	return &section{name: name, source: bytes.NewReader(b), size: int64(len(b))}
}

func FuzzCompressed(f *testing.F) {
	f.Add(uint8(0), deflate(f, bytes.Repeat([]byte("section "), 100)), uint64(800))
	f.Add(uint8(1), zstdFrame(f, bytes.Repeat([]byte("section "), 100)), uint64(800))
	f.Add(uint8(2), deflate(f, []byte("section")), uint64(7))
	f.Fuzz(func(t *testing.T, how uint8, content []byte, size uint64) {
		size %= 4 << 20 // larger ones only take longer
		p := compressedPart("info", how%3, content, size)
		image := assembleELF([]part{p, {name: ".debug_abbrev", data: []byte{1, tagCompileUnit, 0, 0, 0, 0}}})
		exercise(t, image, Options{})
	})
}
