// SPDX-License-Identifier: Apache-2.0

package debugfile

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
)

const source = `static int __attribute__((noinline)) stripped_away(int x) { volatile int y = x; return y; }
int main(void) { return stripped_away(MARK); }
`

// fixture is a file tree with a stripped program, /app/bin/program, and what
// was stripped from it and is not there yet.
type fixture struct {
	t    *testing.T
	root string
	work string // where commands run
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t, t.TempDir(), t.TempDir()}
	f.write(filepath.Join(f.work, "program.c"), source)
	f.run("gcc -g -O1 -DMARK=1 -o program program.c")
	f.run("objcopy --only-keep-debug program program.debug")
	f.run("strip -o stripped program")
	f.put("stripped", "app/bin/program")
	return f
}

func (f *fixture) write(path, text string) {
	f.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) run(line string) {
	f.t.Helper()
	args := strings.Fields(line)
	if _, err := exec.LookPath(args[0]); err != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			f.t.Fatal(err)
		}
		f.t.Skip(err)
	}
	c := exec.Command(args[0], args[1:]...)
	c.Dir = f.work
	if out, err := c.CombinedOutput(); err != nil {
		f.t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// at is a path in the tree, whose folder exists.
func (f *fixture) at(to string) string {
	f.t.Helper()
	p := filepath.Join(f.root, to)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		f.t.Fatal(err)
	}
	return p
}

// in is the same with another tree.
func (f *fixture) in(root string) *fixture { return &fixture{f.t, root, f.work} }

// put copies a file from where commands run into the tree.
func (f *fixture) put(from, to string) {
	f.t.Helper()
	b, err := os.ReadFile(filepath.Join(f.work, from))
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(f.at(to), string(b))
}

// link makes the program name its debug file.
func (f *fixture) link() {
	f.t.Helper()
	f.run("objcopy --add-gnu-debuglink=program.debug stripped")
	f.put("stripped", "app/bin/program")
}

// withoutID builds program and debug file without build ID.
func (f *fixture) withoutID() {
	f.t.Helper()
	f.run("gcc -g -O1 -DMARK=1 -Wl,--build-id=none -o program program.c")
	f.run("objcopy --only-keep-debug program program.debug")
	f.run("strip -o stripped program")
	f.link()
}

// object opens the program as one that a process with this root has mapped.
func (f *fixture) object() Object {
	f.t.Helper()
	root, err := process.OpenRootDir(f.root)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(root.Close)
	return Object{f.open(filepath.Join(f.root, "app/bin/program")), "/app/bin/program", root}
}

func (f *fixture) open(path string) *object.File {
	f.t.Helper()
	file, err := os.Open(path)
	if err != nil {
		f.t.Fatal(err)
	}
	o, err := object.Open(file)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { o.Close() })
	return o
}

// idPath is where the debug file is found by build ID, below a folder.
func (f *fixture) idPath(dir string) string {
	id := string(f.open(filepath.Join(f.work, "program")).BuildID())
	return filepath.Join(dir, ".build-id", id[:2], id[2:]+".debug")
}

func (f *fixture) finder(o Options) *Finder {
	f.t.Helper()
	finder, err := NewFinder(o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(finder.Close)
	return finder
}

// found wants the debug file at a path.
func (f *fixture) found(what string, o Object, options Options, path string) {
	f.t.Helper()
	d, err := f.finder(options).Find(o)
	if err != nil {
		f.t.Errorf("%s: %v", what, err)
		return
	}
	defer d.File.Close()
	if d.Path != path || d.File.Section(".symtab") == nil || d.File.Section(".debug_info") == nil {
		f.t.Errorf("%s: found %s with %d sections, want %s", what, d.Path, len(d.File.Sections()), path)
	}
}

// refused wants no debug file, and to hear why.
func (f *fixture) refused(what string, o Object, why string) {
	f.t.Helper()
	d, err := f.finder(Options{}).Find(o)
	if err == nil {
		d.File.Close()
		f.t.Errorf("%s: found %s", what, d.Path)
		return
	}
	if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), why) {
		f.t.Errorf("%s: %v, want %q in it", what, err, why)
	}
}

