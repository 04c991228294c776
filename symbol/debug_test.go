// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/dwarf"
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

const inlining = `volatile int sink;
static inline __attribute__((always_inline)) void innermost(int x) { sink = x; }
static __attribute__((noinline)) void local(int x) {
	innermost(x);
	sink = x + 1;
}
void __plain(int x) { local(x); sink = x; }
void plain(int x) __attribute__((alias("__plain")));
int main(void) { plain(1); return sink; }
`

// stripped builds a program, and what was stripped from it.
func stripped(t *testing.T) (program, debug *object.File, addrs []profile.ObjAddr) {
	t.Helper()
	dir := write(t, map[string]string{"a.c": inlining})
	command(t, dir, "gcc", "-g", "-O1", "-fno-optimize-sibling-calls", "-o", "a", "a.c")
	command(t, dir, "objcopy", "--only-keep-debug", "a", "a.debug")
	command(t, dir, "strip", "-o", "stripped", "a")
	for _, name := range []string{"local", "__plain"} {
		for _, l := range nm(t, filepath.Join(dir, "a")) {
			if l.name == name {
				for a := l.addr; a < l.addr+l.size; a++ {
					addrs = append(addrs, a)
				}
			}
		}
	}
	return openFile(t, filepath.Join(dir, "stripped")), openDebug(t, filepath.Join(dir, "a.debug")), addrs
}

func openDebug(t *testing.T, path string) *object.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	o, err := object.OpenDebug(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// stacks resolves the addresses and counts the chains of calls.
func stacks(p *profile.Profile, r *Resolver) (map[string]int, []Problem) {
	problems := r.Resolve(p, nil)
	got := map[string]int{}
	for i := range p.Addresses {
		var names []string
		for _, f := range p.Addresses[i].Frames {
			names = append(names, f.Name)
		}
		got[strings.Join(names, "<")]++
	}
	return got, problems
}

func TestDebugFile(t *testing.T) {
	program, debug, addrs := stripped(t)
	open := func(profile.MappingID) (*object.File, error) { return program, nil }
	for _, c := range []struct {
		name  string
		debug Debug
		want  []string // chains, and no others
	}{
		{"nothing", Debug{}, []string{"[object]"}},
		{"symbols", Debug{File: debug}, []string{"local", "plain"}},
		{"calls", Debug{Calls: DebugInfo(debug, dwarf.Options{})}, []string{"innermost<local", "local", "__plain"}},
		{"both", Debug{File: debug, Calls: DebugInfo(debug, dwarf.Options{})}, []string{"innermost<local", "local", "plain"}},
	} {
		asked := 0
		r := &Resolver{Open: open, Debug: func(f *object.File) (Debug, error) {
			asked++
			if f != program {
				t.Errorf("%s: asked for another object", c.name)
			}
			return c.debug, errors.New("no debug file here")
		}}
		p := mapped(t, program, addrs)
		got, problems := stacks(p, r)
		for _, w := range c.want {
			if got[w] == 0 {
				t.Errorf("%s: no address is in %s: %v", c.name, w, got)
			}
		}
		if len(got) != len(c.want) || asked != 1 {
			t.Errorf("%s: asked %d times, got %v, want %v", c.name, asked, got, c.want)
		}
		if c.name == "nothing" && (len(problems) != 1 || !strings.Contains(problems[0].Err.Error(), "no debug file here") ||
			!errors.Is(problems[0].Err, ErrNoSymbol) && !errors.Is(problems[0].Err, ErrNoTable)) {
			t.Errorf("problems: %v", problems)
		}
		if c.name == "both" {
			for i := range p.Addresses {
				for _, f := range p.Addresses[i].Frames {
					if filepath.Base(f.File) != "a.c" || f.Line < 2 || f.Line > 7 {
						t.Errorf("%s is at %s:%d", f.Name, f.File, f.Line)
					}
				}
			}
		}
	}
}

// When debug information has taken too much time, symbols have to do.
func TestDebugInfoTakesTooLong(t *testing.T) {
	program, debug, addrs := stripped(t)
	for _, file := range []*object.File{debug, nil} {
		r := &Resolver{Open: func(profile.MappingID) (*object.File, error) { return program, nil }, reading: maxReading + 1,
			Debug: func(*object.File) (Debug, error) {
				return Debug{File: file, Calls: DebugInfo(debug, dwarf.Options{})}, nil
			}}
		got, problems := stacks(mapped(t, program, addrs), r)
		if file != nil && (len(got) != 2 || got["local"] == 0 || got["plain"] == 0) {
			t.Errorf("with symbols: %v", got)
		}
		if file == nil && (len(problems) != 1 || !errors.Is(problems[0].Err, errReading)) {
			t.Errorf("without symbols: %v, %v", got, problems)
		}
	}
}

// Where all addresses have names, nobody looks for a debug file.
func TestDebugFileUnneeded(t *testing.T) {
	program, _, _ := stripped(t)
	r := &Resolver{Open: func(profile.MappingID) (*object.File, error) { return program, nil },
		Debug: func(*object.File) (Debug, error) {
			t.Error("asked for a debug file although there is no address to name")
			return Debug{}, nil
		}}
	b := profile.NewBuilder()
	b.Address(5, b.Mapping(profile.Mapping{Kind: profile.MappingAnonymous, Start: 1, Limit: 10}), false)
	r.Resolve(b.Profile(), nil)
}

func TestMiniDebug(t *testing.T) {
	dir := write(t, map[string]string{"a.c": inlining})
	command(t, dir, "gcc", "-O1", "-fno-optimize-sibling-calls", "-o", "a", "a.c")
	command(t, dir, "xz", "-k", "a")
	command(t, dir, "strip", "-o", "stripped", "a")
	command(t, dir, "objcopy", "--add-section", ".gnu_debugdata=a.xz", "stripped")
	bad := command(t, dir, "sh", "-c", "head -c 100 a.xz >bad.xz; cp stripped bad; objcopy --update-section .gnu_debugdata=bad.xz bad")
	if bad != "" {
		t.Log(bad)
	}
	var at profile.ObjAddr
	for _, l := range nm(t, filepath.Join(dir, "a")) {
		if l.name == "local" {
			at = l.addr
		}
	}
	for _, c := range []struct{ file, want, why string }{
		{"stripped", "local", ""}, {"bad", "[object]", "decompress .gnu_debugdata"},
	} {
		program := openFile(t, filepath.Join(dir, c.file))
		r := &Resolver{Open: func(profile.MappingID) (*object.File, error) { return program, nil },
			Debug: func(*object.File) (Debug, error) { return Debug{}, nil }}
		for range 2 { // the second time all over again: nothing of it was kept
			got, problems := stacks(mapped(t, program, []profile.ObjAddr{at}), r)
			if got[c.want] != 1 {
				t.Errorf("%s: %v, %v", c.file, got, problems)
			}
			if c.why != "" && (len(problems) != 1 || !strings.Contains(problems[0].Err.Error(), c.why)) {
				t.Errorf("%s: %v, want %s", c.file, problems, c.why)
			}
		}
	}
}
