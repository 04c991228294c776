// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"debug/elf"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// builds are programs as people build them. Each is built in a directory of
// its own, as "program". If there is an "original" too, it has the same in a
// way that the oracle understands.
var builds = []struct{ name, command string }{
	{"gcc DWARF 5", "gcc -O2 -g calls.c -o program"},
	{"gcc DWARF 2", "gcc -O2 -gdwarf-2 calls.c -o program"},
	{"gcc 64-bit offsets", "gcc -O2 -g -gdwarf64 calls.c -o program"},
	{"g++ DWARF 4", "g++ -O2 -gdwarf-4 calls.cpp -o program"},
	{"g++ type units", "g++ -O2 -g -fdebug-types-section calls.cpp -o program"},
	{"g++ link-time optimization", "g++ -O2 -g -flto calls.cpp -o program"},
	{"g++ zlib", "g++ -O3 -g -gz=zlib calls.cpp -o program"},
	{"zlib of old", "g++ -O2 -g calls.cpp -o original && objcopy --compress-debug-sections=zlib-gnu original program"},
	{"zstandard", "g++ -O2 -g calls.cpp -o original && objcopy --compress-debug-sections=zstd original program"},
	{"g++ split, type units", "g++ -O2 -g -gsplit-dwarf -fdebug-types-section calls.cpp -o program"},
	{"g++ split, DWARF 4, packaged", "g++ -O2 -gdwarf-4 -gsplit-dwarf calls.cpp -o program && dwp -e program -o program.dwp && find . -name *.dwo -delete"},
	{"clang DWARF 5", "clang++-14 -O2 -gdwarf-5 calls.cpp -o program"},
	{"clang link-time optimization", "clang++-14 -O2 -g -flto -fuse-ld=lld calls.cpp -o program"},
	{"clang lines only", "clang++-14 -O2 -gline-tables-only calls.cpp -o program"},
	{"clang split, DWARF 4", "clang++-14 -O2 -gdwarf-4 -gsplit-dwarf -c calls.cpp && clang++-14 calls.o -o program"},
	{"clang split, packaged", "clang++-14 -O2 -gdwarf-5 -gsplit-dwarf -c calls.cpp && clang-14 -O2 -g -gsplit-dwarf -Dmain=other -c calls.c -o other.o" +
		" && clang++-14 calls.o other.o -o program && llvm-dwp-14 -e program -o program.dwp && find . -name *.dwo -delete"},
	{"dwz", "g++ -O2 -g calls.cpp -o program && dwz program"},
	{"dwz, common parts apart", "g++ -O2 -gdwarf-4 calls.cpp -o program && cp program original && g++ -O3 -gdwarf-4 calls.cpp -o other && dwz -m common.debug program other"},
	{"rustc", "rustc -O -g calls.rs -o program"},
}

