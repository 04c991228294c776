// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ianlancetaylor/demangle"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Mangled names are a small language with back references: a hundred bytes can
// stand for gigabytes. The library stops writing at a length; the input's
// bounds how deep it recurses and how much it builds on the way.
const (
	maxMangled   = 4 << 10 // bytes; longer names stay as they are
	maxDemangled = 12      // log₂ of the bytes of the result
)

// Demangle returns what people call a function: the names of C++ (Itanium ABI)
// and Rust (legacy and v0) as in the source, with parameters, but without
// Rust's hashes; [profile.ShortName] is the short form. What compilers append
// to clones of a function is left out in any language, see clones. Other names,
// and those that break the rules, come back as they are.
//
// The result is valid UTF-8 without control characters, whatever the name.
func Demangle(name string) string {
	name, isStub := strings.CutSuffix(name, pltSuffix)
	if isStub {
		return Demangle(name) + pltSuffix
	}
	plain := printable(withoutClone(name))
	if len(name) > maxMangled || len(plain) < 3 || plain[0] != '_' {
		if strings.Contains(plain, "go.shape.") {
			return profile.ShortGoName(plain)
		}
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
	name = keepUnderscores(name)
	limit := demangle.MaxLength(maxDemangled)
	s, err := demangle.ToString(name, demangle.NoClones, limit)
	if err == nil && len(s) >= 1<<maxDemangled {
		// It was cut off, and what a function is comes behind what it returns.
		s, err = demangle.ToString(name, demangle.NoParams, limit)
	}
	if err != nil {
		return ""
	}
	return s
}

// legacyHash is what Rust's legacy names end with: the length of a hash, then
// the hash itself and the end of the name.
const legacyHash = len("17h0123456789abcdefE")

// keepUnderscores doubles the first underscore of each part of a legacy Rust
// name. The library takes one there for the separator that only v0 names have,
// and would make _rust_begin_short_backtrace of __rust_begin_short_backtrace.
func keepUnderscores(name string) string {
	end := len(name) - legacyHash
	if !strings.HasPrefix(name, "_ZN") || end < 3 || name[end:end+3] != "17h" || name[len(name)-1] != 'E' {
		return name
	}
	out := []byte("_ZN")
	for i := 3; i < end; {
		digits, n := i, 0
		for ; i < end && name[i] >= '0' && name[i] <= '9' && n < len(name); i++ {
			n = 10*n + int(name[i]-'0')
		}
		if i == digits || n > end-i {
			return name
		}
		if n > 0 && name[i] == '_' {
			out = append(strconv.AppendInt(out, int64(n)+1, 10), '_')
		} else {
			out = append(out, name[digits:i]...)
		}
		out = append(out, name[i:i+n]...)
		i += n
	}
	return string(append(out, name[end:]...))
}

// clones are the suffixes of GCC and LLVM for functions they split, specialize
// or make local; each may be followed by a number, or for LLVM a hash. None
// stays, not even as a word: a clone is the same function to whoever wrote it.
// .cold and its like are parts that are jumped to, so a frame of such a part is
// the function's own; what is called .part or .isra is called by the rest, and
// shows as if the function called itself. A frame's SystemName has it all.
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
