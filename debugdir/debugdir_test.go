// SPDX-License-Identifier: Apache-2.0

package debugdir

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/debugfile"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// built is a small program, its debug file and its stripped form in dir.
func built(t *testing.T, dir string) (full, debug, stripped string) {
	t.Helper()
	full, debug, stripped = filepath.Join(dir, "full"), filepath.Join(dir, "debug"), filepath.Join(dir, "stripped")
	c := exec.Command("sh", "-ec", `
		echo 'int f(int x) { return x + 1; } int main(int n, char **v) { return f(n); }' | gcc -x c -g -o "$1" -
		objcopy --only-keep-debug "$1" "$2" && strip --strip-all -o "$3" "$1"`, "sh", full, debug, stripped)
	if out, err := c.CombinedOutput(); err != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatalf("%v: %s", err, out)
		}
		t.Skipf("%v: %s", err, out)
	}
	return full, debug, stripped
}

func idOf(t *testing.T, file string) profile.BuildID {
	t.Helper()
	f, err := openObject(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.BuildID()
}

func opened(t *testing.T, dirs ...string) *Index {
	t.Helper()
	x, err := Open(debugfile.Options{Dirs: dirs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

func TestFind(t *testing.T) {
	full, debug, stripped := built(t, t.TempDir())
	id := idOf(t, full)
	copied := func(to, from string) string {
		t.Helper()
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return to
	}
	place := filepath.Join(".build-id", string(id[:2]), string(id[2:]))
	check := func(label, dir string, names, code bool) {
		t.Helper()
		c := opened(t, dir).Find(id)
		if c == nil {
			t.Errorf("%s: nothing found", label)
			return
		}
		if got := rank(c.Named) > 0; got != names {
			t.Errorf("%s: names %v, want %v", label, got, names)
		}
		if got := c.Mapped != nil; got != code {
			t.Errorf("%s: code %v, want %v", label, got, code)
		}
	}
	dir := t.TempDir()
	copied(filepath.Join(dir, place+".debug"), debug)
	check("debug package", dir, true, false)
	copied(filepath.Join(dir, place), stripped)
	check("and the object, as RPM links it", dir, true, true)
	dir = t.TempDir()
	copied(filepath.Join(dir, string(id[:2]), string(id[2:])+".debug"), debug)
	check(".build-id itself is named", dir, true, false)
	dir = t.TempDir()
	copied(filepath.Join(dir, "a/b/c"), stripped)
	check("stripped object in a folder", dir, false, true)
	copied(filepath.Join(dir, "a/d"), debug)
	copied(filepath.Join(dir, "README"), "/etc/hostname")
	check("and its debug file", dir, true, true)

	x := opened(t, dir)
	if c := x.Find("00112233"); c != nil {
		t.Errorf("found %+v for another build ID", c)
	}
	for _, hostile := range []profile.BuildID{"", "..", "../../../etc/passwd", "go:x/y", "ab"} {
		if c := x.Find(hostile); c != nil {
			t.Errorf("found something for %q", hostile)
		}
	}
}

// What lies in a directory may be anything: nothing blocks, and nothing that is
// at the place of a build ID counts unless it has that build ID.
func TestFindStrange(t *testing.T) {
	full, _, _ := built(t, t.TempDir())
	id := idOf(t, full)
	dir := t.TempDir()
	place := filepath.Join(dir, ".build-id", string(id[:2]))
	for _, err := range []error{
		os.MkdirAll(place, 0o755),
		unix.Mkfifo(filepath.Join(place, string(id[2:])+".debug"), 0o644),
		os.Symlink(dir, filepath.Join(dir, "circle")),
		os.Symlink("/dev/zero", filepath.Join(dir, "zero")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644),
		os.Link("/proc/self/exe", filepath.Join(dir, "self")),
	} {
		if err != nil && !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EPERM) {
			t.Fatal(err)
		}
	}
	if c := opened(t, dir).Find(id); c != nil {
		t.Errorf("found %+v", c)
	}
	other, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(place, string(id[2:])), other, 0o644); err != nil {
		t.Fatal(err)
	}
	if c := opened(t, dir).Find(id); c != nil {
		t.Errorf("found a file of another build: %+v", c)
	}
	for _, wrong := range []string{filepath.Join(dir, "missing"), filepath.Join(dir, "fifo")} {
		if _, err := Open(debugfile.Options{Dirs: []string{wrong}}); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: error %v", wrong, err)
		}
	}
}

func TestSearchIsBounded(t *testing.T) {
	dir := t.TempDir()
	deep := dir
	for range maxDepth + 2 {
		deep = filepath.Join(deep, "d")
	}
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(deep, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	x := opened(t, dir)
	if x.Find("0011223344"); x.Incomplete() == "" {
		t.Error("it says that all was looked at")
	}
	shallow := opened(t, filepath.Dir(deep))
	if shallow.Find("0011223344"); shallow.Incomplete() != "" {
		t.Errorf("not complete: %s", shallow.Incomplete())
	}
}

// mapped is a profile with one address in f of the program, without its name.
func mapped(t *testing.T, full string) (*profile.Profile, profile.AddressID) {
	t.Helper()
	f, err := openObject(full)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const bias = 0x7f0000000000
	b := profile.NewBuilder()
	var m profile.Mapping
	for _, s := range f.Segments() {
		if s.Executable() {
			start := uint64(s.ObjAddr) &^ 4095
			m = profile.Mapping{Start: profile.Addr(bias + start), Limit: profile.Addr(bias + (uint64(s.ObjAddr)+s.MemSize+4095)&^4095),
				Offset: s.Offset &^ 4095, Path: "/gone/program", BuildID: f.BuildID()}
		}
	}
	id := b.Address(profile.Addr(bias+uint64(symbolOf(t, full, "f"))), b.Mapping(m), false)
	kernel := b.Address(1<<63+5, b.Mapping(profile.Mapping{Kind: profile.MappingKernel, Path: profile.KernelPath, Start: 1 << 63, Limit: ^profile.Addr(0)}), false)
	b.Add(profile.Thread{}, []profile.AddressID{id}, false, 7)
	b.Add(profile.Thread{}, []profile.AddressID{kernel}, false, 2)
	return b.Profile(), id
}

func symbolOf(t *testing.T, file, name string) profile.ObjAddr {
	t.Helper()
	out, err := exec.Command("sh", "-c", `nm "$1" | sed -n "s/^\([0-9a-f]*\) T $2\$/0x\1/p"`, "sh", file, name).Output()
	if err != nil {
		t.Fatal(err)
	}
	var a profile.ObjAddr
	for _, c := range bytes.TrimPrefix(bytes.TrimSpace(out), []byte("0x")) {
		a = a<<4 | profile.ObjAddr(bytes.IndexByte([]byte("0123456789abcdef"), c))
	}
	return a
}

// Other tools' profiles have no object addresses: they come from the mapping,
// and from whichever file is there.
func TestSymbolizeByMapping(t *testing.T) {
	for _, label := range []string{"full", "debug", "stripped"} {
		dir := t.TempDir()
		full, debug, stripped := built(t, dir)
		p, id := mapped(t, full)
		for name, file := range map[string]string{"full": full, "debug": debug, "stripped": stripped} {
			if name != label {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
		}
		n := opened(t, dir).Symbolize(p, false)
		if label == "stripped" {
			if n != 0 || p.Meta.Unnamed[0].Reason == profile.ReasonNoFile || p.Meta.Counts.Unknown != 9 {
				t.Errorf("%s: %d named, %+v", label, n, p.Meta)
			}
			continue
		}
		if f := p.Addresses[id].Frames; n != 1 || len(f) != 1 || f[0].Name != "f" || p.Meta.Counts.Unknown != 2 {
			t.Errorf("%s: %d named, %+v, %+v", label, n, f, p.Meta.Counts)
		}
	}
}

// What is not found keeps the reason that the recording had; what has a name
// keeps that unless all are to be named anew.
func TestSymbolizeKeeps(t *testing.T) {
	dir := t.TempDir()
	full, _, _ := built(t, dir)
	p, id := mapped(t, full)
	p.Meta.Unnamed = []profile.Unnamed{{Object: "program", BuildID: p.Mappings[0].BuildID, Reason: profile.ReasonStripped, Why: "stripped", Remedy: "install program-dbgsym"}}
	if n := opened(t).Symbolize(p, false); n != 0 {
		t.Errorf("%d named by nothing", n)
	}
	if u := p.Meta.Unnamed; len(u) != 2 || u[0].Remedy != "install program-dbgsym" || u[0].Samples != 7 || u[1].Object != "[kernel]" || u[1].Reason != profile.ReasonNoFile {
		t.Errorf("without a name: %+v", u)
	}
	p.Addresses[id].Frames = []profile.Frame{{Name: "old", SystemName: "old"}}
	x := opened(t, dir)
	if x.Symbolize(p, false); p.Addresses[id].Frames[0].Name != "old" {
		t.Errorf("named anew: %+v", p.Addresses[id].Frames)
	}
	if n := x.Symbolize(p, true); n != 1 || p.Addresses[id].Frames[0].Name != "f" {
		t.Errorf("%d named anew: %+v", n, p.Addresses[id].Frames)
	}
	p.Addresses[id].Frames = []profile.Frame{{Name: "old", SystemName: "old"}}
	p.Mappings[0].BuildID = "00112233"
	if n := x.Symbolize(p, true); n != 0 || p.Addresses[id].Frames[0].Name != "old" {
		t.Errorf("%d named anew, though there is no file: %+v", n, p.Addresses[id].Frames)
	}
}

// Any profile that can be read can be looked up, whatever its mappings say.
func FuzzSymbolize(f *testing.F) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		f.Fatal(err)
	}
	o, err := object.Open(self)
	if err != nil {
		f.Fatal(err)
	}
	defer o.Close()
	x, err := Open(debugfile.Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer x.Close()
	x.found = map[profile.BuildID]*Candidates{"aa": {Named: o, Mapped: o}, "bb": {Named: o}, o.BuildID(): {Named: o}}
	b := profile.NewBuilder()
	for _, id := range []profile.BuildID{"aa", "bb"} {
		m := b.Mapping(profile.Mapping{Start: 0x400000, Limit: 0x800000, Path: "/x", BuildID: id})
		b.Add(profile.Thread{}, []profile.AddressID{b.Address(0x401000, m, false)}, false, 3)
	}
	var seed bytes.Buffer
	if err := pprof.Write(&seed, b.Profile()); err != nil {
		f.Fatal(err)
	}
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := pprof.Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		samples := p.Meta.Counts.Samples
		x.Symbolize(p, true)
		if p.Meta.Counts.Samples != samples {
			t.Errorf("%d samples, want %d", p.Meta.Counts.Samples, samples)
		}
	})
}

// A debuginfod server has what no directory has.
func TestFindOnServer(t *testing.T) {
	dir := t.TempDir()
	full, debug, _ := built(t, dir)
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/buildid/"+string(idOf(t, full))+"/debuginfo" {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, debug)
	}))
	defer server.Close()
	p, id := mapped(t, full)
	x, err := Open(debugfile.Options{Dirs: []string{t.TempDir()}, Servers: debugfile.ServerOptions{URLs: []string{server.URL}, Cache: debugfile.Cache{Dir: t.TempDir()}}})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if n := x.Symbolize(p, false); n != 1 || p.Addresses[id].Frames[0].Name != "f" || asked != 1 {
		t.Errorf("%d named, the server was asked %d times: %+v", n, asked, p.Addresses[id].Frames)
	}
	local := opened(t, dir)
	if local.Find(idOf(t, full)); asked != 1 {
		t.Error("a server was asked although none was named")
	}
}
