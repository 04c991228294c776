// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// buildFrameless compiles a Go program for an architecture.
func buildFrameless(t testing.TB, arch string) *object.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "frameless")
	c := exec.Command("go", "build", "-o", path, "../profiler/testdata/frameless")
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return open(t, path)
}

// symbolAt returns where a function begins and ends.
func symbolAt(t *testing.T, o *object.File, name string) (start, limit profile.ObjAddr) {
	t.Helper()
	f, err := elf.NewFile(o)
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == name {
			return profile.ObjAddr(s.Value), profile.ObjAddr(s.Value + s.Size)
		}
	}
	t.Fatalf("no %s", name)
	return 0, 0
}

// On either architecture: a function without a frame is left by its caller's SP,
// one with a frame by frame pointer but at its ends, and those that switch
// stacks by frame pointer throughout.
func TestFramelessGo(t *testing.T) {
	for arch, none := range map[string]string{"amd64": "CFA=SP+8", "arm64": "CFA=SP+0"} {
		o := buildFrameless(t, arch)
		tables, stats, err := Build(o)
		if err != nil || len(stats.Unexpressed) > 0 || stats.Rows > Bound(o) {
			t.Fatalf("%s: %+v, %v, bound %d", arch, stats, err, Bound(o))
		}
		rules := func(name string) string {
			start, limit := symbolAt(t, o, name)
			var all []string
			for a := start; a < limit; a++ {
				if r := tables[0].Rule(a).Text(o.Machine()); len(all) == 0 || all[len(all)-1] != r {
					all = append(all, r)
				}
			}
			return strings.Join(all, ", ")
		}
		if got := rules("main.leaf"); got != none {
			t.Errorf("%s: leaf: %s", arch, got)
		}
		if got := rules("main.middle"); !strings.HasPrefix(got, none+", ") || !strings.Contains(got, "frame pointer, "+none) {
			t.Errorf("%s: middle: %s", arch, got)
		}
		for _, name := range []string{"runtime.systemstack.abi0", "runtime.mcall", "runtime.asmcgocall.abi0", "runtime.goexit.abi0"} {
			if got := rules(name); got != "frame pointer" {
				t.Errorf("%s: %s: %s", arch, name, got)
			}
		}
	}
}

// C's way into Go keeps to pcsp throughout: its frame pointer leads to a record
// that has no return address.
func TestCrosscall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gocgo")
	c := exec.Command("go", "build", "-o", path, "../test/programs/gocgo")
	c.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o := open(t, path)
	if o.Machine() != elf.EM_X86_64 {
		t.Skip("amd64 only")
	}
	tables, _, err := Build(o)
	if err != nil {
		t.Fatal(err)
	}
	start, limit := symbolAt(t, o, "crosscall2")
	for a := start; a < limit; a++ {
		switch r := tables[0].Rule(a).Text(o.Machine()); {
		case r == "CFA=SP+8" && (a == start || a == limit-1): // nothing is pushed
		case strings.HasPrefix(r, "CFA=SP+") && strings.HasSuffix(r, " BP=*(CFA-16)") && a != start && a != limit-1:
		case r == "frame pointer" && a == limit-2: // BP is that of its first record again
		default:
			t.Errorf("%+d: %s", a-start, r)
		}
	}
}

// goTable assembles a table of one function.
func goTable(magic uint32, flag int, flags uint8, pcsp []byte) []byte {
	const header, size = 72, 0x100
	b := make([]byte, header)
	le.PutUint32(b, magic)
	b[6], b[7] = 1, 8
	put := func(i int, v int) { le.PutUint64(b[8+8*i:], uint64(v)) }
	tab := append([]byte{0}, pcsp...)
	functab := header + 64
	put(0, 1)
	put(2, textAddr+0x40) // runtime.text
	put(3, header)
	put(6, header)
	put(7, functab)
	b = append(b, tab...)
	b = append(b, make([]byte, functab-len(b))...)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, 16)
	b = binary.LittleEndian.AppendUint32(b, size)
	b = append(b, make([]byte, 4)...)
	fn := make([]byte, goFunctionIs)
	le.PutUint32(fn[goPCSPAt:], 1)
	fn[flag] = flags
	return append(b, fn...)
}

