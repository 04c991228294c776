// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ianlancetaylor/demangle"
)

// Mangled names are a small language with back references: a hundred bytes can
// stand for gigabytes. The library stops writing at a length; the input's
// bounds how deep it recurses and how much it builds on the way.
const (
	maxMangled   = 4 << 10 // bytes; longer names stay as they are
	maxDemangled = 12      // log₂ of the bytes of the result
)

// Demangle returns what people call a function: the names of C++ (Itanium ABI)
// and Rust (legacy and v0) as in the source, with template arguments but
// without parameters, return types and hashes. What compilers append to clones
// of a function (.isra.0, .cold) is left out in any language: a clone is the
// same function to whoever wrote it. Go's names need no more. Other names, and
// those that break the rules, come back as they are.
//
// The result is valid UTF-8 without control characters, whatever the name.
func Demangle(name string) string {
	name, isStub := strings.CutSuffix(name, pltSuffix)
	if isStub {
		return Demangle(name) + pltSuffix
	}
	plain := printable(withoutClone(name))
	if len(name) > maxMangled || len(plain) < 3 || plain[0] != '_' {
		return plain
	}
	if s := demangled(plain); s != "" {
		return printable(s)
	}
	return plain
}

// demangled returns "" for names that are not mangled. The library is third
// party, and its input hostile: a panic in it costs one name, not the session.
func demangled(name string) (s string) {
	defer func() {
		if recover() != nil {
			s = ""
		}
	}()
	s, err := demangle.ToString(name, demangle.NoParams, demangle.MaxLength(maxDemangled))
	if err != nil {
		return ""
	}
	return s
}

// clones are the suffixes of GCC and LLVM for functions they split, specialize
// or make local; each may be followed by a number, or for LLVM a hash.
var clones = []string{
	".isra", ".part", ".constprop", ".cold", ".lto_priv", ".llvm", ".localalias",
	".warm", ".unlikely", ".hot", ".split", ".resume", ".destroy", ".cleanup",
}

func withoutClone(name string) string {
	for {
		// A number alone is no clone: foo.1 may be a nested function of C.
		base := withoutNumber(name)
		short := base
		for _, c := range clones {
			short = strings.TrimSuffix(short, c)
		}
		if short == base || short == "" {
			return name
		}
		name = short
	}
}

// withoutNumber drops a last ".123".
func withoutNumber(name string) string {
	s := strings.TrimRight(name, "0123456789")
	if len(s) < len(name) && strings.HasSuffix(s, ".") {
		return s[:len(s)-1]
	}
	return name
}

// printable replaces what has no business in a name: it ends up on terminals,
// in line-based formats and in protobuf strings.
func printable(name string) string {
	for i := 0; i < len(name); i++ {
		if name[i] < ' ' || name[i] > '~' {
			return strings.Map(func(r rune) rune {
				if r == utf8.RuneError || unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
					return '?'
				}
				return r
			}, name)
		}
	}
	return name
}
