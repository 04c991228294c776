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
	Children  bool // to be recorded with its children
	// Share is how many of its stacks must be equal to a stated one at least;
	// 0 stands for 99 %. Why says what keeps it from that.
	Share float64
	Why   string
}

// Enough is the share of stacks that must be equal to a stated one, unless a
// limit is known.
const Enough = 0.99

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

var noFP = "-fomit-frame-pointer"

// Zoo is all of them.
var Zoo = []Variant{
	{Name: "C -O2", Source: "calls.c", Flags: []string{noFP}},
	{Name: "C -O3", Source: "calls.c", Flags: []string{noFP, "-O3"}},
	{Name: "C -Os", Source: "calls.c", Flags: []string{noFP, "-Os"}},
	{Name: "C LTO", Source: "calls.c", Flags: []string{noFP, "-flto"}},
	{Name: "C -fcf-protection", Source: "calls.c", Flags: []string{noFP, "-fcf-protection=full", "-Wl,-z,ibtplt"}},
	{Name: "C lazy binding", Source: "calls.c", Flags: []string{noFP, "-Wl,-z,lazy"}},
	{Name: "C fixed address", Source: "calls.c", Flags: []string{noFP, "-no-pie"}},
	{Name: "C static", Source: "calls.c", Flags: []string{noFP, "-static"}},
	{Name: "C static PIE", Source: "calls.c", Flags: []string{noFP, "-static-pie"}},
	{Name: "C .debug_frame", Source: "calls.c", Flags: []string{noFP, "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"}},
	{Name: "C frame pointers", Source: "calls.c", Flags: []string{"-fno-omit-frame-pointer"}},
	{Name: "clang -O2", Source: "calls.c", Compiler: "clang-14", Package: "clang-14", Flags: []string{noFP}},
	{Name: "clang -O3", Source: "calls.c", Compiler: "clang-14", Package: "clang-14", Flags: []string{noFP, "-O3"}},
}