func TestFindInRoot(t *testing.T) {
	f := newFixture(t)
	f.refused("nothing there", f.object(), "no debug file is installed")
	f.put("program.debug", f.idPath("usr/lib/debug"))
	f.found("by build ID", f.object(), Options{}, f.idPath("/usr/lib/debug"))

	for _, place := range []string{"/app/bin/program.debug", "/app/bin/.debug/program.debug", "/usr/lib/debug/app/bin/program.debug"} {
		f := newFixture(t)
		f.put("program.debug", place)
		f.refused("without a link", f.object(), "no debug file")
		f.link()
		f.found("by link", f.object(), Options{}, place)

		f = newFixture(t)
		f.withoutID()
		f.put("program.debug", place)
		f.found("by checksum", f.object(), Options{}, place)
		f.write(filepath.Join(f.work, "extra"), "one byte more")
		f.run("objcopy --add-section extra=extra program.debug")
		f.put("program.debug", place)
		f.refused("another checksum", f.object(), "it is of another build (checksum")
	}
}

// A hundred files of a gigabyte each are not read to the end.
func TestChecksumsAreBounded(t *testing.T) {
	f := newFixture(t)
	f.withoutID()
	f.put("program.debug", "app/bin/program.debug")
	finder := f.finder(Options{})
	finder.toSum = int64(len(f.content("program.debug")))*2 + 1
	for i, want := range []string{"", "", "too many bytes to check"} {
		d, err := finder.Find(f.object())
		if err == nil {
			d.File.Close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("search %d: %v, want %q", i, err, want)
		}
	}
}

func TestFindOnHost(t *testing.T) {
	f, host := newFixture(t), t.TempDir()
	o := f.object()
	f.in(host).put("program.debug", f.idPath("/"))
	f.found("by build ID in a folder of one's own", o, Options{Dirs: []string{"/nowhere", host}}, f.idPath(host))
	o.Root = nil // the process was gone
	f.found("the root is not known", o, Options{Dirs: []string{host}}, f.idPath(host))

	host = t.TempDir()
	f.link()
	f.in(host).put("program.debug", "app/bin/program.debug")
	f.found("by link in a folder of one's own", f.object(), Options{Dirs: []string{host}}, filepath.Join(host, "app/bin/program.debug"))
}

// What Debian installs is found, and has what the library lacks.
func TestFindSystem(t *testing.T) {
	const libc = "/lib/x86_64-linux-gnu/libc.so.6"
	file, err := os.Open(libc)
	if err != nil {
		t.Skip(err)
	}
	o, err := object.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	finder, err := NewFinder(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer finder.Close()
	d, err := finder.Find(Object{File: o, Path: libc})
	if err != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") == "" {
			t.Skip(err)
		}
		t.Fatalf("is libc6-dbg installed? %v", err)
	}
	defer d.File.Close()
	if o.Section(".symtab") != nil || d.File.Section(".symtab") == nil || d.File.BuildID() != o.BuildID() {
		t.Errorf("%s has build ID %s, libc %s", d.Path, d.File.BuildID(), o.BuildID())
	}
}

// hostile debug files and links are refused with a reason.
func TestFindHostile(t *testing.T) {
	f := newFixture(t)
	f.link()
	other := newFixture(t)
	other.run("gcc -g -O1 -DMARK=2 -o program program.c")
	other.run("objcopy --only-keep-debug program program.debug")
	for _, place := range []string{"app/bin/program.debug", f.idPath("usr/lib/debug")} {
		at := f.at(place)
		b, err := os.ReadFile(filepath.Join(other.work, "program.debug"))
		if err != nil {
			t.Fatal(err)
		}
		f.write(at, string(b))
		f.refused("another build at "+place, f.object(), "it is of another build (build ID")

		f.write(at, "not ELF")
		f.refused("no ELF at "+place, f.object(), "not a valid ELF file")

		f.put("stripped", place) // as if the link led to the object itself
		f.refused("stripped at "+place, f.object(), "neither symbols nor debug information")

		os.Remove(at)
		if err := unix.Mkfifo(at, 0o600); err != nil {
			t.Fatal(err)
		}
		f.refused("a FIFO at "+place, f.object(), "not a regular file")

		os.Remove(at)
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		f.refused("a folder at "+place, f.object(), "not a regular file")

		// A right file outside of the root, and links to it.
		os.Remove(at)
		if err := os.Symlink(filepath.Join(f.work, "program.debug"), at); err != nil {
			t.Fatal(err)
		}
		f.refused("a link out at "+place, f.object(), "no debug file")
		os.Remove(at)
		if err := os.Symlink("../../../../../../../../../../.."+filepath.Join(f.work, "program.debug"), at); err != nil {
			t.Fatal(err)
		}
		f.refused("a relative link out at "+place, f.object(), "no debug file")
		os.Remove(at)
		if err := os.Symlink(at, at); err != nil {
			t.Fatal(err)
		}
		f.refused("a link to nowhere at "+place, f.object(), "")
		os.Remove(at)
	}
	// Links that stay inside are how distributions lay out their debug files.
	f.put("program.debug", "usr/lib/debug/real")
	if err := os.Symlink("/usr/lib/debug/real", f.at(f.idPath("usr/lib/debug"))); err != nil {
		t.Fatal(err)
	}
	f.found("a link inside", f.object(), Options{}, f.idPath("/usr/lib/debug"))
}

