// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

var cProgram = map[string]string{
	"a.c": `
#include <stdio.h>
#include <stdlib.h>
int assembly(int); int assembly2(void); int sized(void);
static __attribute__((noinline)) int local(int n) { return n * 3; }
__attribute__((noinline)) int global(int n) { return local(n) + 1; }
__attribute__((weak)) int weak(int n) { return n; }
extern int _alias(int) __attribute__((alias("global")));
static int real(void) { return 7; }
static int (*choose(void))(void) { return real; }
int indirect(void) __attribute__((ifunc("choose")));
int main(int argc, char **argv) { printf("%d %s\n", global(argc) + weak(argc) + _alias(1) + indirect() + assembly(1) + assembly2() + sized(), getenv("HOME")); return 0; }
`,
	// Two functions without a size, one with, padding and code without a name after it.
	"b.s": `
.text
.globl assembly
assembly: leal 1(%rdi), %eax
  ret
.globl assembly2
assembly2: xorl %eax, %eax
  nop
  ret
.globl sized
.type sized, @function
sized: xorl %eax, %eax
  ret
.size sized, . - sized
  .skip 64, 0xcc
.section .note.GNU-stack,"",@progbits
`,
}

func buildC(t testing.TB, args ...string) string {
	t.Helper()
	dir := write(t, cProgram)
	command(t, dir, append([]string{"gcc", "-O1", "-o", "a.out", "a.c", "b.s"}, args...)...)
	return filepath.Join(dir, "a.out")
}

// Every function that nm lists resolves to a name that nm has for the same
// place, at its first and last byte, in all kinds of C programs.
func TestFunctionsAgreeWithNM(t *testing.T) {
	for _, args := range [][]string{
		{"-pie", "-fPIE"}, {"-no-pie"}, {"-static"}, {"-static-pie", "-fPIE"},
		{"-shared", "-fPIC"}, {"-pie", "-fPIE", "-flto"}, {"-no-pie", "-Wl,-z,noseparate-code"},
		{"-pie", "-fPIE", "-Wl,-Ttext-segment=0x10000000"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			path := buildC(t, args...)
			checkNM(t, path, nm(t, path))
		})
	}
}

func TestDynamicSymbolsAgreeWithNM(t *testing.T) {
	path := buildC(t, "-shared", "-fPIC", "-s")
	checkNM(t, path, sizedOnly(nm(t, "-D", path)))
}

func TestLibcAgreesWithNM(t *testing.T) {
	path := libc(t)
	checkNM(t, path, sizedOnly(nm(t, "-D", path)))
}

func sizedOnly(lines []nmLine) []nmLine {
	return slices.DeleteFunc(lines, func(l nmLine) bool { return l.size == 0 })
}

