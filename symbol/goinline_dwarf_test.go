// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// goDWARF is what a Go program's debug information says of calls, by the
// standard library's reader: the other account of the same facts.
type goDWARF struct {
	data      *dwarf.Data
	names     map[dwarf.Offset]string
	functions []dwarfFunction // sorted by start
}

type dwarfFunction struct {
	start, limit uint64
	name         string
	inlined      []dwarfCall // outer before inner
	unit         *dwarf.Entry
}

type dwarfCall struct {
	ranges [][2]uint64
	name   string
	file   string // of the call
	line   int
}

func readGoDWARF(t *testing.T, path string) *goDWARF {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := &goDWARF{names: map[dwarf.Offset]string{}}
	if d.data, err = f.DWARF(); err != nil {
		t.Fatal(err)
	}
	d.each(t, func(e *dwarf.Entry, _ *dwarf.Entry, _ []*dwarf.LineFile) {
		if name, ok := e.Val(dwarf.AttrName).(string); ok && e.Tag == dwarf.TagSubprogram {
			d.names[e.Offset] = name
		}
	})
	open := -1 // index of the function that entries belong to
	d.each(t, func(e, unit *dwarf.Entry, files []*dwarf.LineFile) {
		name, _ := e.Val(dwarf.AttrName).(string)
		if origin, ok := e.Val(dwarf.AttrAbstractOrigin).(dwarf.Offset); ok {
			name = d.names[origin]
		}
		switch e.Tag {
		case dwarf.TagSubprogram:
			open = -1
			low, ok := e.Val(dwarf.AttrLowpc).(uint64)
			high, ok2 := e.Val(dwarf.AttrHighpc).(uint64)
			if n, isOffset := e.Val(dwarf.AttrHighpc).(int64); isOffset {
				high, ok2 = low+uint64(n), true
			}
			if ok && ok2 {
				open = len(d.functions)
				d.functions = append(d.functions, dwarfFunction{start: low, limit: high, name: name, unit: unit})
			}
		case dwarf.TagInlinedSubroutine:
			ranges, err := d.data.Ranges(e)
			if err != nil || open < 0 {
				return
			}
			file, _ := e.Val(dwarf.AttrCallFile).(int64)
			line, _ := e.Val(dwarf.AttrCallLine).(int64)
			c := dwarfCall{ranges: ranges, name: name, line: int(line)}
			if file >= 0 && int(file) < len(files) && files[file] != nil {
				c.file = files[file].Name
			}
			d.functions[open].inlined = append(d.functions[open].inlined, c)
		}
	})
	sort.Slice(d.functions, func(i, j int) bool { return d.functions[i].start < d.functions[j].start })
	return d
}

// each yields all entries with their unit and its files.
func (d *goDWARF) each(t *testing.T, yield func(e, unit *dwarf.Entry, files []*dwarf.LineFile)) {
	t.Helper()
	var unit *dwarf.Entry
	var files []*dwarf.LineFile
	for r := d.data.Reader(); ; {
		e, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if e == nil {
			return
		}
		if e.Tag == dwarf.TagCompileUnit {
			unit, files = e, nil
			if l, err := d.data.LineReader(e); err == nil && l != nil {
				files = l.Files()
			}
		}
		yield(e, unit, files)
	}
}

// calls is the chain at an address as pclntab's reader has it, without the
// innermost position.
func (d *goDWARF) calls(f *dwarfFunction, a uint64) []Call {
	chain := []Call{{Name: f.name}}
	for _, c := range f.inlined {
		for _, r := range c.ranges {
			if r[0] <= a && a < r[1] {
				last := &chain[len(chain)-1]
				last.File, last.Line = c.file, c.line
				chain = append(chain, Call{Name: c.name})
				break
			}
		}
	}
	out := make([]Call, len(chain))
	for i, c := range chain {
		out[len(chain)-1-i] = c
	}
	return out
}

// lines fills in the innermost positions of the addresses of one unit, sorted.
func (d *goDWARF) lines(t *testing.T, unit *dwarf.Entry, addrs []profile.ObjAddr) map[profile.ObjAddr]Call {
	t.Helper()
	l, err := d.data.LineReader(unit)
	if err != nil || l == nil {
		t.Fatal(err)
	}
	out := map[profile.ObjAddr]Call{}
	var e, before dwarf.LineEntry
	for l.Next(&e) == nil {
		if !before.EndSequence && before.File != nil {
			first := sort.Search(len(addrs), func(i int) bool { return uint64(addrs[i]) >= before.Address })
			for i := first; i < len(addrs) && uint64(addrs[i]) < e.Address; i++ {
				out[addrs[i]] = Call{File: before.File.Name, Line: before.Line}
			}
		}
		before = e
	}
	return out
}

// What a program's stripped copy's own tables say of a sample of all its
// code is what its debug information says.
func TestGoCallsAreDWARFs(t *testing.T) {
	dir := t.TempDir()
	path, stripped := filepath.Join(dir, "gofmt"), filepath.Join(dir, "stripped")
	command(t, dir, "go", "build", "-o", path, "cmd/gofmt")
	command(t, dir, "strip", "-o", stripped, path)
	compareDWARF(t, path, stripped)
}

func compareDWARF(t *testing.T, path, stripped string) {
	d := readGoDWARF(t, path)
	table, err := openPclntab(openFile(t, stripped))
	if err != nil || table == nil {
		t.Fatal(table, err)
	}
	var addrs []profile.ObjAddr
	var in []*dwarfFunction
	byUnit := map[*dwarf.Entry][]profile.ObjAddr{}
	for i := range d.functions {
		f := &d.functions[i]
		for a := f.start + 1; a < f.limit; a += 37 {
			if n := len(addrs); n > 0 && addrs[n-1] >= profile.ObjAddr(a) {
				continue
			}
			addrs, in = append(addrs, profile.ObjAddr(a)), append(in, f)
			byUnit[f.unit] = append(byUnit[f.unit], profile.ObjAddr(a))
		}
	}
	lines := map[profile.ObjAddr]Call{}
	for unit, as := range byUnit {
		for a, c := range d.lines(t, unit, as) {
			lines[a] = c
		}
	}
	got := make([]string, len(addrs))
	if err := table.Find(addrs, func(i int, calls []Call) { got[i] = spellCalls(calls) }); err != nil {
		t.Fatal(err)
	}
	differ, inlined := 0, 0
	for i, a := range addrs {
		want := d.calls(in[i], uint64(a))
		want[0].File, want[0].Line = lines[a].File, lines[a].Line
		if len(want) > 1 {
			inlined++
		}
		if want[0].File == "" && strings.Contains(got[i], " <autogenerated>:1 | ") {
			continue // it has no line there
		}
		if w := spellCalls(want); got[i] != w {
			if differ++; differ <= 12 {
				t.Logf("%v:\n  got %s\nDWARF %s", a, got[i], w)
			}
		}
	}
	t.Logf("%d addresses, %d with inlined calls, %d differ (%.3f %%)", len(addrs), inlined, differ, 100*float64(differ)/float64(len(addrs)))
	if len(addrs) < 10_000 || inlined < 1000 || differ > len(addrs)/1000 {
		t.Errorf("%d of %d differ", differ, len(addrs))
	}
}

func spellCalls(calls []Call) string {
	var b strings.Builder
	for _, c := range calls {
		fmt.Fprintf(&b, "%s %s:%d | ", c.Name, c.File, c.Line)
	}
	return b.String()
}
