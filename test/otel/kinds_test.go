// SPDX-License-Identifier: Apache-2.0

package otel_test

import (
	"debug/elf"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// file is an object of which both make tables.
type file struct {
	*object.File
	path string
}

// kind is a way in which the readers differ and that has a reason. Anything
// else is an error, ours or theirs.
type kind struct {
	name, reason string
	is           func(*file, difference) bool
}

// kinds are tried in this order. Each knows its own by address and by both
// rules, so that none can hide an error elsewhere.
var kinds = []kind{
	{"padding", "between functions that lie less than 16 bytes apart theirs goes on with the rule of the one before; we have none",
		func(_ *file, d difference) bool { return d.ours == none && d.limit-d.start < 16 }},
	{"below the stack", "a frame pointer saved below the stack pointer, in epilogues after the pop: theirs takes it for unchanged, which it is in most of them; ours reads what is still there",
		func(_ *file, d difference) bool { return belowStack(d) }},
	{"stubs", "sections of PLT stubs without a description: we know them by their code",
		func(o *file, d difference) bool { return d.theirs == none && isStub(o, d.start) }},
	{"entry", "no description of the code that the kernel starts at: we say root, theirs knows only musl's",
		func(o *file, d difference) bool {
			const most = 64
			return d.theirs == none && d.ours == "root" && d.start >= uint64(o.Entry()) && d.limit <= uint64(o.Entry())+most
		}},
	{"CFA on a register", "a general register holds the CFA: theirs knows four of them, and these in libcrypto only",
		func(_ *file, d difference) bool { return d.theirs == none && strings.HasPrefix(d.ours, "CFA=R") }},
	{"CFA on a saved register", "ld.so's lazy binding: theirs ends there; ours finds the register where the called function saved it, at the last byte of the call",
		func(_ *file, d difference) bool {
			return d.theirs == none && d.limit-d.start == 1 && keptRegister.MatchString(d.ours)
		}},
	{"signal return", "code that makes the system call rt_sigreturn, and the byte before it, by which return addresses are looked up: theirs looks for it in other places",
		func(_ *file, d difference) bool { return d.ours == "signal" && d.limit-d.start <= 10 }},
	{"return in a register", "vfork and return thunks hold the return address in a register: theirs knows only the word below the CFA",
		func(_ *file, d difference) bool { return d.theirs == none && strings.Contains(d.ours, " RA=R") }},
	{"wide expression", "the CFA is *(SP + a) + b with b above 32: theirs has no room for it",
		func(_ *file, d difference) bool { return d.theirs == none && wideExpression(d.ours) }},
	{"expression on BP", "the CFA is *(BP + a) + b: 19 bytes of OpenSSL's assembly, for which we have no rule",
		func(_ *file, d difference) bool { return d.ours == "invalid" && baseExpression.MatchString(d.theirs) }},
	{"large frame", "arm64: more than 32 KB of variables, or a return address more than 2 KB below the CFA with no frame pointer beside it, for which our rules have no room",
		func(o *file, d difference) bool {
			return d.ours == "invalid" && o.Machine() == elf.EM_AARCH64 && largeFrame(d.theirs)
		}},
	{"unaligned", "the CFA's offset is no multiple of a word: leaf functions of Rust that moved the stack pointer by 4; our rules count words",
		func(_ *file, d difference) bool { return d.ours == "invalid" && unaligned(d.theirs) }},
	{"return column", "arm64: one CIE that says column 15 for the return address, an error of its assembly; theirs does not look",
		func(o *file, d difference) bool {
			return d.ours == "invalid" && d.theirs == "CFA=SP+0" && o.Machine() == elf.EM_AARCH64
		}},
	{"stub with endbr64", "the standard expression with another number than 11: theirs takes any for 11",
		func(o *file, d difference) bool {
			return d.ours == "CFA=SP+16" && d.theirs == "CFA=SP+8" && d.limit-d.start <= 2 && d.limit&15 == 11 && isStub(o, d.start)
		}},
	{"Go", "theirs reads .gopclntab and knows the stack depths of assembly and the runtime's roots; ours is the frame pointer throughout",
		func(o *file, d difference) bool { return d.ours == "frame pointer" && isGo(o) }},
	{"libgcrypt", "its AES keeps BP in R11, which theirs takes for unchanged, and its Camellia names a CFA register after an expression, which theirs adds up to nonsense; ours has no rule",
		func(o *file, d difference) bool {
			return d.ours == "invalid" && strings.HasPrefix(filepath.Base(o.path), "libgcrypt.so")
		}},
}

var (
	saved          = regexp.MustCompile(`^CFA=SP([+-]\d+) BP=\*\(CFA-(\d+)\)$`)
	keptRegister   = regexp.MustCompile(`^CFA=\*\(SP-\d+\)\+\d+$`)
	stackDeref     = regexp.MustCompile(`^CFA=\*\(SP[+-]\d+\)\+(\d+)( BP=.*)?$`)
	baseExpression = regexp.MustCompile(`^CFA=\*\(BP[+-]\d+\)\+\d+`)
	offset         = regexp.MustCompile(`^CFA=(SP|BP|FP)\+(\d+)`)
	returnOffset   = regexp.MustCompile(` RA=\*\(CFA-(\d+)\)$`)
)

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0 // so long that nothing here has it
	}
	return n
}

func belowStack(d difference) bool {
	m := saved.FindStringSubmatch(d.ours)
	return m != nil && number(m[2]) > number(m[1]) && d.theirs == "CFA=SP"+m[1]
}

func wideExpression(ours string) bool {
	m := stackDeref.FindStringSubmatch(ours)
	return m != nil && number(m[1]) > 32
}

func unaligned(theirs string) bool {
	m := offset.FindStringSubmatch(theirs)
	return m != nil && number(m[2])%map[string]int{"SP": 8, "BP": 8, "FP": 16}[m[1]] != 0
}

func largeFrame(theirs string) bool {
	cfa, ra := offset.FindStringSubmatch(theirs), returnOffset.FindStringSubmatch(theirs)
	return cfa != nil && number(cfa[2]) >= 1<<15 || ra != nil && number(ra[1]) > 2<<10
}

// isGo knows what Go's linker made, or had a part in.
func isGo(o *file) bool {
	return o.Section(".gopclntab") != nil || o.Section(".note.go.buildid") != nil || o.Section(".go.buildinfo") != nil
}

func isStub(o *file, a uint64) bool {
	for i := range o.Sections() {
		s := &o.Sections()[i]
		if (s.Name == ".plt" || s.Name == ".iplt" || strings.HasPrefix(s.Name, ".plt.")) && s.Contains(profile.ObjAddr(a)) {
			return true
		}
	}
	return false
}

func kindOf(o *file, d difference) string {
	for i := range kinds {
		if kinds[i].is(o, d) {
			return kinds[i].name
		}
	}
	return ""
}
