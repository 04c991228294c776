// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// mixed is a profile with one address of each sort.
func mixed(program profile.Mapping, main profile.Addr) *profile.Profile {
	b := profile.NewBuilder()
	second := program
	second.Start, second.Limit = program.Start+1<<40, program.Limit+1<<40
	m1, m2 := b.Mapping(program), b.Mapping(second)
	kernel := b.Mapping(profile.Mapping{Kind: profile.MappingKernel, Path: profile.KernelPath, Start: 0xffff800000000000, Limit: ^profile.Addr(0)})
	jit := b.Mapping(profile.Mapping{Kind: profile.MappingAnonymous, Start: 0x1000, Limit: 0x2000})
	gone := b.Mapping(profile.Mapping{Start: 0x3000, Limit: 0x4000, Path: "/lib/libgone.so"})
	b.Address(main, m1, false)
	b.Address(main+1<<40, m2, false) // the same in another process
	b.Address(main, m1, true)        // returns to main's first byte: so the call is in what comes before
	b.Address(0xffffffff810002ff, kernel, false)
	b.Address(0xffffffff81000200, kernel, true)
	b.Address(0x1234, jit, false)
	b.Address(0x3456, gone, false)
	b.Address(0x5678, profile.NoMapping, false)
	return b.Profile()
}

func TestResolve(t *testing.T) {
	o := openFile(t, buildC(t, "-no-pie"))
	var main profile.Addr
	var before string
	for _, l := range nm(t, buildC(t, "-no-pie")) {
		if l.name == "main" {
			main = profile.Addr(l.addr)
		}
	}
	if f := resolve(t, o, []profile.ObjAddr{profile.ObjAddr(main) - 1})[0]; true {
		before = f.Name
	}
	text := o.Section(".text")
	p := mixed(profile.Mapping{
		Start: profile.Addr(text.ObjAddr) &^ 0xfff, Limit: profile.Addr(text.ObjAddr)&^0xfff + 0x2000,
		Offset: text.Offset &^ 0xfff, Path: "/bin/program",
	}, main)
	// For a fixed object, only its own address is right; here it has another.
	if o.Type().String() != "ET_EXEC" {
		t.Fatal(o.Type())
	}
	opens, kernelReads := 0, 0
	r := &Resolver{
		Open: func(id profile.MappingID) (*object.File, error) {
			opens++
			if p.Mappings[id].Path == "/lib/libgone.so" {
				return nil, fs.ErrNotExist
			}
			return o, nil
		},
		Kallsyms: func() (io.ReadCloser, error) {
			kernelReads++
			return io.NopCloser(strings.NewReader(kernelList)), nil
		},
	}
	problems := r.Resolve(p, nil)
	var names []string
	for i := range p.Addresses {
		f := p.Addresses[i].Frames
		if len(f) != 1 {
			t.Fatalf("address %d has %d frames", i, len(f))
		}
		if (f[0].Kind == profile.FrameKernel) != (i == 3 || i == 4) || f[0].Unknown != (f[0].Name[0] == '[') {
			t.Errorf("address %d: %+v", i, f[0])
		}
		names = append(names, f[0].Name)
	}
	if diff := cmp.Diff([]string{"main", "main", before, "last", "global", "[anonymous]", "[libgone.so]", "[unknown]"}, names); diff != "" {
		t.Error(diff)
	}
	var reasons []string
	for _, p := range problems {
		reasons = append(reasons, p.String())
	}
	want := []string{
		"[anonymous]: 1 address has no name: " + ErrAnonymous.Error(),
		"libgone.so: 1 address has no name: file does not exist",
		"[unknown]: 1 address has no name: " + ErrNoMapping.Error(),
	}
	if strings.HasPrefix(before, "[") {
		want = append(want, "program: 1 address has no name: "+ErrNoSymbol.Error())
	}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Error(diff)
	}
	if p.Mappings[0].BuildID != o.BuildID() || p.Mappings[1].BuildID != o.BuildID() || p.Mappings[4].BuildID != "" {
		t.Errorf("mappings %+v", p.Mappings)
	}
	if opens != 3 || kernelReads != 1 {
		t.Errorf("%d objects opened, kernel read %d times", opens, kernelReads)
	}

	// Again: nothing to do. One new address: only its object is touched.
	if r.Resolve(p, nil); opens != 3 || kernelReads != 1 {
		t.Error("work done twice")
	}
	p.Addresses = append(p.Addresses, profile.Address{Addr: main + 1})
	if r.Resolve(p, nil); opens != 4 || kernelReads != 1 || p.Addresses[len(p.Addresses)-1].Frames[0].Name != "main" {
		t.Errorf("%d opens, %+v", opens, p.Addresses[len(p.Addresses)-1])
	}
	// By ID: what has a name is left alone, what has none is tried again.
	if got := r.Resolve(p, []profile.AddressID{0, 3, 5, 5, 1000}); len(got) != 1 || got[0].Addresses != 1 || got[0].Err != ErrAnonymous || kernelReads != 1 {
		t.Errorf("got %v", got)
	}
}

