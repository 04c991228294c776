// SPDX-License-Identifier: Apache-2.0

// Package programs holds targets with a known hot path. Each source states, in
// the comment at its head, how it is built and what a profile of it must show:
//
//	// build: -O2 -pthread            flags for its compiler
//	// library: libhot.c              a shared library it is linked with
//	// expect: main;run;hot_a 60      share, in percent, of the samples in which
//	//                                these frames follow one another, root first
//	// expect: vfs_read_[k] >90       no less than that share
//	// stack: (start);main|run;hot_a  a whole user stack (StackPattern); each must
//	//                                be equal to one of those stated
//	// also: (start);main|exit        another one, too rare to be in each recording
//
// A frame that ends in '*' stands for all that begin so. Unless told otherwise,
// programs are built with frame pointers. They print "ready" when they have
// begun; those of the zoo (Zoo) wait for a byte on standard input then.
package programs

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed *.c *.cpp *.rs */main.go
var sources embed.FS

// Program is what a source states.
type Program struct {
	Name    string // of the source file, or of a Go program's folder
	Flags   []string
	Library string // source of a shared library, in most cases ""
	Expect  []Expectation
	Stacks  []Stack
}

// Stack is the text of a StackPattern.
type Stack struct {
	Text   string
	Seldom bool
}

// Read reads what the source of that name states.
func Read(name string) (*Program, error) {
	file := name
	if filepath.Ext(name) == "" {
		file += "/main.go"
	}
	text, err := sources.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read program: %w", err)
	}
	return parse(name, string(text))
}

// parse understands the comment lines of a source.
func parse(name, text string) (*Program, error) {
	p := &Program{Name: name}
	for line := range strings.Lines(text) {
		what, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "// "), ": ")
		if !ok || !strings.HasPrefix(line, "// ") {
			continue
		}
		switch what {
		case "build":
			p.Flags = strings.Fields(value)
		case "library":
			p.Library = value
		case "expect":
			e, err := parseExpectation(value)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			p.Expect = append(p.Expect, e)
		case "stack", "also":
			p.Stacks = append(p.Stacks, Stack{value, what == "also"})
		}
	}
	return p, nil
}

func parseExpectation(s string) (Expectation, error) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return Expectation{}, fmt.Errorf("expectation %q has no share", s)
	}
	number, least := strings.CutPrefix(s[i+1:], ">")
	percent, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return Expectation{}, fmt.Errorf("expectation %q: %w", s, err)
	}
	return Expectation{Frames: strings.Split(s[:i], ";"), Share: percent / 100, AtLeast: least}, nil
}

// Build builds the program into dir and returns its path. Flags are added to
// those that the source states.
func (p *Program) Build(dir string, flags ...string) (string, error) {
	return p.build(dir, p.Compiler(), append(p.framePointers(), flags...))
}

func (p *Program) build(dir, compiler string, flags []string) (string, error) {
	to := filepath.Join(dir, strings.TrimSuffix(p.Name, filepath.Ext(p.Name)))
	flags = append(append([]string{}, p.Flags...), flags...)
	if p.Library != "" {
		library, err := Read(p.Library)
		if err != nil {
			return "", err
		}
		if _, err := library.BuildShared(dir); err != nil {
			return "", err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(p.Library, "lib"), filepath.Ext(p.Library))
		flags = append(flags, "-L"+dir, "-l"+name, "-Wl,-rpath,$ORIGIN")
	}
	return to, p.compile(to, compiler, flags)
}

// BuildShared builds a library and returns its path.
func (p *Program) BuildShared(dir string) (string, error) {
	return p.buildShared(dir, p.framePointers())
}

func (p *Program) buildShared(dir string, flags []string) (string, error) {
	to := filepath.Join(dir, strings.TrimSuffix(p.Name, filepath.Ext(p.Name))+".so")
	flags = append(append([]string{"-shared", "-fPIC"}, p.Flags...), flags...)
	return to, p.compile(to, p.Compiler(), flags)
}

// framePointers make programs walkable by frame pointer. In C and C++ a call at
// a function's end must stay a call, or the function is gone from the stack.
func (p *Program) framePointers() []string {
	switch p.Compiler() {
	case "go":
		return nil // always has them
	case "rustc":
		return []string{"-C", "force-frame-pointers=yes"}
	}
	return []string{"-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer", "-fno-optimize-sibling-calls"}
}

// Compiler is the command that builds the program.
func (p *Program) Compiler() string {
	switch filepath.Ext(p.Name) {
	case ".c":
		return "gcc"
	case ".cpp":
		return "g++"
	case ".rs":
		return "rustc"
	}
	return "go"
}

func (p *Program) compile(to, compiler string, flags []string) error {
	var args []string
	if compiler == "go" {
		args = append([]string{"build", "-o", to}, flags...)
		args = append(args, "github.com/carverauto/serviceradar-profiler/test/programs/"+p.Name)
	} else {
		text, err := sources.ReadFile(p.Name)
		if err != nil {
			return fmt.Errorf("build %s: %w", p.Name, err)
		}
		source := filepath.Join(filepath.Dir(to), p.Name)
		if err := os.WriteFile(source, text, 0o644); err != nil {
			return fmt.Errorf("build %s: %w", p.Name, err)
		}
		if compiler == "rustc" {
			args = []string{"--edition", "2021"}
		}
		args = append(append(args, "-o", to, source), flags...) // libraries are named after what needs them
	}
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %s %s: %w\n%s", p.Name, compiler, strings.Join(args, " "), err, out)
	}
	return nil
}