func TestFindByDeviceName(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a device")
	}
	f := newFixture(t)
	f.link()
	// /dev/full by another name; opening a device at all would be the mistake.
	if err := unix.Mknod(f.at("app/bin/program.debug"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 7))); err != nil {
		t.Skip(err)
	}
	f.refused("a device", f.object(), "not a regular file")
}

func TestAlternate(t *testing.T) {
	f := newFixture(t)
	f.run("gcc -g -O1 -DMARK=2 -o second program.c")
	f.run("objcopy --only-keep-debug second second.debug")
	f.run("dwz -m common.debug -M ../dwz/common.debug program.debug second.debug")
	f.put("program.debug", f.idPath("usr/lib/debug"))
	d, err := f.finder(Options{}).Find(f.object())
	if err != nil {
		t.Fatal(err)
	}
	defer d.File.Close()
	link, err := d.File.AltLink()
	if err != nil || link.Path != "../dwz/common.debug" {
		t.Fatalf("%+v, %v", link, err)
	}
	check := func(what, why string) {
		t.Helper()
		o, err := f.finder(Options{}).Alternate(d, link)
		switch {
		case err != nil && (why == "" || !strings.Contains(err.Error(), why)):
			t.Errorf("%s: %v, want %q", what, err, why)
		case err == nil && why != "":
			t.Errorf("%s: found, want %q", what, why)
		case err == nil && o.BuildID() != link.BuildID:
			t.Errorf("%s: build ID %s, want %s", what, o.BuildID(), link.BuildID)
		}
		if err == nil {
			o.Close()
		}
	}
	check("nothing there", "no debug file is installed")
	beside := f.at("usr/lib/debug/.build-id/dwz/common.debug")
	f.put("common.debug", "usr/lib/debug/.build-id/dwz/common.debug")
	check("by path", "")
	f.put("program.debug", "usr/lib/debug/.build-id/dwz/common.debug")
	check("another file", "it is of another build")
	os.Remove(beside)
	id := string(link.BuildID)
	f.put("common.debug", filepath.Join("usr/lib/debug/.build-id", id[:2], id[2:]+".debug"))
	check("by build ID", "")
}

func TestOpenSplit(t *testing.T) {
	f := newFixture(t)
	f.run("gcc -g -gsplit-dwarf -O1 -DMARK=1 -o split program.c")
	dwo, err := filepath.Glob(filepath.Join(f.work, "*.dwo"))
	if err != nil || len(dwo) != 1 {
		t.Fatal(dwo, err)
	}
	f.put(filepath.Base(dwo[0]), "build/x.dwo")
	f.put(filepath.Base(dwo[0]), "app/bin/y.dwo")
	finder := f.finder(Options{})
	for _, p := range []string{"/build/x.dwo", "y.dwo", "../../build/x.dwo", "../../../../build/x.dwo"} {
		o, err := finder.Open(f.object(), p)
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		o.Close()
	}
	for _, p := range []string{dwo[0], "/dev/null", "nowhere"} {
		if o, err := finder.Open(f.object(), p); err == nil {
			t.Errorf("opened %s: %v", p, o)
		}
	}
}