func goObject(t testing.TB, table []byte) *object.File {
	return build(t, elf.EM_X86_64, part{name: ".gopclntab", addr: frameAddr, b: table},
		part{name: ".text", addr: textAddr + 0x40, code: true, b: bytes.Repeat([]byte{0x90}, 0x200)})
}

func TestPCSP(t *testing.T) {
	frame := []byte{2, 4, 16, 3, 48, 0x10, 47, 5, 15, 1, 0} // 0 for 4 bytes, 8 for 3, 32 for 16, 8 for 5, 0 for 1
	for _, c := range []struct {
		name  string
		magic uint32
		flag  int
		flags uint8
		pcsp  []byte
		want  string
	}{
		{"a frame", object.MagicGo120, goFlagAt120, 0, frame, "40: CFA=SP+8\n44: CFA=SP+16 BP=*(CFA-16)\n47: frame pointer\n5c: CFA=SP+8\n140: frame pointer"},
		{"Go 1.18", object.MagicGo118, goFlagAt118, 0, frame, "40: CFA=SP+8\n44: CFA=SP+16 BP=*(CFA-16)\n47: frame pointer\n5c: CFA=SP+8\n140: frame pointer"},
		{"assembly", object.MagicGo120, goFlagAt120, goAssembly, frame, "40: CFA=SP+8\n44: frame pointer\n5c: CFA=SP+8\n140: frame pointer"},
		{"switches stacks", object.MagicGo120, goFlagAt120, goSPWrite, frame, "40: frame pointer"},
		{"begins a stack", object.MagicGo120, goFlagAt120, goTopFrame | goAssembly, frame, "40: frame pointer"},
		{"nothing pushed", object.MagicGo120, goFlagAt120, 0, []byte{2, 0x80, 2, 0}, "40: CFA=SP+8\n140: frame pointer"},
		{"longer than the function", object.MagicGo120, goFlagAt120, 0, []byte{2, 0xff, 0xff, 3, 0}, "40: CFA=SP+8\n140: frame pointer"},
		{"no table", object.MagicGo120, goFlagAt120, 0, []byte{0, 0, 0}, "40: frame pointer"},
		{"a number without end", object.MagicGo120, goFlagAt120, 0, bytes.Repeat([]byte{0xff}, 40), "40: frame pointer"},
		{"older", object.MagicGo116, goFlagAt120, 0, frame, "40: frame pointer"},
	} {
		tables, _, err := Build(goObject(t, goTable(c.magic, c.flag, c.flags, c.pcsp)))
		if err != nil {
			t.Fatal(c.name, err)
		}
		var all []string
		for _, r := range tables[0].Rows {
			all = append(all, fmt.Sprintf("%x: %s", r.Addr, r.Rule.Text(elf.EM_X86_64)))
		}
		if got, want := strings.Join(all, "\n"), "0: none\n"+c.want+"\n240: none"; got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, want)
		}
	}
}

// Whatever the table says, rows are in order, and no more than Bound.
func FuzzGoTable(f *testing.F) {
	frame := []byte{2, 4, 16, 3, 48, 0x10, 47, 5, 15, 1, 0}
	f.Add(goTable(object.MagicGo120, goFlagAt120, 0, frame))
	f.Add(goTable(object.MagicGo118, goFlagAt118, goAssembly, frame))
	f.Add(goTable(object.MagicGo116, goFlagAt120, 0, frame))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<12 {
			return
		}
		check(t, part{name: ".gopclntab", addr: frameAddr, b: b},
			part{name: ".text", addr: textAddr + 0x40, code: true, b: bytes.Repeat([]byte{0x90}, 0x200)})
	})
}
