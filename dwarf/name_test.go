// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Names without a linkage name are qualified by what they are declared in. GCC
// leaves it out for C's functions in C++, Clang for all if it is told to.
func TestQualified(t *testing.T) {
	const source = `
namespace outer { namespace {
extern "C" { __attribute__((noinline, used)) int inner(int x) { return x * 3 + 1; } }
struct Before { struct { int n; } part; };
struct Type { struct Part { int n; int go(int x); } part; };
__attribute__((noinline, used)) int Type::Part::go(int x) { return n * x; }
} }
extern "C" int alone(int x) { outer::Type::Part p{x}; return outer::inner(p.go(x)); }
int main(int argc, char **) { return alone(argc); }`
	for _, x := range []struct {
		command string
		want    map[string]string // by symbol
	}{
		{"g++", map[string]string{"inner": "outer::(anonymous namespace)::inner", "alone": "alone", "main": "main"}},
		{"clang++-14 -mllvm -dwarf-linkage-names=Abstract", map[string]string{"inner": "inner", "alone": "alone", "main": "main",
			"_ZN5outer12_GLOBAL__N_14Type4Part2goEi": "outer::(anonymous namespace)::Type::Part::go"}},
	} {
		t.Run(x.command, func(t *testing.T) {
			args := strings.Fields(x.command)
			need(t, args[0], "nm")
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "a.cpp"), []byte(source), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, dir, append(args, "-g", "-O1", "-o", "a", "a.cpp")...)
			o := openObject(t, filepath.Join(dir, "a"))
			d, err := Open(o, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			seen := 0
			for line := range strings.Lines(run(t, dir, "nm", "a")) {
				f := strings.Fields(line)
				if len(f) != 3 || x.want[f[2]] == "" {
					continue
				}
				a, err := strconv.ParseUint(f[0], 16, 64)
				if err != nil {
					t.Fatal(err)
				}
				calls := findAll(t, d, []profile.ObjAddr{profile.ObjAddr(a)})[0]
				if len(calls) == 0 || calls[len(calls)-1].Name != x.want[f[2]] {
					t.Errorf("%s: %v, want %s", f[2], calls, x.want[f[2]])
				}
				seen++
			}
			if seen != len(x.want) {
				t.Errorf("%d of the functions in the program, want %d", seen, len(x.want))
			}
		})
	}
}
