// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

func TestStubs(t *testing.T) {
	const lazyFirst = "\xff\x35\x01\x02\x03\x04\xff\x25\x01\x02\x03\x04\x0f\x1f\x40\x00"
	const lazy = "\xff\x25\x01\x02\x03\x04\x68\x00\x00\x00\x00\xe9\x01\x02\x03\x04"
	const endbr = "\xf3\x0f\x1e\xfa\x68\x00\x00\x00\x00\xf2\xe9\x01\x02\x03\x04\x90"
	const endbrJump = "\xf3\x0f\x1e\xfa\xf2\xff\x25\x01\x02\x03\x04\x0f\x1f\x44\x00\x00"
	for _, c := range []struct{ name, section, code, want string }{
		{"lazy", ".plt", lazyFirst + lazy + lazy, lines("0: CFA=SP+16", "6: CFA=SP+24", "10: CFA=PLT", "30: none")},
		{"lazy with endbr64", ".plt", lazyFirst + endbr + endbr,
			lines("0: CFA=SP+16", "6: CFA=SP+24", "10: CFA=SP+8", "19: CFA=SP+16", "20: CFA=SP+8", "29: CFA=SP+16", "30: none")},
		{"second table", ".plt.sec", endbrJump + endbrJump, lines("0: CFA=SP+8", "20: none")},
		{"got", ".plt.got", "\xff\x25\x01\x02\x03\x04\x66\x90", lines("0: CFA=SP+8", "8: none")},
		{"static", ".iplt", "\xff\x25\x01\x02\x03\x04\x66\x90", lines("0: CFA=SP+8", "8: none")},
		{"other code", ".text", lazyFirst, "0: none"},
	} {
		if got, _ := text(t, part{name: c.section, addr: textAddr, code: true, b: []byte(c.code)}); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	// What the linker described is left to it.
	s := section{addr: frameAddr}
	s.fde(s.cie("zR", zR, nil), textAddr, 0x20, nil)
	if got, _ := text(t, ehFrame(&s), part{name: ".plt", addr: textAddr, code: true, b: []byte(lazyFirst + lazy)}); got != "0: CFA=SP+8\n20: none" {
		t.Error(got)
	}
}

func TestStubsARM64(t *testing.T) {
	const btiC, push, adrp = "\x5f\x24\x03\xd5", "\xf0\x7b\xbf\xa9", "\x10\x00\x00\x90"
	for _, c := range []struct{ code, want string }{
		{push + strings.Repeat(adrp, 11), "0: CFA=SP+0 4: CFA=SP+16 RA=*(CFA-8) 20: CFA=SP+0 30: none"},
		{btiC + push + strings.Repeat(adrp, 10), "0: CFA=SP+0 8: CFA=SP+16 RA=*(CFA-8) 20: CFA=SP+0 30: none"},
		{strings.Repeat(adrp, 12), "0: CFA=SP+0 30: none"},
	} {
		tables, _, err := Build(build(t, elf.EM_AARCH64, part{name: ".plt", addr: textAddr, code: true, b: []byte(c.code)}))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, r := range tables[0].Rows {
			all = append(all, fmt.Sprintf("%x: %s", r.Addr, r.Rule.Text(elf.EM_AARCH64)))
		}
		if got := strings.Join(all, " "); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// Go's code keeps frame pointers, C code beside it has its own rules.
func TestGo(t *testing.T) {
	s := section{addr: frameAddr}
	s.fde(s.cie("zR", zR, nil), textAddr+0x100, 0x20, nil)
	got, _ := text(t, ehFrame(&s), part{name: ".gopclntab"}, part{name: ".text", addr: textAddr + 0x40, code: true, b: make([]byte, 0x400)})
	want := lines("0: none", "40: frame pointer", "100: CFA=SP+8", "120: frame pointer", "440: none")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if testing.Short() {
		return
	}
	o := open(t, "/proc/self/exe") // this test is a Go program
	tables, _, err := Build(o)
	if err != nil || len(tables) != 1 {
		t.Fatal(tables, err)
	}
	if r := tables[0].Rule(o.Entry()); r.Op() != OpFramePointer {
		t.Errorf("got %s", r.Text(o.Machine()))
	}
}

// Without section headers, what the program headers lead to says the same.
func TestWithoutSections(t *testing.T) {
	dir := t.TempDir()
	path := compile(t, "#include <stdio.h>\nint main(int c, char **v) { return printf(\"%d %s\", c, v[0]); }", "-O2")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o := open(t, path)
	copy(b[40:], make([]byte, 8)) // e_shoff
	bare := filepath.Join(dir, "bare")
	if err := os.WriteFile(bare, b, 0o600); err != nil {
		t.Fatal(err)
	}
	want, _, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	got, stats, err := Build(open(t, bare))
	if err != nil || stats.Functions == 0 {
		t.Fatal(stats, err)
	}
	for _, r := range want[0].Rows {
		a := want[0].Base + profile.ObjAddr(r.Addr)
		if g := got[0].Rule(a); g != r.Rule && !undescribed(o, nil, uint64(a)) {
			t.Errorf("%v: got %s, want %s", a, g.Text(o.Machine()), r.Rule.Text(o.Machine()))
		}
	}
}

// Other architectures are refused, and a file with nothing in it is all gap.
func TestNothing(t *testing.T) {
	if _, _, err := Build(build(t, elf.EM_RISCV)); err == nil {
		t.Error("RISC-V is not known")
	}
	if got, stats := text(t); got != "0: none" || stats.Functions != 0 {
		t.Error(got, stats)
	}
	tables, _, _ := Build(build(t, elf.EM_X86_64))
	for _, a := range []profile.ObjAddr{0, textAddr - 1, textAddr + textSize} {
		if r := tables[0].Rule(a); r.Op() != OpNone {
			t.Errorf("%v: %v", a, r)
		}
	}
}

// A C++ program with exceptions, built by each compiler that there is, with
// its description in either section.
func TestReadelfBuilt(t *testing.T) {
	const cxx = `
#include <stdexcept>
#include <string>
#include <vector>
#include <algorithm>
struct alignas(64) wide { double v[16]; };
static double f(wide w, int n) { if (n > 3) throw std::runtime_error(std::to_string(w.v[n])); return w.v[n]; }
int main(int argc, char **argv) {
	std::vector<std::string> v(argv, argv + argc);
	std::sort(v.begin(), v.end());
	wide w{};
	try { for (int i = 0; i < argc + 3; i++) w.v[0] += f(w, i); } catch (std::exception &e) { return e.what()[0]; }
	return (int)w.v[0];
}`
	dir := t.TempDir()
	source := filepath.Join(dir, "p.cc")
	if err := os.WriteFile(source, bytes.TrimSpace([]byte(cxx)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, compiler := range []string{"g++", "clang++"} {
		for _, flags := range []string{"-O2", "-O3 -mavx -mno-red-zone", "-O2 -static", "-O2 -fcf-protection -Wl,-z,ibtplt", "-O2 -Wl,-z,lazy -g -fno-asynchronous-unwind-tables"} {
			path := filepath.Join(dir, "p")
			if out, err := exec.Command(compiler, append(strings.Fields(flags), "-o", path, source)...).CombinedOutput(); err != nil {
				t.Logf("%s %s: %v %.100s", compiler, flags, err, out)
				continue
			}
			rows, diffs, invalid := differences(t, open(t, path), readelf(t, path))
			if len(diffs) > 0 || rows < 20 {
				t.Errorf("%s %s: %d rows, %v", compiler, flags, rows, diffs[:min(5, len(diffs))])
			}
			t.Logf("%s %s: %d rows, %d invalid", compiler, flags, rows, len(invalid))
		}
	}
}