func TestResolveHiddenKernel(t *testing.T) {
	b := profile.NewBuilder()
	m := b.Mapping(profile.Mapping{Kind: profile.MappingKernel})
	b.Address(0xffffffff81000000, m, false)
	reads := 0
	r := &Resolver{Kallsyms: func() (io.ReadCloser, error) {
		reads++
		return io.NopCloser(strings.NewReader("0000000000000000 T _stext\n")), nil
	}}
	for range 2 {
		problems := r.Resolve(b.Profile(), nil)
		if len(problems) != 1 || !errors.Is(problems[0].Err, ErrHidden) || problems[0].Object != "[kernel]" {
			t.Errorf("got %v", problems)
		}
		if f := b.Profile().Addresses[0].Frames[0]; f.Name != "[kernel]" || f.Kind != profile.FrameKernel || !f.Unknown {
			t.Errorf("got %+v", f)
		}
		b.Address(0xffffffff81000001, m, false)
	}
	if reads != 1 {
		t.Errorf("read %d times", reads)
	}
}

func TestResolveStripped(t *testing.T) {
	o := openFile(t, buildC(t, "-static", "-s"))
	p := mapped(t, o, []profile.ObjAddr{o.Entry()})
	r := &Resolver{Open: func(profile.MappingID) (*object.File, error) { return o, nil }}
	problems := r.Resolve(p, nil)
	if len(problems) != 1 || !(errors.Is(problems[0].Err, ErrNoTable) || errors.Is(problems[0].Err, ErrNoSymbol)) {
		t.Errorf("got %v", problems)
	}
	if got := p.Addresses[0].Frames[0].Name; got != "[object]" {
		t.Errorf("got %q", got)
	}
}

// Nothing at all is given: no panic, all unknown.
func TestResolveWithoutSources(t *testing.T) {
	b := profile.NewBuilder()
	b.Address(1, b.Mapping(profile.Mapping{Limit: 10, Path: "/x"}), false)
	p := b.Profile()
	if got := new(Resolver).Resolve(p, nil); len(got) != 1 || got[0].Err != ErrNoTable {
		t.Errorf("got %v", got)
	}
	if got := new(Resolver).Resolve(new(profile.Profile), nil); got != nil {
		t.Errorf("got %v", got)
	}
}

// The vDSO has .dynsym only and no file: it is read from memory.
func TestResolveVDSO(t *testing.T) {
	var start, limit profile.Addr
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(line, "[vdso]\n") {
			fmt.Sscanf(line, "%x-%x", &start, &limit)
		}
	}
	if start == 0 {
		t.Skip("this kernel has no vDSO")
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	image := make([]byte, limit-start)
	if _, err := mem.ReadAt(image, int64(start)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/vdso", image, 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := object.New(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	b := profile.NewBuilder()
	m := b.Mapping(profile.Mapping{Kind: profile.MappingVDSO, Start: start, Limit: limit, Path: "[vdso]"})
	lines := sizedOnly(nm(t, "-D", dir+"/vdso"))
	for _, l := range lines {
		b.Address(start+profile.Addr(l.addr)+profile.Addr(l.size), m, true)
	}
	p := b.Profile()
	r := &Resolver{Open: func(profile.MappingID) (*object.File, error) { return o, nil }}
	if problems := r.Resolve(p, nil); len(problems) != 0 {
		t.Error(problems)
	}
	for i := range p.Addresses {
		if got := p.Addresses[i].Frames[0].Name; !strings.Contains(got, "vdso") && !strings.Contains("clock_gettime gettimeofday time getcpu clock_getres getrandom", got) {
			t.Errorf("%v: %q", p.Addresses[i].Addr, got)
		}
	}
}
