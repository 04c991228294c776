// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"debug/elf"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// The real thing: each call out of _dl_runtime_resolve has such a rule, for one
// byte, and the rule of the leaf goes on behind it.
func TestKeptInLinker(t *testing.T) {
	o := open(t, "/lib64/ld-linux-x86-64.so.2")
	tables, _, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for i := range tables {
		rows := tables[i].Rows
		for k := 1; k+1 < len(rows); k++ {
			if r := rows[k].Rule; r.Op() == OpDerefSP && r.off() < 0 {
				found++
				if rows[k+1].Addr != rows[k].Addr+1 || rows[k-1].Rule != rows[k+1].Rule || !isOnKept(rows[k-1].Rule) {
					t.Errorf("%x: %s, then %x: %s", rows[k].Addr, r.Text(elf.EM_X86_64), rows[k+1].Addr, rows[k+1].Rule.Text(elf.EM_X86_64))
				}
			}
		}
	}
	if found < 3 {
		t.Errorf("%d calls from code with its CFA on rbx, want those of fxsave, xsave and xsavec", found)
	}
}

// A call of what is no function, or keeps nothing, changes nothing.
func TestKept(t *testing.T) {
	onRBX := bytecode{}.u8(opDefCFA).uleb(rbx).uleb(32)
	call := func(from, to int) []byte { return le.AppendUint32([]byte{0xe8}, uint32(to-from-5)) }
	for _, c := range []struct {
		name string
		to   int
		want string
	}{
		{"a function that saves it", 0x60, "10: CFA=R3+32\n18: CFA=*(SP-24)+32\n19: CFA=R3+32\n30: none"},
		{"a function that does not", 0x80, "10: CFA=R3+32\n30: none"},
		{"the middle of one", 0x64, "10: CFA=R3+32\n30: none"},
		{"nothing", 0x3000, "10: CFA=R3+32\n30: none"},
	} {
		code := make([]byte, textSize)
		copy(code[0x14:], call(0x14, c.to))
		s := &section{addr: frameAddr}
		cie := s.cie("zR", zR, nil)
		s.fde(cie, textAddr+0x10, 0x20, onRBX)
		s.fde(cie, textAddr+0x60, 0x10, bytecode{}.advance(2).cfaOffset(24).saved(rbx, 3))
		s.fde(cie, textAddr+0x80, 0x10, bytecode{}.advance(1).cfaOffset(16))
		got, _ := text(t, ehFrame(s), part{name: ".text", addr: textAddr, b: code, code: true})
		if !strings.Contains(got, c.want) {
			t.Errorf("call of %s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// musl and Go say nothing of the code that signal handlers return to.
func TestRestorers(t *testing.T) {
	var paths []string
	if found, _ := filepath.Glob("/lib/ld-musl-*.so.1"); len(found) > 0 {
		paths = append(paths, found...)
	} else {
		missing(t, exec.ErrNotFound)
	}
	program := filepath.Join(t.TempDir(), "go")
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", program, "../cmd/srprof").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, path := range append(paths, program) {
		o := open(t, path)
		tables, _, err := Build(o)
		if err != nil {
			t.Fatal(err)
		}
		signals := 0
		for i := range tables {
			for k, r := range tables[i].Rows {
				if r.Rule.Op() != OpSignal {
					continue
				}
				signals++
				var code [16]byte
				if err := o.ReadObj(code[:], tables[i].Base+1+profile.ObjAddr(r.Addr)); err != nil || !bytes.HasPrefix(code[:], amd64Restorer) && !bytes.HasPrefix(code[:], arm64Restorer) {
					t.Errorf("%s: signal return at %#x: % x, %v", path, r.Addr, code, err)
				}
				if limit := tables[i].Rows[k+1].Addr; limit-r.Addr > 10 {
					t.Errorf("%s: %d bytes of signal return", path, limit-r.Addr)
				}
			}
		}
		if signals != 1 {
			t.Errorf("%s: %d places to return to from signals, want 1", path, signals)
		}
	}
}
