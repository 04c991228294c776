// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
)

// builds are programs as people build them. Each is built in a directory of
// its own, as "program". If there is an "original" too, it has the same in a
// way that the oracle understands.
var builds = []struct{ name, command string }{
	{"gcc DWARF 5", "gcc -O2 -g calls.c -o program"},
	{"gcc DWARF 2", "gcc -O2 -gdwarf-2 calls.c -o program"},
	{"gcc DWARF 3", "gcc -O1 -gdwarf-3 calls.c -o program"},
	{"gcc 64-bit offsets", "gcc -O2 -g -gdwarf64 calls.c -o program"},
	{"g++ DWARF 5", "g++ -O2 -gdwarf-5 calls.cpp -o program"},
	{"g++ DWARF 4", "g++ -O2 -gdwarf-4 calls.cpp -o program"},
	{"g++ not optimized", "g++ -O0 -g calls.cpp -o program"},
	{"g++ type units", "g++ -O2 -g -fdebug-types-section calls.cpp -o program"},
	{"g++ type units, DWARF 4", "g++ -O2 -gdwarf-4 -fdebug-types-section calls.cpp -o program"},
	{"g++ link-time optimization", "g++ -O2 -g -flto calls.cpp -o program"},
	{"g++ sections", "g++ -O3 -g -ffunction-sections -Wl,--gc-sections calls.cpp -o program"},
	{"g++ zlib", "g++ -O2 -g -gz=zlib calls.cpp -o program"},
	{"clang zlib", "clang++-14 -O2 -g -gz=zlib calls.cpp -o program"},
	{"g++ zlib of GNU's", "g++ -O2 -g -gz=zlib-gnu calls.cpp -o program"},
	{"clang DWARF 5", "clang++-14 -O2 -gdwarf-5 calls.cpp -o program"},
	{"clang DWARF 4", "clang++-14 -O2 -gdwarf-4 calls.cpp -o program"},
	{"clang C", "clang-14 -O2 -g calls.c -o program"},
	{"clang index", "clang++-14 -O2 -g -gdwarf-aranges calls.cpp -o program"},
	{"clang lines only", "clang++-14 -O2 -gline-tables-only calls.cpp -o program"},
	{"clang link-time optimization", "clang++-14 -O2 -g -flto -fuse-ld=lld calls.cpp -o program"},
	{"lld, folded", "clang++-14 -O2 -g -ffunction-sections -fuse-ld=lld -Wl,--icf=all,--gc-sections calls.cpp -o program"},
	{"zstandard", "g++ -O2 -g calls.cpp -o original && objcopy --compress-debug-sections=zstd original program"},
	{"g++ split", "g++ -O2 -g -gsplit-dwarf calls.cpp -o program"},
	{"g++ split, DWARF 4", "g++ -O2 -gdwarf-4 -gsplit-dwarf calls.cpp -o program"},
	{"g++ split, type units", "g++ -O2 -g -gsplit-dwarf -fdebug-types-section calls.cpp -o program"},
	{"g++ split, packaged", "g++ -O2 -gdwarf-4 -gsplit-dwarf calls.cpp -o program && dwp -e program -o program.dwp && find . -name *.dwo -delete"},
	{"clang split", "clang++-14 -O2 -gdwarf-5 -gsplit-dwarf -c calls.cpp && clang++-14 calls.o -o program"},
	{"clang split, DWARF 4", "clang++-14 -O2 -gdwarf-4 -gsplit-dwarf -c calls.cpp && clang++-14 calls.o -o program"},
	{"clang split, packaged", "clang++-14 -O2 -gdwarf-5 -gsplit-dwarf -c calls.cpp && clang-14 -O2 -g -gsplit-dwarf -Dmain=other -c calls.c -o other.o" +
		" && clang++-14 calls.o other.o -o program && llvm-dwp-14 -e program -o program.dwp && find . -name *.dwo -delete"},
	{"dwz", "g++ -O2 -gdwarf-4 calls.cpp -o program && dwz program"},
	{"dwz DWARF 5", "g++ -O2 -gdwarf-5 calls.cpp -o program && dwz program"},
	{"dwz, common parts apart", "g++ -O2 -gdwarf-4 calls.cpp -o program && cp program original && g++ -O3 -gdwarf-4 calls.cpp -o other && dwz -m common.debug program other"},
	{"dwz, common parts apart, DWARF 5", "g++ -O2 -gdwarf-5 calls.cpp -o program && cp program original && g++ -O3 -gdwarf-5 calls.cpp -o other && dwz -5 -m common.debug program other"},
	{"rustc", "rustc -O -g calls.rs -o program"},
	{"rustc DWARF 5", "rustc -O -g -C dwarf-version=5 calls.rs -o program"},
	{"rustc link-time optimization", "rustc -O -g -C lto=fat calls.rs -o program"},
}

// build runs a command where the sources are and returns the program.
func build(t testing.TB, command string) string {
	t.Helper()
	commands := strings.Split(command, " && ")
	for _, c := range commands {
		need(t, strings.Fields(c)[0])
	}
	dir := t.TempDir()
	sources, err := filepath.Glob("testdata/calls.*")
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
			file := build(t, b.command)
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
			addrs := sample(o, 5000)
			if original := filepath.Join(filepath.Dir(file), "original"); exists(original) {
				file = original
			}
			agree(t, file, d, addrs, oracle(t, file, addrs))
		})
	}
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
