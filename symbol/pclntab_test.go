// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

var goProgram = map[string]string{
	"go.mod": "module example\n\ngo 1.20\n",
	"main.go": `package main

import "fmt"

type list[T any] struct{ items []T }

//go:noinline
func (l *list[T]) push(v T) { l.items = append(l.items, v) }

//go:noinline
func hot(n int) (s int) { for i := range make([]int, n) { s += i }; return s }

func main() {
	var l list[string]
	l.push("x")
	f := func() int { return hot(3) + extra() }
	fmt.Println(f(), l.items)
}
`,
	"extra.go": `//go:build !cgo

package main

//go:noinline
func extra() int { return 1 }
`,
	"cgo.go": `package main

// static int __attribute__((noinline)) local(int n) { return n + 1; }
// int twice(int n) { return 2 * local(n); }
import "C"

func extra() int { return int(C.twice(2)) }
`,
}

// buildGo compiles goProgram and returns it with symbols and stripped.
func buildGo(t testing.TB, cgo string, args ...string) (path, stripped string) {
	t.Helper()
	dir := write(t, goProgram)
	command(t, dir, append(append([]string{"env", "CGO_ENABLED=" + cgo, "go", "build", "-o", "x"}, args...), ".")...)
	command(t, dir, "strip", "-o", "y", "x")
	return filepath.Join(dir, "x"), filepath.Join(dir, "y")
}

// goFunctions lists what debug/gosym makes of a program's pclntab. It needs
// symbols to find the table and the code.
func goFunctions(t testing.TB, path string) []gosym.Func {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var text uint64
	var data []byte
	symbols, _ := f.Symbols()
	for _, s := range symbols {
		switch s.Name {
		case "runtime.text":
			text = s.Value
		case "runtime.pclntab": // has a section of its own, but for position-independent programs before Go 1.26
			in := f.Sections[s.Section]
			if data, err = in.Data(); err != nil {
				t.Fatal(err)
			}
			data = data[s.Value-in.Addr:]
		}
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, text))
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Funcs) < 1000 || text == 0 {
		t.Fatalf("%d functions, text at %#x", len(table.Funcs), text)
	}
	return table.Funcs
}

// Every Go function resolves by its first and last byte, with and without
// symbols, wherever the linkers put the table and the code.
func TestGoFunctions(t *testing.T) {
	for _, c := range []struct {
		cgo  string
		args []string
	}{
		{"0", nil},
		{"0", []string{"-buildmode=pie"}},
		{"1", nil},
		{"1", []string{"-buildmode=pie"}},
		{"1", []string{"-ldflags=-linkmode=external -extldflags=-static"}},
		{"1", []string{"-buildmode=c-shared"}},
	} {
		t.Run("cgo="+c.cgo+" "+strings.Join(c.args, " "), func(t *testing.T) {
			path, stripped := buildGo(t, c.cgo, c.args...)
			functions := goFunctions(t, path)
			for _, p := range []string{path, stripped} {
				o := openFile(t, p)
				if _, err := openPclntab(o); err != nil {
					t.Fatal(err)
				}
				var addrs []profile.ObjAddr
				var want []string
				for _, f := range functions {
					addrs, want = append(addrs, profile.ObjAddr(f.Entry)), append(want, f.Name)
					if f.End > f.Entry+1 {
						addrs, want = append(addrs, profile.ObjAddr(f.End-1)), append(want, f.Name)
					}
				}
				for i, f := range resolve(t, o, addrs) {
					if f.SystemName != want[i] {
						t.Errorf("%v: got %q, want %q", addrs[i], f.Name, want[i])
					}
				}
			}
			if c.cgo == "1" { // C functions are not in the table, but in .symtab
				lines := slices.DeleteFunc(nm(t, path), func(l nmLine) bool { return l.name != "twice" && l.name != "local" })
				if len(lines) != 2 {
					t.Fatal(lines)
				}
				checkNM(t, path, lines)
			}
		})
	}
}

func TestGoStrippedByLinker(t *testing.T) {
	for _, mode := range []string{"exe", "pie"} {
		path, _ := buildGo(t, "0", "-ldflags=-s -w", "-buildmode="+mode)
		o := openFile(t, path)
		table, err := openPclntab(o)
		if table == nil || err != nil {
			t.Fatal(table, err)
		}
		if o.Section(".symtab") != nil {
			t.Error("not stripped")
		}
		// The entry of the program is a function of known name.
		f := resolve(t, o, []profile.ObjAddr{o.Entry()})[0]
		if !strings.HasPrefix(f.Name, "_rt0_") {
			t.Errorf("%s: entry is %q", mode, f.Name)
		}
	}
}

func TestGoGenericsAndClosures(t *testing.T) {
	path, stripped := buildGo(t, "0")
	var addrs []profile.ObjAddr
	var names []string
	for _, l := range nm(t, path) {
		if strings.HasPrefix(l.name, "main.") {
			addrs = append(addrs, l.addr)
		}
	}
	for _, f := range resolve(t, openFile(t, stripped), addrs) {
		names = append(names, f.Name)
	}
	for _, want := range []string{"main.main", "main.hot", "main.extra", "main.(*list[go.shape.string]).push"} {
		if !slices.Contains(names, want) && !slices.Contains(names, strings.Replace(want, "go.shape.string", "...", 1)) { // before Go 1.21
			t.Errorf("no %s in %q", want, names)
		}
	}
}

