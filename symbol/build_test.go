// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// write puts files into a new directory.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// command runs a command in a directory and returns what it prints.
func command(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	var text strings.Builder
	cmd.Stderr = &text
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, text.String())
	}
	return string(out)
}

func openFile(t testing.TB, path string) *object.File {
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
	return o
}

// mapped is a profile in which an object is mapped as the kernel would do it,
// with one address for each object address.
func mapped(t testing.TB, o *object.File, addrs []profile.ObjAddr) *profile.Profile {
	t.Helper()
	bias := uint64(0)
	if o.Type() == elf.ET_DYN {
		bias = 0x7f0000000000
	}
	b := profile.NewBuilder()
	type part struct {
		s  object.Segment
		id profile.MappingID
	}
	var parts []part
	for _, s := range o.Segments() {
		if s.Executable() {
			start := (bias + uint64(s.ObjAddr)) &^ 0xfff
			limit := (bias + uint64(s.ObjAddr) + uint64(s.FileSize) + 0xfff) &^ 0xfff
			parts = append(parts, part{s, b.Mapping(profile.Mapping{
				Start: profile.Addr(start), Limit: profile.Addr(limit), Offset: s.Offset &^ 0xfff, Path: "/test/object"})})
		}
	}
	for _, a := range addrs {
		id := profile.NoMapping
		for _, p := range parts {
			if a >= p.s.ObjAddr && uint64(a-p.s.ObjAddr) < uint64(p.s.FileSize) {
				id = p.id
			}
		}
		b.Address(profile.Addr(bias+uint64(a)), id, false)
	}
	return b.Profile()
}

// resolve returns the frame of each object address; addrs must be unique.
func resolve(t testing.TB, o *object.File, addrs []profile.ObjAddr) []profile.Frame {
	t.Helper()
	p := mapped(t, o, addrs)
	r := &Resolver{Open: func(profile.MappingID) (*object.File, error) { return o, nil }}
	r.Resolve(p, nil)
	frames := make([]profile.Frame, len(addrs))
	for i := range p.Addresses {
		if len(p.Addresses[i].Frames) != 1 {
			t.Fatalf("%v has %d frames", addrs[i], len(p.Addresses[i].Frames))
		}
		frames[i] = p.Addresses[i].Frames[0]
	}
	return frames
}

// nmLine is a function as nm lists it.
type nmLine struct {
	addr, size profile.ObjAddr
	kind, name string
}

// nm lists functions: text symbols with the size or 0.
func nm(t testing.TB, args ...string) []nmLine {
	t.Helper()
	var out []nmLine
	for line := range strings.Lines(command(t, "", append([]string{"nm", "-S", "--defined-only"}, args...)...)) {
		var l nmLine
		if n, _ := fmt.Sscanf(line, "%x %x %s %s", &l.addr, &l.size, &l.kind, &l.name); n != 4 {
			l = nmLine{}
			if n, _ := fmt.Sscanf(line, "%x %s %s", &l.addr, &l.kind, &l.name); n != 3 {
				continue
			}
		}
		if strings.Contains("TtWwi", l.kind) {
			out = append(out, l)
		}
	}
	if len(out) == 0 {
		t.Fatalf("nm %v lists no functions", args)
	}
	return out
}
