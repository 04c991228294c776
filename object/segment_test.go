// SPDX-License-Identifier: Apache-2.0

package object

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// nmOf returns the object address of a symbol as nm has it.
func nmOf(t *testing.T, path, name string) profile.ObjAddr {
	t.Helper()
	out, err := exec.Command("nm", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		var a uint64
		var kind, n string
		if k, _ := fmt.Sscanf(line, "%x %s %s", &a, &kind, &n); k == 3 && n == name {
			return profile.ObjAddr(a)
		}
	}
	t.Fatalf("nm has no %s", name)
	return 0
}

// executableMappings are those of a process whose path is given.
func executableMappings(t *testing.T, pid int, path string) []profile.Mapping {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var ms []profile.Mapping
	for line := range strings.Lines(string(b)) {
		var m profile.Mapping
		var perm, dev, name string
		var inode uint64
		fmt.Sscanf(line, "%x-%x %s %x %s %d %s", &m.Start, &m.Limit, &perm, &m.Offset, &dev, &inode, &name)
		if m.Path = name; name == path && strings.Contains(perm, "x") {
			ms = append(ms, m)
		}
	}
	if len(ms) == 0 {
		t.Fatalf("no executable mapping of %s in\n%s", path, b)
	}
	return ms
}

// A running program prints where its functions really are; that must be where
// nm and its mapping say.
func TestObjAddrOfRunningPrograms(t *testing.T) {
	for _, args := range [][]string{
		{"-pie", "-fPIE"},
		{"-no-pie"},
		{"-static"},
		{"-static-pie"},
		{"-no-pie", "-Wl,-z,noseparate-code"},                     // code and headers share a segment
		{"-no-pie", "-Wl,-z,separate-code"},                       // one segment for code only
		{"-no-pie", "-Wl,-Ttext-segment=0x7000000"},               // other fixed place
		{"-pie", "-fPIE", "-Wl,-Ttext-segment=0x10000000"},        // as prelink does: position-independent, but not at 0
		{"-pie", "-fPIE", "-Wl,-z,max-page-size=0x200000"},        // big alignment
		{"-no-pie", "-Wl,--section-start=.text=0x5000080", "-O0"}, // two executable segments, .init and .text far apart
		{"-pie", "-fPIE", "-Wl,--section-start=.text=0x5000080", "-DPAD"},
		{"-pie", "-fPIE", "-Wl,-z,norelro,-z,noseparate-code", "-s"}, // stripped
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			path := build(t, args...)
			cmd := exec.Command(path)
			in, _ := cmd.StdinPipe()
			out, _ := cmd.StdoutPipe()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { in.Close(); cmd.Wait() }()
			var main, twice profile.Addr
			if _, err := fmt.Fscanf(out, "0x%x 0x%x\n", &main, &twice); err != nil {
				t.Fatal(err)
			}
			o := openFile(t, path)
			if args[len(args)-1] == "-s" {
				checkContains(t, o, executableMappings(t, cmd.Process.Pid, path), main)
				return
			}
			ms := executableMappings(t, cmd.Process.Pid, path)
			check(t, o, ms, main, nmOf(t, path, "main"))
			check(t, o, ms, twice, nmOf(t, path, "twice"))
			first, _ := o.Bias(&ms[0])
			for i := range ms {
				if bias, ok := o.Bias(&ms[i]); !ok || bias != first || (o.Type() == elf.ET_EXEC && bias != 0) {
					t.Errorf("bias of mapping %d is %#x, %v", i, bias, ok)
				}
			}
		})
	}
}

func check(t *testing.T, o *File, ms []profile.Mapping, a profile.Addr, want profile.ObjAddr) {
	t.Helper()
	for i := range ms {
		m := &ms[i]
		if !m.Contains(a) {
			continue
		}
		got, ok := o.ObjAddr(m, a)
		bias, ok2 := o.Bias(m)
		if !ok || !ok2 || got != want || uint64(a)-bias != uint64(want) {
			t.Errorf("%v: got %v %v, bias %#x %v; want %v", a, got, ok, bias, ok2, want)
		}
		return
	}
	t.Errorf("%v is in no mapping of %v", a, ms)
}

func checkContains(t *testing.T, o *File, ms []profile.Mapping, a profile.Addr) {
	t.Helper()
	text := o.Section(".text")
	for i := range ms {
		if got, ok := o.ObjAddr(&ms[i], a); ok && text.Contains(got) {
			return
		}
	}
	t.Errorf("%v is not in .text", a)
}

