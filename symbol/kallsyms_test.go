// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/carverauto/serviceradar-profiler/profile"
)

const kernelList = `0000000000000000 A fixed_percpu_data
ffffffff81000000 T srso_alias_untrain_ret
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 t local
ffffffff81000100 W weak
ffffffff81000100 T __global
ffffffff81000100 T global
ffffffff81000200 T last
ffffffff81000300 D data
ffffffff81000400 T _etext
ffffffffc0b00000 t second	[two]
ffffffffc0a00010 t nf_conntrack_in	[nf_conntrack]
ffffffffc0a00000 t first.isra.0	[nf_conntrack]
ffffffffc0001000 t bpf_prog_6deef7357e7b4530_sd_fw_egress	[bpf]
`

func findIn(t testing.TB, r io.Reader, addrs ...profile.ObjAddr) []string {
	t.Helper()
	names := make([]string, len(addrs))
	if err := findKernel(r, addrs, func(i int, s Symbol) {
		names[i] = s.Name
		if addrs[i] < s.Start || addrs[i] >= s.Limit {
			t.Errorf("%v: outside of %+v", addrs[i], s)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestKallsyms(t *testing.T) {
	cases := []struct {
		a    profile.ObjAddr
		want string
	}{
		{0x1000, ""},
		{0xffffffff80ffffff, ""},
		{0xffffffff81000000, "srso_alias_untrain_ret"}, // fewest underscores
		{0xffffffff810000ff, "srso_alias_untrain_ret"},
		{0xffffffff81000100, "global"},
		{0xffffffff810002ff, "last"},
		{0xffffffff81000300, ""}, // data
		{0xffffffff81000400, "_etext"},
		{0xffffffff82000400, ""}, // too far from anything
		{0xffffffffc0001fff, "bpf_prog_6deef7357e7b4530_sd_fw_egress"},
		{0xffffffffc0a0000f, "first.isra.0"},
		{0xffffffffc0a00010, "nf_conntrack_in"},
		{0xffffffffc0b00000, "second"},
		{0xffffffffc0b0ffff, "second"},
		{0xffffffffc0b10000, ""}, // code that is not in the list
		{^profile.ObjAddr(0), ""},
	}
	var addrs []profile.ObjAddr
	var want []string
	for _, c := range cases {
		addrs, want = append(addrs, c.a), append(want, c.want)
	}
	for _, r := range []io.Reader{strings.NewReader(kernelList), iotest.OneByteReader(strings.NewReader(kernelList)),
		strings.NewReader(strings.TrimSuffix(kernelList, "\n")),
		strings.NewReader(strings.Repeat("x", 3*chunkSize) + "\nnonsense\n\n" + kernelList)} {
		if got := findIn(t, r, addrs...); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func TestKallsymsHidden(t *testing.T) {
	none := func(int, Symbol) { t.Error("found a name") }
	addrs := []profile.ObjAddr{0xffffffff81000000}
	list := "0000000000000000 T _stext\n0000000000000000 t local\t[module]\n"
	if err := findKernel(strings.NewReader(list), addrs, none); !errors.Is(err, ErrHidden) {
		t.Errorf("got %v, want ErrHidden", err)
	}
	if err := findKernel(strings.NewReader(""), addrs, none); !errors.Is(err, ErrNoTable) {
		t.Errorf("got %v, want ErrNoTable", err)
	}
	if err := findKernel(iotest.ErrReader(io.ErrClosedPipe), addrs, none); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

// The running kernel's own list: each text symbol resolves to a name at its
// address.
func TestRunningKernel(t *testing.T) {
	f, err := openKallsyms()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names := map[profile.ObjAddr][]string{}
	var addrs []profile.ObjAddr
	for s := bufio.NewScanner(f); s.Scan(); {
		var a profile.ObjAddr
		var kind, name string
		fmt.Sscanf(s.Text(), "%x %s %s", &a, &kind, &name)
		if strings.Contains("TtWw", kind) && a != 0 {
			if names[a] == nil {
				addrs = append(addrs, a)
			}
			names[a] = append(names[a], name)
		}
	}
	if len(addrs) == 0 {
		if os.Geteuid() == 0 {
			t.Log("root, and still hidden: kernel.kptr_restrict is 2")
		}
		t.Skip(ErrHidden)
	}
	slices.Sort(addrs)
	got := make([]string, len(addrs))
	k := &kallsyms{openKallsyms}
	if err := k.Find(addrs, func(i int, s Symbol) { got[i] = s.Name }); err != nil {
		t.Fatal(err)
	}
	for i, a := range addrs {
		if !slices.Contains(names[a], got[i]) {
			t.Errorf("%v: got %q, want one of %q", a, got[i], names[a])
		}
	}
	t.Logf("%d addresses", len(addrs))
}

// What is in a module is in another object than the kernel itself. The profile
// is collected with one mapping for both.
func TestKernelModules(t *testing.T) {
	const list = kernelList + "ffffffffc0c00000 t ftrace_trampoline\t[__builtin__ftrace]\nffffffffc0c00400 T __this_module\t[odd name]\n"
	b := profile.NewBuilder()
	kernel := b.Mapping(profile.Mapping{Kind: profile.MappingKernel, Path: profile.KernelPath, Start: 1 << 63, Limit: ^profile.Addr(0)})
	b.Mapping(profile.Mapping{Path: "/bin/x"})
	for _, a := range []profile.Addr{0xffffffff81000250, 0xffffffffc0a00012, 0xffffffffc0a00004, 0xffffffffc0001100, 0xffffffffc0b00000, 0xffffffffc0c00020} {
		b.Address(a, kernel, false)
	}
	p := b.Profile()
	r := &Resolver{Kallsyms: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(list)), nil }}
	check := func(want ...string) {
		t.Helper()
		r.Resolve(p, nil)
		var got []string
		for i := range p.Addresses {
			a := &p.Addresses[i]
			m := p.Mapping(a.Mapping)
			got = append(got, a.Frames[0].Name+" "+m.Object())
			if !m.Contains(a.Addr) || m.Kind != profile.MappingKernel || a.Frames[0].Kind != profile.FrameKernel {
				t.Errorf("%v: %+v in %+v", a.Addr, a.Frames[0], m)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	names := []string{"last [kernel]", "nf_conntrack_in [nf_conntrack]", "first [nf_conntrack]",
		"bpf_prog_6deef7357e7b4530_sd_fw_egress [bpf]", "second [two]", "ftrace_trampoline [ftrace]"}
	check(names...)
	if len(p.Mappings) != 6 {
		t.Errorf("%d mappings, want one for each of four modules: %+v", len(p.Mappings), p.Mappings)
	}
	// A profile grows after it was first symbolized.
	if id := b.Address(0xffffffffc0a00012, kernel, false); id != 1 {
		t.Errorf("an address that was found in a module is new: %d", id)
	}
	b.Mapping(profile.Mapping{Path: "/bin/y"})
	b.Address(0xffffffffc0a00008, kernel, false)
	check(append(names, "first [nf_conntrack]")...)
	if len(p.Mappings) != 7 {
		t.Errorf("a module has two mappings: %+v", p.Mappings)
	}
}

// The kernel's own functions stay where they are until it is booted anew; where
// a module is there may be another one in the next session.
func TestCacheOfKernel(t *testing.T) {
	cache := NewCache(1 << 20)
	reads := 0
	session := func(list string, addrs ...profile.Addr) []string {
		b := profile.NewBuilder()
		kernel := b.Mapping(profile.Mapping{Kind: profile.MappingKernel, Path: profile.KernelPath, Start: 1 << 63, Limit: ^profile.Addr(0)})
		for _, a := range addrs {
			b.Address(a, kernel, false)
		}
		r := &Resolver{Cache: cache, Kallsyms: func() (io.ReadCloser, error) {
			reads++
			return io.NopCloser(strings.NewReader(list)), nil
		}}
		r.Resolve(b.Profile(), nil)
		return namesOf(b.Profile())
	}
	const own, module = 0xffffffff81000250, 0xffffffffc0b00010
	if got := session(kernelList, own, module); !slices.Equal(got, []string{"last", "second"}) || reads != 1 {
		t.Errorf("%q after %d reads", got, reads)
	}
	if got := session(kernelList, own); !slices.Equal(got, []string{"last"}) || reads != 1 {
		t.Errorf("%q after %d reads", got, reads)
	}
	list := strings.ReplaceAll(kernelList, "second\t[two]", "another\t[three]")
	if got := session(list, own, module); !slices.Equal(got, []string{"last", "another"}) || reads != 2 {
		t.Errorf("%q after %d reads", got, reads)
	}
}