// libc is the path of the C library that programs here are linked with.
func libc(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 6 && strings.HasSuffix(f[5], "/libc.so.6") {
				return f[5]
			}
		}
	}
	out, err := exec.Command("gcc", "-print-file-name=libc.so.6").Output()
	path := strings.TrimSpace(string(out))
	if err != nil || !filepath.IsAbs(path) {
		t.Fatal("no libc.so.6 found: ", err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func checkNM(t *testing.T, path string, lines []nmLine) {
	t.Helper()
	o := openFile(t, path)
	lines = slices.DeleteFunc(lines, func(l nmLine) bool { // nm has weak data as W, too
		return !slices.ContainsFunc(o.Sections(), func(s object.Section) bool { return s.Executable() && s.Contains(l.addr) })
	})
	names := map[profile.ObjAddr][]string{} // of the symbols that start there
	for _, l := range lines {
		names[l.addr] = append(names[l.addr], withoutVersion(l.name))
	}
	var addrs []profile.ObjAddr
	starts := map[profile.ObjAddr]profile.ObjAddr{}
	for _, l := range lines {
		for _, a := range []profile.ObjAddr{l.addr, l.addr + max(l.size, 1) - 1} {
			// Skip ends in which another symbol starts: brute force checks those.
			if _, nested := names[a]; a != l.addr && nested {
				continue
			}
			if _, ok := starts[a]; !ok {
				addrs = append(addrs, a)
			}
			starts[a] = max(starts[a], l.addr)
		}
	}
	wrong := 0
	for i, f := range resolve(t, o, addrs) {
		if want := names[starts[addrs[i]]]; !slices.Contains(want, f.SystemName) && wrong < 10 {
			t.Errorf("%v: got %q, want one of %q", addrs[i], f.SystemName, want)
			wrong++
		}
	}
	t.Logf("%d addresses of %d functions", len(addrs), len(names))
}

// The rules of elfTable, written down a second time, without speed.
func bruteForce(o *object.File, symbols []elf.Symbol, a profile.ObjAddr, complete bool) string {
	rank := func(s *elf.Symbol) (r int) {
		switch elf.ST_BIND(s.Info) {
		case elf.STB_LOCAL:
		case elf.STB_WEAK:
			r = 2
		default:
			r = 4
		}
		if elf.ST_TYPE(s.Info) != elf.STT_NOTYPE {
			r++
		}
		return r
	}
	underscores := func(s string) int { return len(s) - len(strings.TrimLeft(s, "_")) }
	var covering, before *elf.Symbol
	better := func(s, old *elf.Symbol) bool {
		switch {
		case old == nil || s.Value != old.Value:
			return old == nil || s.Value > old.Value
		case (s.Size > 0) != (old.Size > 0):
			return s.Size > 0
		case rank(s) != rank(old):
			return rank(s) > rank(old)
		}
		return underscores(s.Name) < underscores(old.Name)
	}
	for i := range symbols {
		s := &symbols[i]
		kind := elf.ST_TYPE(s.Info)
		if s.Name == "" || int(s.Section) >= len(o.Sections()) || (kind != elf.STT_FUNC && kind != elf.STT_NOTYPE && kind != elf.STT_GNU_IFUNC) {
			continue
		}
		section := &o.Sections()[s.Section]
		if !section.Executable() || !section.Contains(profile.ObjAddr(s.Value)) || !section.Contains(a) || uint64(a) < s.Value || (s.Size == 0 && !complete) {
			continue
		}
		if uint64(a)-s.Value < s.Size && better(s, covering) {
			covering = s
		}
		if better(s, before) {
			before = s
		}
	}
	switch {
	case covering != nil:
		return covering.Name
	case before != nil && before.Size == 0:
		return before.Name
	}
	return ""
}

func TestELFAgreesWithBruteForce(t *testing.T) {
	static, dynamic := buildC(t, "-static"), buildC(t, "-pie", "-fPIE")
	for _, c := range []struct{ path, table string }{{static, ".symtab"}, {dynamic, ".symtab"}, {libc(t), ".dynsym"}} {
		f, err := elf.Open(c.path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		symbols, err := f.Symbols()
		if c.table == ".dynsym" {
			symbols, err = f.DynamicSymbols()
		}
		if err != nil {
			t.Fatal(err)
		}
		o := openFile(t, c.path)
		text := o.Section(".text")
		// All symbols' edges in .text, and a comb over all of it.
		want := map[profile.ObjAddr]string{}
		step := profile.ObjAddr(max(text.Size/1500, 1))
		for a := text.ObjAddr; text.Contains(a); a += step {
			want[a] = ""
		}
		for i, s := range symbols {
			if a := profile.ObjAddr(s.Value); i%max(len(symbols)/400, 1) == 0 && text.Contains(a) {
				for _, edge := range []profile.ObjAddr{a - 1, a, a + profile.ObjAddr(s.Size) - 1, a + profile.ObjAddr(s.Size)} {
					want[edge] = ""
				}
			}
		}
		var addrs []profile.ObjAddr
		for a := range want {
			want[a] = withoutVersion(bruteForce(o, symbols, a, c.table == ".symtab"))
			addrs = append(addrs, a)
		}
		slices.Sort(addrs)
		got := map[profile.ObjAddr]string{}
		if err := openELF(o, c.table).Find(addrs, func(i int, s Symbol) {
			got[addrs[i]] = s.Name
			if addrs[i] < s.Start || addrs[i] >= s.Limit {
				t.Errorf("%v: in symbol %+v", addrs[i], s)
			}
		}); err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, a := range addrs {
			if got[a] != want[a] {
				t.Errorf("%s %v: got %q, want %q", c.path, a, got[a], want[a])
			}
			if got[a] != "" {
				named++
			}
		}
		t.Logf("%d addresses, %d with a name", len(addrs), named)
	}
}

func TestPLT(t *testing.T) {
	for _, args := range [][]string{
		{"-pie", "-fPIE"}, {"-no-pie"}, {"-no-pie", "-fcf-protection=full", "-Wl,-z,ibtplt"},
		{"-pie", "-fPIE", "-Wl,-z,now"}, {"-shared", "-fPIC", "-s"},
	} {
		path := buildC(t, args...)
		// objdump -d prints "0000000000001040 <printf@plt>:".
		want := map[profile.ObjAddr]string{}
		for line := range strings.Lines(command(t, "", "objdump", "-d", "-j", ".plt", "-j", ".plt.sec", "-j", ".plt.got", path)) {
			var a profile.ObjAddr
			var name string
			if n, _ := fmt.Sscanf(line, "%x <%s", &a, &name); n == 2 && strings.HasSuffix(name, "@plt>:") && !strings.HasPrefix(name, "*ABS*") {
				want[a] = strings.TrimSuffix(name, ">:")
			}
		}
		if len(want) == 0 {
			t.Fatalf("%v: objdump lists no stubs", args)
		}
		var addrs []profile.ObjAddr
		for a := range want {
			addrs = append(addrs, a, a+5)
		}
		for i, f := range resolve(t, openFile(t, path), addrs) {
			if w := want[addrs[i]&^7]; f.Name != w {
				t.Errorf("%v: %v: got %q, want %q", args, addrs[i], f.Name, w)
			}
		}
	}
}

func TestPLTInstructions(t *testing.T) {
	check := func(want profile.ObjAddr, ok bool, got profile.ObjAddr, gotOK bool) {
		t.Helper()
		if got != want || ok != gotOK {
			t.Errorf("got %v %v, want %v %v", got, gotOK, want, ok)
		}
	}
	a, ok := slotAMD64([]byte("\xf3\x0f\x1e\xfa\xff\x25\xfa\x2f\x00\x00\x66\x0f\x1f\x44\x00\x00"), 0x1000)
	check(0x1000+10+0x2ffa, true, a, ok)
	a, ok = slotAMD64([]byte("\xf3\x0f\x1e\xfa\x68\x00\x00\x00\x00\xf2\xe9\xd1\xff\xff\xff\x90"), 0x1000)
	check(0, false, a, ok)
	// adrp x16, 0x11000 ; ldr x17, [x16, #0xfb0] ; add x16, x16, #0xfb0 ; br x17, at 0x690
	a, ok = slotARM64([]byte("\x90\x00\x00\xb0\x11\xda\x47\xf9\x10\xc2\x3e\x91\x20\x02\x1f\xd6"), 0x690)
	check(0x11fb0, true, a, ok)
}

func TestWithoutVersion(t *testing.T) {
	for in, want := range map[string]string{
		"memcpy@@GLIBC_2.14":          "memcpy",
		"memcpy@GLIBC_2.2.5":          "memcpy",
		"memcpy":                      "memcpy",
		"@":                           "@",
		"example.com/a@v1.2/b.(*T).F": "example.com/a@v1.2/b.(*T).F",
	} {
		if got := withoutVersion(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
