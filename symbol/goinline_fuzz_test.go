// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"bytes"
	"debug/elf"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// assembleCalls makes a table of one function, main.f, of 0x40 bytes at the
// start of the text, into which main.g was inlined from its 16th byte on, and
// the tree of that.
func assembleCalls(magic uint32) (table, tree []byte) {
	l := goLayouts[magic]
	names := []byte("main.f\x00main.g\x00")
	files := []byte("f.go\x00g.go\x00")
	units := le.AppendUint32(le.AppendUint32(nil, 0), 5)
	values := []byte{
		0,
		2, 16, 2, 48, 0, // files: 0, then 1 (at 1)
		42, 16, 19, 48, 0, // lines: 20, then 10 (at 6)
		0, 16, 2, 48, 0, // indexes: −1, then 0 (at 11)
	}
	words := 8
	if l.pointers {
		words = 7
	}
	header := make([]byte, 8+8*words)
	le.PutUint32(header, magic)
	header[6], header[7] = 1, 8
	le.PutUint64(header[8:], 1)
	at, base := len(header), 8+8*(words-5)
	for i, n := range []int{len(names), len(units), len(files), len(values), 0} {
		le.PutUint64(header[base+8*i:], uint64(at))
		at += n
	}
	fn := make([]byte, l.fixed)
	le.PutUint32(fn[l.file:], 1)
	le.PutUint32(fn[l.line:], 6)
	le.PutUint32(fn[l.values:], 3)
	fn[l.fixed-1] = 4
	fn = le.AppendUint32(append(fn, make([]byte, 8)...), 11)
	tree = make([]byte, l.call)
	le.PutUint32(tree[l.name:], 7)
	le.PutUint32(tree[l.parent:], 4)
	var functab []byte
	if l.pointers {
		functab = slices.Concat(le.AppendUint64(nil, tinyText), le.AppendUint64(nil, 24), le.AppendUint64(nil, tinyText+0x40))
		fn = append(fn, make([]byte, (8-len(fn)%8)%8)...)
		fn = le.AppendUint64(append(fn, make([]byte, 24)...), tinyText)
	} else {
		le.PutUint64(header[8+2*8:], tinyText)
		functab = slices.Concat(le.AppendUint32(nil, 0), le.AppendUint32(nil, 12), le.AppendUint32(nil, 0x40))
		fn = le.AppendUint32(append(fn, make([]byte, 12)...), 0)
	}
	return slices.Concat(header, names, units, files, values, functab, fn), tree
}

// openCalls makes a source of a table, with the tree where the code is.
func openCalls(table, tree []byte) (*pclntab, error) {
	p, err := parsePclntab(bytes.NewReader(table), int64(len(table)))
	if err != nil {
		return nil, err
	}
	image := tinyELF(elf.SHT_PROGBITS, ".x", []byte{0})
	copy(image[tinyCode:tinyCode+0x40], tree)
	if p.file, err = object.New(bytes.NewReader(image), int64(len(image))); err != nil {
		return nil, err
	}
	if p.Relative {
		p.Text, p.base, p.sought = tinyText, tinyText, true
	}
	return p, nil
}

func TestAssembledCalls(t *testing.T) {
	find := func(p *pclntab, addrs ...profile.ObjAddr) (got [][]Call) {
		if err := p.Find(addrs, func(_ int, calls []Call) { got = append(got, slices.Clone(calls)) }); err != nil {
			t.Error(err)
		}
		return got
	}
	alone := []Call{{"main.f", "f.go", 20}}
	for _, magic := range []uint32{object.MagicGo116, object.MagicGo118, object.MagicGo120} {
		table, tree := assembleCalls(magic)
		p, err := openCalls(table, tree)
		if err != nil {
			t.Fatal(err)
		}
		want := [][]Call{alone, {{"main.g", "g.go", 10}, {"main.f", "f.go", 20}}}
		if d := cmp.Diff(want, find(p, tinyText+15, tinyText+16)); d != "" {
			t.Errorf("%#x: %s", magic, d)
		}
		// What is not known is not guessed: neither the call nor its line.
		for _, damage := range []struct {
			at    int64
			value byte
		}{
			{p.layout.name, 8}, {p.layout.name + 3, 1}, {p.layout.parent, 0x40}, {p.layout.parent, 20}, {p.layout.unused, 1},
		} {
			damaged := bytes.Clone(tree)
			damaged[damage.at] = damage.value
			p, _ := openCalls(table, damaged)
			if d := cmp.Diff([][]Call{alone, {{Name: "main.f"}}}, find(p, tinyText+15, tinyText+16)); d != "" {
				t.Errorf("%#x, byte %d of the tree is %d: %s", magic, damage.at, damage.value, d)
			}
		}
		p.file = nil
		if d := cmp.Diff([][]Call{{{Name: "main.f"}}}, find(p, tinyText+16)); d != "" {
			t.Errorf("%#x, no tree: %s", magic, d)
		}
	}
}

