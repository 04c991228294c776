// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"fmt"
	"path/filepath"
)

// Variant is one way to build and run a program of the zoo, whose stacks are
// known: every user stack must be one of those that its source states. They
// are built as releases are, without frame pointers where their compiler has a
// say in it.
type Variant struct {
	Name      string
	Source    string
	Compiler  string // "": the usual one
	Package   string // Debian's, if the compiler is not the usual one
	Flags     []string
	Libraries []string // sources of shared libraries that it loads itself
	Args      []string
	Children  bool   // to be recorded with its children
	Start     string // what calls main, if not glibc does
	// Late says that what it runs is made known to the kernel by us, while it
	// runs already: how soon depends on how busy the machine is. Until then its
	// stacks may end early, but none that reaches the root may be wrong.
	Late bool
}

// Enough is the share of stacks that must be equal to a stated one.
const Enough = 0.99

// Enough is that share for one variant. Of what is made known late some stacks
// reach a root through the library that was there before; on a machine with
// hundreds of threads waiting for a CPU 5 % were seen, on a quiet one none.
func (v *Variant) Enough() float64 {
	if v.Late {
		return 0.9
	}
	return Enough
}

// Stacks are the whole user stacks that its source states.
func (v *Variant) Stacks() ([]StackPattern, error) {
	p, err := Read(v.Source)
	if err != nil {
		return nil, err
	}
	from := start
	if v.Start != "" {
		from = v.Start
	}
	var all []StackPattern
	for _, stated := range p.Stacks {
		s, err := parseStack(stated.Text, from)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.Source, err)
		}
		s.Seldom = stated.Seldom
		all = append(all, s)
	}
	return all, nil
}

// Build builds the variant into dir and returns its path.
func (v *Variant) Build(dir string) (string, error) {
	for _, name := range v.Libraries {
		library, err := Read(name)
		if err != nil {
			return "", err
		}
		if _, err := library.buildShared(dir, nil); err != nil {
			return "", fmt.Errorf("%s: %w", v.Name, err)
		}
	}
	p, err := Read(v.Source)
	if err != nil {
		return "", err
	}
	compiler := v.Compiler
	if compiler == "" {
		compiler = p.Compiler()
	}
	path, err := p.build(dir, compiler, v.Flags)
	if err != nil {
		return "", fmt.Errorf("%s: %w", v.Name, err)
	}
	return filepath.Clean(path), nil
}

const noFP = "-fomit-frame-pointer"

// Zoo is all of them.
var Zoo = []Variant{
	{Name: "C -O2", Source: "calls.c", Flags: []string{noFP}},
	{Name: "C -O3", Source: "calls.c", Flags: []string{noFP, "-O3"}},
	{Name: "C -Os", Source: "calls.c", Flags: []string{noFP, "-Os"}},
	{Name: "C LTO", Source: "calls.c", Flags: []string{noFP, "-flto"}},
	{Name: "C -fcf-protection", Source: "calls.c", Flags: []string{noFP, "-fcf-protection=full", "-Wl,-z,ibtplt"}},
	{Name: "C lazy binding", Source: "calls.c", Flags: []string{noFP, "-Wl,-z,lazy"}},
	{Name: "C fixed address", Source: "calls.c", Flags: []string{noFP, "-no-pie"}},
	{Name: "C addresses above 4 GB", Source: "calls.c", Flags: []string{noFP, "-Wl,-Ttext-segment=0x4200000000"}},
	{Name: "C code in one segment", Source: "calls.c", Flags: []string{noFP, "-Wl,-z,noseparate-code"}},
	{Name: "C without .eh_frame_hdr", Source: "calls.c", Flags: []string{noFP, "-Wl,--no-eh-frame-hdr"}},
	{Name: "C static", Source: "calls.c", Flags: []string{noFP, "-static"}},
	{Name: "C static PIE", Source: "calls.c", Flags: []string{noFP, "-static-pie"}},
	{Name: "C .debug_frame", Source: "calls.c", Flags: []string{noFP, "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"}},
	{Name: "C frame pointers", Source: "calls.c", Flags: []string{"-fno-omit-frame-pointer"}},
	{Name: "clang -O2", Source: "calls.c", Compiler: "clang-14", Package: "clang-14", Flags: []string{noFP}},
	{Name: "clang -O3", Source: "calls.c", Compiler: "clang-14", Package: "clang-14", Flags: []string{noFP, "-O3"}},
	{Name: "C threads, 1,000", Source: "crowd.c", Flags: []string{noFP}},
	{Name: "C recursion, 400 frames", Source: "depth.c", Flags: []string{noFP, "-fno-optimize-sibling-calls"}, Args: []string{"400", "wait"}},
	{Name: "C exec loop", Source: "execloop.c", Flags: []string{noFP}, Children: true, Late: true},
	{Name: "C exec loop, static", Source: "execloop.c", Flags: []string{noFP, "-static"}, Children: true, Late: true},
	{Name: "C dlopen loop", Source: "dlopens.c", Flags: []string{noFP}, Libraries: []string{"first.c", "second.c"}, Late: true},
	{Name: "C fork loop", Source: "forks.c", Flags: []string{noFP}, Args: []string{"wait"}, Children: true},
	{Name: "C signals", Source: "signals.c", Flags: []string{noFP}},
	{Name: "C signals, alternate stack", Source: "signals.c", Flags: []string{noFP}, Args: []string{"alternate"}},
	{Name: "C signals, static", Source: "signals.c", Flags: []string{noFP, "-static"}, Args: []string{"alternate"}},
	{Name: "C and a JIT compiler", Source: "jit.c", Flags: []string{noFP}},
	// Its start-up code has no call frame information, so stacks begin at main.
	{Name: "C musl", Source: "calls.c", Compiler: "musl-gcc", Package: "musl-tools", Flags: []string{noFP}, Args: []string{"own"}, Start: "(musl)"},
	{Name: "C musl, static", Source: "calls.c", Compiler: "musl-gcc", Package: "musl-tools", Flags: []string{noFP, "-static"}, Args: []string{"own"}, Start: "(musl)"},
	{Name: "C++ -O2", Source: "throws.cpp", Flags: []string{noFP}},
	{Name: "C++ -O3", Source: "throws.cpp", Flags: []string{noFP, "-O3"}},
	{Name: "C++ LTO", Source: "throws.cpp", Flags: []string{noFP, "-flto"}},
	{Name: "C++ static", Source: "throws.cpp", Flags: []string{noFP, "-static"}},
	{Name: "clang++ -O2", Source: "throws.cpp", Compiler: "clang++-14", Package: "clang-14", Flags: []string{noFP}},
	{Name: "clang, lld", Source: "calls.c", Compiler: "clang-14", Package: "clang-14 lld-14", Flags: []string{noFP, "--ld-path=/usr/bin/ld.lld-14"}},
	{Name: "Rust release", Source: "release.rs"},
	{Name: "Rust release, LTO", Source: "release.rs", Flags: []string{"-C", "lto=fat", "-C", "codegen-units=1"}},
	{Name: "Rust release, v0 names", Source: "release.rs", Flags: []string{"-C", "symbol-mangling-version=v0"}},
	{Name: "Go", Source: "gocalls"},
	{Name: "Go, stripped", Source: "gocalls", Flags: []string{"-ldflags=-s -w"}},
	{Name: "Go, PIE", Source: "gocalls", Flags: []string{"-buildmode=pie"}},
	{Name: "Go calls C", Source: "gocgo"},
	{Name: "Go calls C calls Go", Source: "gocgo", Args: []string{"back"}},
}