// moreBuilds are for the large sweep.
var moreBuilds = []struct{ name, command string }{
	{"gcc DWARF 3", "gcc -O1 -gdwarf-3 calls.c -o program"},
	{"gcc link-time optimization, DWARF 4", "gcc -O3 -gdwarf-4 -flto calls.c -o program"},
	{"g++ DWARF 5", "g++ -O2 -gdwarf-5 calls.cpp -o program"},
	{"g++ not optimized", "g++ -O0 -g calls.cpp -o program"},
	{"g++ for size", "g++ -Os -g calls.cpp -o program"},
	{"g++ fixed address", "g++ -O2 -g -no-pie calls.cpp -o program"},
	{"g++ much information", "g++ -O2 -g3 heavy.cpp -o program"},
	{"g++ lines only", "g++ -O2 -g1 heavy.cpp -o program"},
	{"g++ heavy, link-time optimization", "g++ -O2 -g -flto heavy.cpp -o program"},
	{"g++ type units, DWARF 4", "g++ -O2 -gdwarf-4 -fdebug-types-section calls.cpp -o program"},
	{"g++ sections", "g++ -O3 -g -ffunction-sections -Wl,--gc-sections calls.cpp -o program"},
	{"g++ zlib of GNU's", "g++ -O2 -g -gz=zlib-gnu calls.cpp -o program"},
	{"g++ split", "g++ -O2 -g -gsplit-dwarf heavy.cpp -o program"},
	{"g++ split, DWARF 4", "g++ -O2 -gdwarf-4 -gsplit-dwarf calls.cpp -o program"},
	{"clang DWARF 4", "clang++-14 -O2 -gdwarf-4 heavy.cpp -o program"},
	{"clang heavy", "clang++-14 -O3 -g heavy.cpp -o program"},
	{"clang C", "clang-14 -O2 -g calls.c -o program"},
	{"clang index", "clang++-14 -O2 -g -gdwarf-aranges calls.cpp -o program"},
	{"clang zlib", "clang++-14 -O2 -g -gz=zlib calls.cpp -o program"},
	{"clang split", "clang++-14 -O2 -gdwarf-5 -gsplit-dwarf -c calls.cpp && clang++-14 calls.o -o program"},
	{"lld, folded", "clang++-14 -O2 -g -ffunction-sections -fuse-ld=lld -Wl,--icf=all,--gc-sections calls.cpp -o program"},
	{"arm64", "aarch64-linux-gnu-gcc -O2 -g calls.c -o program"},
	{"two compilers", "g++ -O2 -g -c calls.cpp -o a.o && clang-14 -O2 -g -Dmain=other -c calls.c -o b.o && g++ a.o b.o -o program"},
	{"dwz, DWARF 4", "g++ -O2 -gdwarf-4 heavy.cpp -o program && dwz program"},
	{"dwz, common parts apart, DWARF 5", "g++ -O2 -gdwarf-5 calls.cpp -o program && cp program original && g++ -O3 -gdwarf-5 calls.cpp -o other && dwz -5 -m common.debug program other"},
	{"rustc DWARF 5", "rustc -O -g -C dwarf-version=5 calls.rs -o program"},
	{"rustc not optimized", "rustc -g calls.rs -o program"},
	{"rustc link-time optimization", "rustc -O -g -C lto=fat calls.rs -o program"},
	{"rustc split", "rustc -O -g -C split-debuginfo=unpacked calls.rs -o program"},
	{"rustc packaged", "rustc -O -g -C split-debuginfo=packed calls.rs -o program"},
}

// build runs a command where the sources are and returns the program.
func build(t testing.TB, command string) string {
	t.Helper()
	commands := strings.Split(command, " && ")
	for _, c := range commands {
		need(t, strings.Fields(c)[0])
	}
	dir := t.TempDir()
	sources, err := filepath.Glob("testdata/*.*")
	if err != nil || len(sources) == 0 {
		t.Fatal(err, sources)
	}
	for _, s := range sources {
		b, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(s)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range commands {
		run(t, dir, strings.Fields(c)...)
	}
	return filepath.Join(dir, "program")
}

func TestAgree(t *testing.T) {
	need(t, symbolizer, "llvm-objcopy-14")
	for _, b := range builds {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			compare(t, build(t, b.command), 2000)
		})
	}
	t.Run("libc", func(t *testing.T) {
		t.Parallel()
		compare(t, libcDebug(t), 2000)
	})
	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		compare(t, buildGo(t, "-ldflags=-compressdwarf=true"), 2000)
	})
}

// TestAgreeAll is the large sweep: all of the builds, all debug information that
// Debian's packages have put where it belongs, and the files of SRPROF_OBJECTS.
func TestAgreeAll(t *testing.T) {
	if os.Getenv("SRPROF_ALL_OBJECTS") == "" {
		t.Skip("SRPROF_ALL_OBJECTS is not set")
	}
	need(t, symbolizer, "llvm-objcopy-14")
	for _, b := range slices.Concat(builds, moreBuilds) {
		t.Run(b.name, func(t *testing.T) { compare(t, build(t, b.command), 20000) })
	}
	t.Run("Go", func(t *testing.T) { compare(t, buildGo(t, "-ldflags=-compressdwarf=false"), 20000) })
	files, err := filepath.Glob("/usr/lib/debug/.build-id/*/*.debug")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(file string) bool { return openObject(t, file).Section(".gnu_debugaltlink") != nil })
	for _, file := range append(files, strings.Fields(os.Getenv("SRPROF_OBJECTS"))...) {
		t.Run(filepath.Base(file), func(t *testing.T) { compare(t, file, 20000) })
	}
}

