// SPDX-License-Identifier: Apache-2.0

package object

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

const source = `
#include <stdio.h>
#include <unistd.h>
#ifdef PAD // so much code that .text has file pages of its own
__attribute__((used)) void padding(void) { __asm__(".skip 8192, 0x90"); }
#endif
int twice(int n) { return 2 * n; }
int main(void) { printf("%p %p\n", (void *)main, (void *)twice); fflush(stdout); getchar(); return 0; }
`

// build compiles source and returns the program's path.
func build(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "a.c"), filepath.Join(dir, "a.out")
	if err := os.WriteFile(in, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("gcc", append(args, "-o", out, in)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, text)
	}
	return out
}

func openFile(t *testing.T, path string) *File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	o, err := Open(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func TestHeadersAgreeWithStd(t *testing.T) {
	path := build(t)
	o := openFile(t, path)
	want, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	if o.Type() != want.Type || o.Machine() != want.Machine || uint64(o.Entry()) != want.Entry {
		t.Errorf("got %v %v %v, want %v %v %#x", o.Type(), o.Machine(), o.Entry(), want.Type, want.Machine, want.Entry)
	}
	if len(o.Sections()) != len(want.Sections) {
		t.Fatalf("%d sections, want %d", len(o.Sections()), len(want.Sections))
	}
	for i, w := range want.Sections {
		s := &o.Sections()[i]
		if s.Name != w.Name || s.Type != w.Type || uint64(s.ObjAddr) != w.Addr || s.Size != w.Size || s.Link != w.Link || s.EntrySize != w.Entsize {
			t.Errorf("section %d: %+v, want %+v", i, s, w.SectionHeader)
		}
		if w.Type == elf.SHT_NOBITS || w.Type == elf.SHT_NULL {
			continue
		}
		got, err := io.ReadAll(s.Reader())
		if err != nil {
			t.Error(err)
		}
		if data, _ := w.Data(); !bytes.Equal(got, data) {
			t.Errorf("section %s: other content", s.Name)
		}
	}
	loads := 0
	for _, p := range want.Progs {
		if p.Type == elf.PT_LOAD {
			s := o.Segments()[loads]
			if uint64(s.ObjAddr) != p.Vaddr || s.FileSize != int64(p.Filesz) || s.Offset != int64(p.Off) || s.MemSize != p.Memsz || s.Flags != p.Flags {
				t.Errorf("segment %d: %+v, want %+v", loads, s, p.ProgHeader)
			}
			loads++
		}
	}
	if loads != len(o.Segments()) {
		t.Errorf("%d segments, want %d", len(o.Segments()), loads)
	}
}

func TestBuildID(t *testing.T) {
	gnu := build(t, "-Wl,--build-id=0x00c0ffee")
	none := build(t, "-Wl,--build-id=none")
	stripped := build(t, "-Wl,--build-id=0x12345678", "-s")
	image, err := os.ReadFile(none)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(append(append(append([]byte{}, image[:4096]...), image[len(image)-4096:]...),
		binary.BigEndian.AppendUint64(nil, uint64(len(image)))...))
	for _, c := range []struct {
		path string
		want profile.BuildID
	}{
		{gnu, "00c0ffee"},
		{stripped, "12345678"},
		{none, profile.BuildID("hash:" + hex.EncodeToString(hash[:16]))},
	} {
		if got := openFile(t, c.path).BuildID(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestGoBuildID(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module x\n", "main.go": "package main\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-ldflags=-B none", "-o", "x", ".")
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want, err := exec.Command("go", "tool", "buildid", filepath.Join(dir, "x")).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := openFile(t, filepath.Join(dir, "x")).BuildID()
	if want := "go:" + strings.TrimSpace(string(want)); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The kernel's notes begin with those of others.
func TestNotesBuildID(t *testing.T) {
	note := func(name string, kind byte, content string) string {
		return string([]byte{byte(len(name)), 0, 0, 0, byte(len(content)), 0, 0, 0, kind, 0, 0, 0}) + name + content
	}
	linux := note("Linux\x00\x00\x00", 0, "6.1.") // 8 bytes, padding included
	if got := NotesBuildID([]byte(linux + note("GNU\x00", noteGNUBuildID, "\x01\xab\xcd\xef"))); got != "01abcdef" {
		t.Errorf("build ID is %q", got)
	}
	for _, none := range []string{"", linux, "GNU", note("GNU\x00", noteGNUBuildID, "\x01\xab\xcd\xef")[:17]} {
		if got := NotesBuildID([]byte(none)); got != "" {
			t.Errorf("%q has build ID %q", none, got)
		}
	}
}

func TestVDSOFromMemory(t *testing.T) {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	var m profile.Mapping
	for line := range strings.Lines(string(b)) {
		if strings.HasSuffix(line, "[vdso]\n") {
			fmt.Sscanf(line, "%x-%x", &m.Start, &m.Limit)
		}
	}
	if m.Start == 0 {
		t.Skip("this kernel has no vDSO")
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	image := make([]byte, m.Limit-m.Start)
	if _, err := mem.ReadAt(image, int64(m.Start)); err != nil {
		t.Fatal(err)
	}
	o, err := New(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	if a, ok := o.ObjAddr(&m, m.Start+0x800); !ok || a != o.Segments()[0].ObjAddr+0x800 {
		t.Errorf("got %v %v", a, ok)
	}
	if id := o.BuildID(); strings.Contains(string(id), ":") {
		t.Errorf("vDSO's build ID is %q, want a GNU one", id)
	}
	if o.Section(".dynsym") == nil {
		t.Error("no .dynsym")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe, text := filepath.Join(dir, "pipe"), filepath.Join(dir, "text")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{pipe: fs.ErrInvalid, dir: fs.ErrInvalid, "/dev/null": fs.ErrInvalid, text: ErrFormat} {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(f); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		if f.Close() == nil {
			t.Errorf("%s: left open", path)
		}
	}
}

// A file that shrinks after it was opened gives errors.
func TestTruncatedFile(t *testing.T) {
	path := build(t)
	o := openFile(t, path)
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if err := readFull(o.Section(".text"), make([]byte, 16), 0); !errors.Is(err, ErrFormat) {
		t.Errorf("got %v", err)
	}
	if err := o.ReadObj(make([]byte, 8), o.Entry()); !errors.Is(err, ErrFormat) {
		t.Errorf("got %v", err)
	}
}

// Every single-byte change of the headers, and every early end, gives a File
// or an error, and soon.
func TestDamagedHeaders(t *testing.T) {
	image, err := os.ReadFile(build(t, "-Wl,--build-id=none", "-s"))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for i := range 64 + 10*56 {
		for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			damaged := bytes.Clone(image)
			damaged[i] = v
			exercise(damaged)
		}
	}
	for i := 0; i < len(image); i += 61 {
		exercise(image[:i])
	}
	t.Logf("took %v", time.Since(begin))
}

// exercise calls everything that looks at a file.
func exercise(image []byte) {
	o, err := New(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return
	}
	for _, m := range []profile.Mapping{{Start: 0x1000, Limit: 0x100000}, {Start: 1 << 63, Limit: ^profile.Addr(0), Offset: 0x1000}} {
		o.Bias(&m)
		for _, a := range []profile.Addr{m.Start, m.Start + 0x2345, m.Limit - 1} {
			if obj, ok := o.ObjAddr(&m, a); ok {
				o.ReadObj(make([]byte, 8), obj)
			}
		}
	}
	o.Program(elf.PT_GNU_EH_FRAME)
	for i := range o.Sections() {
		s := &o.Sections()[i]
		s.ReadAt(make([]byte, 64), 0)
		s.ReadAt(make([]byte, 64), s.FileSize-32)
		s.Contains(0x1000)
	}
}

func FuzzNew(f *testing.F) {
	f.Add([]byte(elf.ELFMAG))
	if image, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(image[:8192])
	}
	f.Add(small())
	f.Fuzz(func(t *testing.T, image []byte) { exercise(image) })
}

// small is the smallest file that has one of everything: header, a segment, a
// note segment with a build ID, a section with a name.
func small() []byte {
	b := make([]byte, headerSize)
	copy(b, elf.ELFMAG+"\x02\x01\x01")
	le.PutUint16(b[16:], uint16(elf.ET_DYN))
	le.PutUint16(b[18:], uint16(elf.EM_X86_64))
	le.PutUint64(b[32:], headerSize)
	le.PutUint16(b[54:], programSize)
	le.PutUint16(b[56:], 2)
	le.PutUint16(b[58:], sectionSize)
	le.PutUint16(b[60:], 2)
	le.PutUint16(b[62:], 1)
	program := func(kind elf.ProgType, off, size int) {
		p := make([]byte, programSize)
		le.PutUint32(p, uint32(kind))
		le.PutUint32(p[4:], uint32(elf.PF_X))
		le.PutUint64(p[8:], uint64(off))
		le.PutUint64(p[16:], 0x1000)
		le.PutUint64(p[32:], uint64(size))
		b = append(b, p...)
	}
	notes := headerSize + 2*programSize
	program(elf.PT_LOAD, 0, notes)
	program(elf.PT_NOTE, notes, 24)
	b = append(b, "\x04\x00\x00\x00\x08\x00\x00\x00\x03\x00\x00\x00GNU\x00abcdefgh"...)
	names := len(b)
	b = append(b, "\x00.names\x00"...)
	le.PutUint64(b[40:], uint64(len(b)))
	b = append(b, make([]byte, sectionSize)...)
	s := make([]byte, sectionSize)
	le.PutUint32(s, 1)
	le.PutUint32(s[4:], uint32(elf.SHT_STRTAB))
	le.PutUint64(s[24:], uint64(names))
	le.PutUint64(s[32:], 8)
	return append(b, s...)
}

func TestSmall(t *testing.T) {
	image := small()
	o, err := New(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	if o.BuildID() != "6162636465666768" || o.Section(".names") == nil {
		t.Errorf("build ID %q, sections %+v", o.BuildID(), o.Sections())
	}
}