// table assembles a pclntab, field by field, in the layout of a version.
// Entries are given from the start of the text.
func assemble(magic uint32, text uint64, names []string, entries []uint32) []byte {
	var strings, functab, functions []byte
	var nameAt []uint32
	for _, n := range names {
		nameAt = append(nameAt, uint32(len(strings)))
		strings = append(append(strings, n...), 0)
	}
	var header []byte
	switch magic {
	case object.MagicGo12:
		header = make([]byte, 16)
	case object.MagicGo116:
		header = make([]byte, 8+7*8)
	default:
		header = make([]byte, 8+8*8)
	}
	le.PutUint32(header, magic)
	header[6], header[7] = 1, 8
	le.PutUint64(header[8:], uint64(len(names)))
	relative := magic == object.MagicGo118 || magic == object.MagicGo120
	width := 8
	if relative {
		width = 4
	}
	put := func(b []byte, v uint64) []byte {
		if width == 4 {
			return le.AppendUint32(b, uint32(v))
		}
		return le.AppendUint64(b, v)
	}
	base := uint64(0) // of _func offsets
	if magic == object.MagicGo12 {
		base = 16
	}
	shift := uint64(0) // name offsets in go1.2 count from the header
	functabSize := (2*len(entries) - 1) * width
	if magic == object.MagicGo12 {
		shift = uint64(16 + functabSize + len(names)*(width+4))
	}
	for i, e := range entries {
		if !relative {
			functab = put(functab, text+uint64(e))
		} else {
			functab = put(functab, uint64(e))
		}
		if i < len(names) {
			functab = put(functab, base+uint64(functabSize+len(functions)))
			if relative {
				functions = put(functions, uint64(e))
			} else {
				functions = put(functions, text+uint64(e))
			}
			functions = le.AppendUint32(functions, nameAt[i]+uint32(shift))
		}
	}
	switch magic {
	case object.MagicGo12:
		return slices.Concat(header, functab, functions, strings)
	case object.MagicGo116:
		le.PutUint64(header[8+8*2:], uint64(len(header)))
		le.PutUint64(header[8+8*6:], uint64(len(header)+len(strings)))
	default:
		le.PutUint64(header[8+8*2:], text)
		le.PutUint64(header[8+8*3:], uint64(len(header)))
		le.PutUint64(header[8+8*7:], uint64(len(header)+len(strings)))
	}
	return slices.Concat(header, strings, functab, functions)
}

func TestAllVersions(t *testing.T) {
	const text = 0x401000
	names, entries := []string{"main.a", "main.b", "main.c"}, []uint32{0, 0x20, 0x60, 0x80}
	for _, magic := range []uint32{object.MagicGo12, object.MagicGo116, object.MagicGo118, object.MagicGo120} {
		b := assemble(magic, text, names, entries)
		p, err := parsePclntab(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatalf("%#x: %v", magic, err)
		}
		if p.Relative {
			p.Text = text
		}
		addrs := []profile.ObjAddr{text - 1, text, text + 0x1f, text + 0x20, text + 0x5f, text + 0x7f, text + 0x80}
		got := make([]string, len(addrs))
		if err := p.Find(addrs, func(i int, calls []Call) { got[i] = calls[len(calls)-1].Name }); err != nil {
			t.Error(err)
		}
		if want := []string{"", "main.a", "main.a", "main.b", "main.b", "main.c", ""}; !slices.Equal(got, want) {
			t.Errorf("%#x: got %q, want %q", magic, got, want)
		}
	}
}

func TestDamagedPclntab(t *testing.T) {
	for _, magic := range []uint32{object.MagicGo12, object.MagicGo116, object.MagicGo118, object.MagicGo120} {
		b := assemble(magic, 0x1000, []string{"main.a", "main.b"}, []uint32{0, 0x20, 0x60})
		for i := range b {
			for _, v := range []byte{0, 0x7f, 0xff} {
				damaged := bytes.Clone(b)
				damaged[i] = v
				exercisePclntab(damaged)
			}
			exercisePclntab(b[:i])
		}
		le.PutUint64(b[8:], 1<<60)
		if _, err := parsePclntab(bytes.NewReader(b), int64(len(b))); !errors.Is(err, object.ErrGoTable) {
			t.Errorf("%#x: %v", magic, err)
		}
	}
}

func exercisePclntab(b []byte) {
	if p, err := parsePclntab(bytes.NewReader(b), int64(len(b))); err == nil {
		p.Entries()
		p.Find([]profile.ObjAddr{0, 1, 0x1000, 0x1010, 0x1030, 1 << 40, ^profile.ObjAddr(0)}, func(int, []Call) {})
	}
}

// A table whose text cannot be proved is not used: no names rather than wrong.
func TestNoProof(t *testing.T) {
	o := openFile(t, buildC(t))
	b := assemble(object.MagicGo120, 0, []string{"main.a"}, []uint32{0, 0x20})
	p, err := parsePclntab(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Locate(o, 0x123456); !errors.Is(err, object.ErrNoGoText) {
		t.Errorf("got %v", err)
	}
}

func parsePclntab(r io.ReaderAt, size int64) (*pclntab, error) {
	t, err := object.ParseGoTable(r, size)
	if err != nil {
		return nil, err
	}
	return &pclntab{GoTable: t, layout: goLayouts[t.Magic]}, nil
}