// compare asks both about n addresses of a file.
func compare(t *testing.T, file string, n int) {
	t.Helper()
	o := openObject(t, file)
	d, err := Open(o, optionsOf(file))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	addrs := sample(o, n)
	if original := filepath.Join(filepath.Dir(file), "original"); exists(original) {
		file = original
	}
	agree(t, file, d, addrs, oracle(t, file, addrs))
}

// TestAlternate is about a Debian package, linked with link-time optimization,
// whose common parts dwz put into a file of their own. LLVM's symbolizer does
// not read that, so it is asked about all but names, and those of functions are
// compared with the symbol table's. (binutils' reader mixes up names of inlined
// calls: these are compared where the oracle gets the same file before dwz,
// "common parts apart".)
func TestAlternate(t *testing.T) {
	need(t, symbolizer, "llvm-objcopy-14")
	files, err := filepath.Glob("/usr/lib/debug/.build-id/*/*.debug")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, file := range files {
		o := openObject(t, file)
		if o.Section(".gnu_debugaltlink") == nil {
			continue
		}
		compared++
		compareAlternate(t, o, file)
	}
	if compared == 0 {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal("no debug information with common parts: is libbinutils-dbg installed?")
		}
		t.Skip("no debug information with common parts")
	}
}

func compareAlternate(t *testing.T, o *object.File, file string) {
	t.Helper()
	d, err := Open(o, optionsOf(file))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	addrs := sample(o, 2000)
	theirs, symbols := oracle(t, file, addrs), functionsOf(t, file)
	functions, inlined := 0, 0
	for i, calls := range findAll(t, d, addrs) {
		for n := range theirs[i] {
			switch {
			case n >= len(calls):
			case n < len(calls)-1:
				if theirs[i][n].Name = calls[n].Name; calls[n].Name == "" {
					t.Errorf("%v: %v: an inlined call without a name", addrs[i], calls)
				}
				inlined++
			case calls[n].Name != "": // else between functions
				theirs[i][n].Name = symbols(addrs[i], calls[n].Name)
				functions++
			}
		}
	}
	agree(t, file, d, addrs, theirs)
	if functions < 1500 || inlined < 500 {
		t.Errorf("%s: names of %d functions and %d inlined calls were compared", file, functions, inlined)
	}
}

// functionsOf finds the name that the symbol table has at an address, with or
// without what GCC appends; the wanted one, if there are several.
func functionsOf(t *testing.T, file string) func(a profile.ObjAddr, wanted string) string {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	return func(a profile.ObjAddr, wanted string) (name string) {
		for _, s := range symbols {
			if elf.ST_TYPE(s.Info) == elf.STT_FUNC && uint64(a) >= s.Value && uint64(a)-s.Value < s.Size {
				if name, _, _ = strings.Cut(s.Name, "."); name == wanted || s.Name == wanted {
					return wanted
				}
			}
		}
		return name
	}
}

// libcDebug is the C library's debug information, of libc6-dbg, which went
// through dwz and is compressed.
func libcDebug(t *testing.T) string {
	t.Helper()
	o := openObject(t, "/lib/"+runtimeTriple()+"/libc.so.6")
	id := string(o.BuildID())
	file := "/usr/lib/debug/.build-id/" + id[:2] + "/" + id[2:] + ".debug"
	if !exists(file) {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatalf("no %s: is libc6-dbg installed?", file)
		}
		t.Skipf("no %s", file)
	}
	return file
}

func runtimeTriple() string {
	if runtime.GOARCH == "arm64" {
		return "aarch64-linux-gnu"
	}
	return "x86_64-linux-gnu"
}

// buildGo builds a command of this module.
func buildGo(t *testing.T, flags string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	run(t, "..", "go", "build", flags, "-o", file, "./cmd/srprof")
	return file
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// optionsOf finds other files where tools leave them.
func optionsOf(file string) Options {
	open := func(path string) (*object.File, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return object.OpenDebug(f)
	}
	o := Options{
		Split: open,
		Alternate: func(path string, _ []byte) (*object.File, error) {
			if !filepath.IsAbs(path) {
				path = filepath.Join(filepath.Dir(file), path)
			}
			return open(path)
		},
	}
	if p := file + ".dwp"; exists(p) {
		o.Package = func() (*object.File, error) { return open(p) }
	}
	return o
}
