// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

const cxxProgram = `
#include <cstdio>
#include <string>
#include <vector>
namespace geometry {
template <class T> struct Square {
  T side;
  __attribute__((noinline)) T area() const { return side * side; }
  virtual ~Square();
};
template <class T> __attribute__((noinline)) Square<T>::~Square() { puts("gone"); }
}
template <class T> __attribute__((noinline)) T twice(T n, std::vector<T> const &v) { return 2 * n + v.size(); }
__attribute__((noinline)) static int overloaded(std::string const &s) { return s.size(); }
__attribute__((noinline)) static int overloaded(int n) { return n + 1; }
int main(int argc, char **argv) {
  geometry::Square<int> s; s.side = argc;
  return twice(s.area(), {1, 2}) + overloaded(argv[0]) + overloaded(argc);
}
`

const rustProgram = `
mod shapes {
    pub trait Area { fn area(&self) -> u64; }
    pub struct Square<T>(pub T);
    impl Area for Square<u32> { #[inline(never)] fn area(&self) -> u64 { self.0 as u64 * self.0 as u64 } }
}
use shapes::Area;
#[inline(never)]
fn sum<T: Copy + Into<u64>>(v: &[T]) -> u64 { v.iter().map(|&x| x.into()).sum() }
fn main() {
    let n = std::env::args().count() as u32;
    println!("{} {}", shapes::Square(n).area(), sum(&[n, n]));
}
`

// names returns the readable names of all functions of a program.
func names(t *testing.T, path string) []string {
	var addrs []profile.ObjAddr
	for _, l := range nm(t, path) {
		addrs = append(addrs, l.addr)
	}
	slices.Sort(addrs)
	var out []string
	for _, f := range resolve(t, openFile(t, path), slices.Compact(addrs)) {
		out = append(out, f.Name)
		if strings.HasPrefix(f.Name, "_ZN") || strings.HasPrefix(f.Name, "_RN") {
			t.Errorf("%q is not demangled", f.Name)
		}
	}
	return out
}

func TestCxxProgram(t *testing.T) {
	dir := write(t, map[string]string{"a.cc": cxxProgram})
	command(t, dir, "g++", "-O1", "-o", "a.out", "a.cc")
	got := names(t, dir+"/a.out")
	for _, want := range []string{"main", "geometry::Square<int>::area() const", "geometry::Square<int>::~Square()", "overloaded(int)",
		"int twice<int>(int, std::vector<int, std::allocator<int> > const&)"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
}

func TestRustProgram(t *testing.T) {
	if _, err := exec.LookPath("rustc"); err != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, mangling := range []string{"legacy", "v0"} {
		dir := write(t, map[string]string{"a.rs": rustProgram})
		cmd := exec.Command("rustc", "-O", "-C", "symbol-mangling-version="+mangling, "-o", "a.out", "a.rs")
		if mangling == "legacy" {
			cmd.Args = append(cmd.Args, "-Z", "unstable-options")
			cmd.Env = append(cmd.Environ(), "RUSTC_BOOTSTRAP=1") // legacy is not stable any more
		}
		cmd.Dir = dir
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		got := names(t, dir+"/a.out")
		for _, want := range []string{"a::main", "<a::shapes::Square<u32> as a::shapes::Area>::area"} {
			if !slices.Contains(got, want) {
				t.Errorf("%s: no %s among %d names", mangling, want, len(got))
			}
		}
		if !slices.ContainsFunc(got, func(n string) bool { return n == "a::sum" || n == "a::sum::<u32>" }) {
			t.Errorf("%s: no a::sum", mangling)
		}
	}
}
