// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/carverauto/serviceradar-profiler/profile"
)

func TestParseStat(t *testing.T) {
	const rest = " 7 42 42 0 -1 %s 1 2 3 4 150 50 0 0 20 0 9 0 123456 1000 10\n"
	line := func(name, state, flags string) string {
		return "42 (" + name + ") " + state + strings.Replace(rest, "%s", flags, 1)
	}
	want := Stat{ID: ID{42, 123456}, Comm: "redis", State: 'S', CPUTime: 2 * time.Second, Memory: 10 * pageSize, Threads: 9, ParentPID: 7}
	check := func(label, in string, change func(*Stat)) {
		t.Helper()
		w := want
		change(&w)
		got, err := ParseStat([]byte(in))
		if err != nil || got != w {
			t.Errorf("%s: got %+v, %v, want %+v", label, got, err, w)
		}
	}
	check("plain", line("redis", "S", "4194560"), func(*Stat) {})
	check("name with parentheses and spaces", line("a) R (b c", "S", "0"), func(s *Stat) { s.Comm = "a) R (b c" })
	check("kernel thread", line("kworker/0:1", "I", "69238880"), func(s *Stat) { s.Comm, s.State, s.Kernel = "kworker/0:1", 'I', true })
	for _, in := range []string{"", "42", "42 (x", "42 (x)", "x (y) S" + rest, "42 (x) S 1 2 3", ")("} {
		if _, err := ParseStat([]byte(in)); err == nil {
			t.Errorf("%q parsed without an error", in)
		}
	}
}

func TestExited(t *testing.T) {
	for _, c := range []struct {
		state   byte
		threads int
		want    bool
	}{{'R', 1, false}, {'Z', 1, true}, {'Z', 0, true}, {'Z', 5, false}, {'X', 1, true}, {'T', 1, false}} {
		if got := (&Stat{State: c.state, Threads: c.threads}).Exited(); got != c.want {
			t.Errorf("state %c with %d threads: exited %v, want %v", c.state, c.threads, got, c.want)
		}
	}
}

func TestOwnProcess(t *testing.T) {
	s, err := ReadStat(os.Getpid())
	if err != nil || s.PID != os.Getpid() || s.ParentPID != os.Getppid() || s.Kernel || !s.Running() {
		t.Errorf("own process: %+v, %v", s, err)
	}
	if (ID{os.Getpid(), s.Start + 1}).Running() {
		t.Error("a process with our PID and another start time runs")
	}
	if group, err := ThreadGroup(os.Getpid()); err != nil || group != os.Getpid() {
		t.Errorf("thread group of the main thread: %d, %v", group, err)
	}
	want, err := os.Executable()
	if got, err2 := Executable(os.Getpid()); got != want || err != nil || err2 != nil {
		t.Errorf("executable %q, want %q (%v, %v)", got, want, err, err2)
	}
	const nobody = 1<<22 + 1 // above the kernel's highest pid_max
	if _, err := ReadStat(nobody); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of no process: %v", err)
	}
	if _, err := ReadMaps(nobody); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("maps of no process: %v", err)
	}
}

func TestChildren(t *testing.T) {
	c := exec.Command("sh", "-c", "sleep 60 & wait")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		below, err := Children(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if grand, _ := Children(c.Process.Pid); len(grand) == 1 && slices.Contains(below, c.Process.Pid) && slices.Contains(below, grand[0]) {
			p, _ := os.FindProcess(grand[0])
			p.Kill()
			return
		}
	}
	t.Error("child and grandchild were not found")
}