func FuzzGoCalls(f *testing.F) {
	for _, magic := range []uint32{object.MagicGo116, object.MagicGo118, object.MagicGo120} {
		table, tree := assembleCalls(magic)
		f.Add(table, tree)
	}
	f.Fuzz(func(t *testing.T, table, tree []byte) {
		p, err := openCalls(table, tree)
		if err != nil {
			return
		}
		var addrs []profile.ObjAddr
		for a := range profile.ObjAddr(0x60) {
			addrs = append(addrs, tinyText+a)
		}
		for _, sought := range []bool{true, false} {
			p.sought = sought
			p.Find(addrs, func(i int, calls []Call) {
				if len(calls) == 0 || len(calls) > maxGoCalls+1 {
					t.Errorf("%v: %d calls", addrs[i], len(calls))
				}
				for _, c := range calls {
					if c.Name == "" || c.Line < 0 || (c.File == "") != (c.Line == 0) {
						t.Errorf("%v: %+v", addrs[i], c)
					}
				}
			})
		}
	})
}

// Go's calls of 5,000 addresses of a big program.
func BenchmarkGoCalls(b *testing.B) {
	dir := b.TempDir()
	command(b, dir, "go", "build", "-o", dir+"/go", "-ldflags=-s -w", "cmd/go")
	o := openFile(b, dir+"/go")
	table, err := openPclntab(o)
	if err != nil {
		b.Fatal(err)
	}
	text := o.Section(".text")
	var addrs []profile.ObjAddr
	for a := text.ObjAddr; a < text.ObjAddr+profile.ObjAddr(text.Size); a += profile.ObjAddr(text.Size / 5000) {
		addrs = append(addrs, a)
	}
	calls := 0
	b.ReportAllocs()
	for b.Loop() {
		table.sought, calls = false, 0
		if err := table.Find(addrs, func(_ int, c []Call) { calls += len(c) }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(calls), "calls/op")
}

// Debug information knows more than the tables of Go before 1.16, which name
// what it leaves.
func TestOldGoWithDebugInformation(t *testing.T) {
	debug, err := openCalls(assembleCalls(object.MagicGo120))
	if err != nil {
		t.Fatal(err)
	}
	debug.Count, debug.Text = 1, tinyText-0x20 // it ends at +0x20
	old := assemble(object.MagicGo12, tinyText, []string{"main.old"}, []uint32{0, 0x40})
	image := tinyELF(elf.SHT_PROGBITS, ".gopclntab", append(old, make([]byte, 80)...))
	o, err := object.New(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	b := profile.NewBuilder()
	m := b.Mapping(profile.Mapping{Start: tinyText - tinyCode, Limit: 0x100000, Path: "/x"})
	b.Address(tinyText+0x1f, m, false)
	b.Address(tinyText+0x20, m, false)
	r := &Resolver{
		Open:  func(profile.MappingID) (*object.File, error) { return o, nil },
		Debug: func(*object.File) (Debug, error) { return Debug{Calls: debug}, nil },
	}
	r.Resolve(b.Profile(), nil)
	if got := namesOf(b.Profile()); !slices.Equal(got, []string{"main.g", "main.old"}) {
		t.Errorf("got %q", got)
	}
}