// Mappings by pencil: what the kernel makes of segments that begin inside of
// pages, overlap in the file, or lie at negative distance.
func TestObjAddrByPencil(t *testing.T) {
	o := &File{segments: []Segment{
		{Type: elf.PT_LOAD, Flags: elf.PF_R, ObjAddr: 0x0, Offset: 0x0, FileSize: 0x1680},
		{Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_X, ObjAddr: 0x2680, Offset: 0x1680, FileSize: 0x900},
		{Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_X, ObjAddr: 0x9f80, Offset: 0x1f80, FileSize: 0x80},
	}}
	text := profile.Mapping{Start: 0x7f0000002000, Limit: 0x7f0000003000, Offset: 0x1000}
	other := profile.Mapping{Start: 0x7f0000009000, Limit: 0x7f000000a000, Offset: 0x1000}
	low := profile.Mapping{Start: 0x1000, Limit: 0x2000, Offset: 0x1000}
	for _, c := range []struct {
		m    profile.Mapping
		a    profile.Addr
		want profile.ObjAddr
		ok   bool
	}{
		{text, 0x7f0000002680, 0x2680, true},
		{text, 0x7f0000002f7f, 0x2f7f, true},
		{other, 0x7f0000009f80, 0x9f80, true},
		{low, 0x1700, 0x2700, true},                                                       // bias −0x1000
		{text, 0x7f0000003000, 0, false},                                                  // the limit is outside
		{profile.Mapping{Start: 0x1000, Limit: 0x2000, Offset: 0x8000}, 0x1100, 0, false}, // beyond the file
		{profile.Mapping{Start: 0x1000, Limit: 0x2000, Offset: -1}, 0x1100, 0, false},
	} {
		if got, ok := o.ObjAddr(&c.m, c.a); ok != c.ok || (ok && got != c.want) {
			t.Errorf("%v in %+v: got %v %v, want %v %v", c.a, c.m, got, ok, c.want, c.ok)
		}
	}
	if b, ok := o.Bias(&low); !ok || b != ^uint64(0x1000)+1 {
		t.Errorf("bias %#x %v, want −0x1000", b, ok)
	}
}

// A debug file without code must give the addresses that the object itself
// gives, or none.
func TestObjAddrInMemory(t *testing.T) {
	for _, flag := range []string{"-pie", "-no-pie", "-Wl,-z,noseparate-code", "-Wl,-z,max-page-size=65536"} {
		dir := t.TempDir()
		full, debug := dir+"/full", dir+"/debug"
		c := exec.Command("sh", "-ec", `echo 'int main(void){return 0;}' | gcc -x c -g "$3" -o "$1" - && objcopy --only-keep-debug "$1" "$2"`, "sh", full, debug, flag)
		if out, err := c.CombinedOutput(); err != nil {
			if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
				t.Fatalf("%v: %s", err, out)
			}
			t.Skipf("%v: %s", err, out)
		}
		f, d := openFile(t, full), openFile(t, debug)
		for _, s := range f.Segments() {
			if !s.Executable() {
				continue
			}
			bias := profile.Addr(0x7f0000000000)
			if f.Type() == elf.ET_EXEC {
				bias = 0
			}
			start := bias + profile.Addr(s.ObjAddr)&^(page-1)
			m := profile.Mapping{Start: start, Offset: s.Offset &^ (page - 1), Limit: (bias + profile.Addr(s.ObjAddr) + profile.Addr(s.MemSize) + page - 1) &^ (page - 1)}
			for a := bias + profile.Addr(s.ObjAddr); a < bias+profile.Addr(s.ObjAddr)+profile.Addr(s.MemSize); a += 7 {
				want, ok := f.ObjAddr(&m, a)
				if got, found := d.ObjAddrInMemory(&m, a); !ok || !found || got != want {
					t.Fatalf("%s: %v is %v (%v), want %v (%v)", flag, a, got, found, want, ok)
				}
				if got, found := d.ObjAddr(&m, a); found && got != want {
					t.Fatalf("%s: by its headers alone %v is %v, want %v", flag, a, got, want)
				}
			}
			m.Limit += page // a mapping that is not the segment's
			if got, found := d.ObjAddrInMemory(&m, start); found {
				t.Errorf("%s: a longer mapping gives %v", flag, got)
			}
		}
	}
}
