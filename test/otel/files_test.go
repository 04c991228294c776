// SPDX-License-Identifier: Apache-2.0

package otel_test

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
)

// files are patterns of common objects: C, C++, assembly, a large program, a
// static one without .eh_frame_hdr, and another architecture.
var files = []string{
	"/lib/x86_64-linux-gnu/libc.so.6",
	"/lib/x86_64-linux-gnu/libm.so.6",
	"/lib64/ld-linux-x86-64.so.2",
	"/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
	"/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
	"/bin/bash",
	"/usr/bin/git",
	"/usr/bin/perl",
	"/usr/bin/redis-server",
	"/usr/bin/node",
	"/usr/lib/gcc/x86_64-linux-gnu/*/cc1",
	"/usr/lib/x86_64-linux-gnu/libLLVM-14.so.1",
	"/sbin/ldconfig",
	"/usr/aarch64-linux-gnu/lib/libc.so.6",
	"/usr/aarch64-linux-gnu/lib/libstdc++.so.6",
}

// total is what a comparison found.
type total struct {
	objects int
	both    uint64         // bytes of code that both describe alike
	kinds   map[string]int // stretches
	bytes   map[string]uint64
}

// check compares one object. What has no explained kind is an error.
func (n *total) check(t *testing.T, o *file) {
	t.Helper()
	a, err := ours(o.File)
	if err != nil {
		t.Errorf("%s: %v", o.path, err)
		return
	}
	if len(a) == 0 {
		return // no code
	}
	b, err := theirs(o.path, o.Machine(), a[0].start, a[len(a)-1].limit)
	if err != nil {
		n.refused(t, o, err)
		return
	}
	unexplained := 0
	n.both += compare(a, b, equality(o.Machine()), func(d difference) {
		k := kindOf(o, d)
		if k == "" {
			if unexplained++; unexplained <= 5 {
				t.Errorf("%s: %#x to %#x: ours %s, theirs %s", o.path, d.start, d.limit, d.ours, d.theirs)
			}
			return
		}
		n.kinds[k]++
		n.bytes[k] += d.limit - d.start
	})
	if unexplained > 5 {
		t.Errorf("%s: and %d more", o.path, unexplained-5)
	}
	n.objects++
}

// refused is for files that their reader gives up on as a whole.
func (n *total) refused(t *testing.T, o *file, err error) {
	t.Helper()
	if isGo(o) && strings.Contains(err.Error(), "golang") {
		n.kinds["Go that theirs cannot read: "+err.Error()]++
		return
	}
	t.Errorf("%s: theirs: %v", o.path, err)
}

func (n *total) log(t *testing.T) {
	t.Helper()
	t.Logf("%d objects, %d bytes of code that both describe alike", n.objects, n.both)
	for _, k := range kinds {
		if n.kinds[k.name] > 0 {
			t.Logf("%-20s %8d times, %9d bytes: %s", k.name, n.kinds[k.name], n.bytes[k.name], k.reason)
			delete(n.kinds, k.name)
		}
	}
	for k, times := range n.kinds {
		t.Logf("%d times: %s", times, k)
	}
}

func newTotal() *total { return &total{kinds: map[string]int{}, bytes: map[string]uint64{}} }

func TestTables(t *testing.T) {
	n := newTotal()
	for _, pattern := range files {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(paths) == 0 && os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Errorf("%s is not installed", pattern)
		}
		for _, path := range paths {
			n.check(t, open(t, path))
		}
	}
	if n.both == 0 {
		t.Error("nothing was compared")
	}
	n.log(t)
}

// Programs built for the test: what a machine's files may not have.
func TestTablesOfPrograms(t *testing.T) {
	source := filepath.Join(t.TempDir(), "program.c")
	const text = `
#include <alloca.h>
#include <string.h>
#include <stdlib.h>
static int by(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
__attribute__((noinline)) int stack(int n) { int *p = alloca(n * sizeof *p); memset(p, n, n * sizeof *p); qsort(p, n, sizeof *p, by); return p[n / 2]; }
__attribute__((noinline)) double aligned(int n) { double v[n] __attribute__((aligned(64))); for (int i = 0; i < n; i++) v[i] = i; return v[n - 1] + stack(n); }
int main(int argc, char **argv) { return aligned(argc + 10); }
`
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	n := newTotal()
	for _, flags := range []string{
		"-O2", "-O0", "-O3 -fno-omit-frame-pointer", "-O2 -static", "-O2 -static-pie -fPIE",
		"-O2 -fcf-protection=full -Wl,-z,lazy", "-O2 -no-pie -Wl,-z,lazy", "-O2 -Wl,--no-eh-frame-hdr -static",
	} {
		to := filepath.Join(t.TempDir(), "program")
		cc := exec.Command("gcc", append(strings.Fields(flags), "-o", to, source)...)
		if out, err := cc.CombinedOutput(); err != nil {
			if errors.Is(err, exec.ErrNotFound) && os.Getenv("SRPROF_REQUIRE_ALL") == "" {
				t.Skip(err)
			}
			t.Fatalf("gcc %s: %v\n%s", flags, err, out)
		}
		n.check(t, open(t, to))
	}
	n.log(t)
}

// The vDSO is an object that lies in memory only.
func TestTablesOfVDSO(t *testing.T) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(line, "[vdso]\n") {
			continue
		}
		var start, limit int64
		if _, err := fmt.Sscanf(line, "%x-%x", &start, &limit); err != nil {
			t.Fatal(err)
		}
		image := make([]byte, limit-start)
		if _, err := memory.ReadAt(image, start); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "vdso.so")
		if err := os.WriteFile(path, image, 0o644); err != nil {
			t.Fatal(err)
		}
		n := newTotal()
		n.check(t, open(t, path))
		n.log(t)
		if n.both == 0 {
			t.Error("nothing was compared")
		}
		return
	}
	t.Error("this process has no vDSO")
}

// All files of the machine: SRPROF_ALL_OBJECTS=1.
func TestAllTables(t *testing.T) {
	if os.Getenv("SRPROF_ALL_OBJECTS") == "" {
		t.Skip("set SRPROF_ALL_OBJECTS=1")
	}
	n := newTotal()
	seen := map[string]bool{}
	for _, root := range []string{"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/local/bin"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // a root that this machine lacks
			}
			real, err := filepath.EvalSymlinks(path)
			if d.IsDir() || err != nil || seen[real] { // a link to nowhere
				return nil
			}
			seen[real] = true
			o, err := program(real)
			if err != nil {
				return fmt.Errorf("%s: %w", real, err)
			}
			if o != nil {
				n.check(t, o)
				o.Close()
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	n.log(t)
}

// program opens a file; nil if it is none that could be mapped and run.
func program(path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	head := make([]byte, 20)
	if n, _ := f.ReadAt(head, 0); n < len(head) || !strings.HasPrefix(string(head), elf.ELFMAG) {
		return nil, f.Close()
	}
	loaded := []elf.Type{elf.ET_EXEC, elf.ET_DYN}
	ours := []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64}
	if elf.Class(head[4]) != elf.ELFCLASS64 || !slices.Contains(loaded, elf.Type(head[16])) || !slices.Contains(ours, elf.Machine(head[18])) {
		return nil, f.Close()
	}
	o, err := object.Open(f)
	return &file{o, path}, err
}

func open(t *testing.T, path string) *file {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	o, err := object.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return &file{o, path}
}