func TestParseMaps(t *testing.T) {
	text := strings.Join([]string{
		`55d0c0a00000-55d0c0a10000 r--p 00000000 08:01 131 /usr/bin/redis server`,
		`55d0c0a10000-55d0c0a20000 r-xp 00010000 08:01 131                        /usr/bin/redis server`,
		`7f0000000000-7f0000001000 r-xp 00000000 00:1f 77 /tmp/a\012b (deleted)`,
		`7f0000002000-7f0000003000 rwxp 00000000 00:00 0 `,
		`7f0000003000-7f0000004000 rwxp 00000000 00:00 0 [anon:jit]`,
		`7f0000004000-7f0000005000 r-xs 00000000 00:01 9 /memfd:code (deleted)`,
		`7fff00000000-7fff00002000 r-xp 00000000 00:00 0                          [vdso]`,
		`ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]`,
	}, "\n") + "\n"
	at := func(start, limit profile.Addr, offset int64, path string, kind profile.MappingKind) profile.Mapping {
		return profile.Mapping{Start: start, Limit: limit, Offset: offset, Path: path, Kind: kind}
	}
	want := []Mapping{
		{at(0x55d0c0a10000, 0x55d0c0a20000, 0x10000, "/usr/bin/redis server", profile.MappingObject), Device{8, 1}, 131, false},
		{at(0x7f0000000000, 0x7f0000001000, 0, "/tmp/a\nb", profile.MappingObject), Device{0, 0x1f}, 77, true},
		{at(0x7f0000002000, 0x7f0000003000, 0, "", profile.MappingAnonymous), Device{}, 0, false},
		{at(0x7f0000003000, 0x7f0000004000, 0, "[anon:jit]", profile.MappingAnonymous), Device{}, 0, false},
		{at(0x7f0000004000, 0x7f0000005000, 0, "/memfd:code", profile.MappingObject), Device{0, 1}, 9, true},
		{at(0x7fff00000000, 0x7fff00002000, 0, "[vdso]", profile.MappingVDSO), Device{}, 0, false},
		{at(0xffffffffff600000, 0xffffffffff601000, 0, "[vsyscall]", profile.MappingAnonymous), Device{}, 0, false},
	}
	got, err := ParseMaps(text)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestAddressSpace(t *testing.T) {
	m := func(start, limit profile.Addr, offset int64, path string) Mapping {
		return Mapping{Mapping: profile.Mapping{Start: start, Limit: limit, Offset: offset, Path: path}, Inode: 1}
	}
	check := func(s *AddressSpace[int], a profile.Addr, path string, offset int64) {
		t.Helper()
		switch got := s.Lookup(a); {
		case got == nil && path != "":
			t.Errorf("%v: in no mapping, want %s", a, path)
		case got != nil && (got.Path != path || got.Offset != offset):
			t.Errorf("%v: in %s at %#x, want %q at %#x", a, got.Path, got.Offset, path, offset)
		}
	}
	var s AddressSpace[int]
	check(&s, 0x1000, "", 0)
	know := func(_ *Mapping, old *SpaceMapping[int]) int {
		if old == nil {
			return 7
		}
		return old.Of
	}
	s.Replace([]Mapping{m(0x5000, 0x9000, 0, "b"), m(0x1000, 0x2000, 0x100, "a")}, know)
	check(&s, 0xfff, "", 0)
	check(&s, 0x1000, "a", 0x100)
	check(&s, 0x1fff, "a", 0x100)
	check(&s, 0x2000, "", 0)
	check(&s, 0x8fff, "b", 0)

	s.Lookup(0x1000).Of = 3
	before := s.Clone()
	s.Insert(m(0x6000, 0x7000, 0x40, "c"), 0) // splits b
	check(&s, 0x5fff, "b", 0)
	check(&s, 0x6000, "c", 0x40)
	check(&s, 0x7000, "b", 0x2000)
	s.Insert(m(0, 0x10000, 0, "d"), 0) // covers all
	if s.Len() != 1 {
		t.Errorf("%d mappings, want 1", s.Len())
	}
	s.Insert(m(8, 8, 0, "empty"), 0)
	check(&s, 8, "d", 0)
	check(before, 0x6000, "b", 0) // a clone is a copy

	s = *before
	s.Replace([]Mapping{m(0x1000, 0x2000, 0x100, "a"), m(0x3000, 0x4000, 0, "e")}, know)
	if s.Lookup(0x1000).Of != 3 || s.Lookup(0x3000).Of != 7 {
		t.Error("what was known of a mapping that is still there was lost")
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "sleep")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, content, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	pid := c.Process.Pid
	m := mappingOf(t, pid, program)
	files := OpenFiles(pid)
	defer files.Close()
	check := func(label string) {
		t.Helper()
		f, err := files.Open(&m)
		if err != nil {
			t.Errorf("%s: %v", label, err)
			return
		}
		defer f.Close()
		got := make([]byte, len(content))
		if _, err := f.ReadAt(got, 0); err != nil || string(got) != string(content) {
			t.Errorf("%s: not the file that runs (%v)", label, err)
		}
	}
	check("in place")
	if os.Geteuid() != 0 {
		t.Skip("needs root: /proc/PID/map_files")
	}
	if err := os.Rename(program, program+".old"); err != nil {
		t.Fatal(err)
	}
	check("renamed")
	if err := os.WriteFile(program, []byte("another"), 0o755); err != nil {
		t.Fatal(err)
	}
	check("replaced")
	if err := os.Remove(program + ".old"); err != nil {
		t.Fatal(err)
	}
	check("deleted")

	// Once the process is gone, only the path is left, and it leads astray.
	c.Process.Kill()
	c.Wait()
	if f, err := files.Open(&m); !errors.Is(err, ErrReplaced) {
		t.Errorf("after the end: opened %v, %v, want ErrReplaced", f, err)
	}
}

// mappingOf waits until pid has mapped the code of the file.
func mappingOf(t *testing.T, pid int, file string) Mapping {
	t.Helper()
	for range 1000 {
		ms, err := ReadMaps(pid)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			if m.Path == file {
				return m
			}
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("process %d never mapped %s", pid, file)
	return Mapping{}
}

func TestReadVDSO(t *testing.T) {
	ms, err := ReadMaps(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(ms, func(m Mapping) bool { return m.Kind == profile.MappingVDSO })
	if i < 0 {
		t.Fatal("no vDSO among our own mappings")
	}
	image, err := ReadVDSO(os.Getpid(), &ms[i])
	if err != nil || !strings.HasPrefix(string(image), "\x7fELF") {
		t.Errorf("%d bytes, %v; want an ELF image", len(image), err)
	}
	if _, err := ReadVDSO(os.Getpid(), &ms[(i+1)%len(ms)]); err == nil {
		t.Error("read another mapping as vDSO")
	}
}

func TestCapabilities(t *testing.T) {
	set, err := parseCapabilities("Name:\tx\nCapPrm:\t0\nCapEff:\t000000c000080000\n")
	if err != nil || !set.Has(CapBPF) || !set.Has(CapPerfmon) || !set.Has(CapSysPtrace) || set.Has(CapSysAdmin) {
		t.Errorf("%x, %v", set, err)
	}
	if _, err := parseCapabilities("Name:\tx\n"); err == nil {
		t.Error("no error without CapEff")
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Add("55d0c0a10000-55d0c0a20000 r-xp 00010000 08:01 131   /usr/bin/x\n")
	f.Add("0-ffffffffffffffff r-xp ffffffffffffffff ffffffff:ffffffff 1 \\012 (deleted)\n")
	f.Fuzz(func(t *testing.T, text string) {
		ms, err := ParseMaps(text)
		if err != nil {
			return
		}
		var s AddressSpace[int]
		s.Replace(ms, func(*Mapping, *SpaceMapping[int]) int { return 0 })
		for _, m := range ms {
			s.Insert(m, 0)
			if m.Start < m.Limit && s.Lookup(m.Start) == nil {
				t.Errorf("%v is in no mapping although %+v was inserted", m.Start, m)
			}
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a) S 7 42 42 0 -1 0 1 2 3 4 150 50 0 0 20 0 9 0 123456 1000 10\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseStat(b); err == nil && s.CPUTime < 0 {
			t.Skip() // overflow of a number no kernel writes
		}
	})
}
