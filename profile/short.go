// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"slices"
	"strings"
)

// Shortened returns p with short names, for pictures; it shares all else with p.
// Code made at run time keeps its names: whoever made it chose them, and they
// follow no language's rules.
func (p *Profile) Shortened() *Profile {
	short := *p
	short.Addresses = slices.Clone(p.Addresses)
	known := map[string]string{}
	for i := range short.Addresses {
		a := &short.Addresses[i]
		if m := p.Mapping(a.Mapping); m != nil && m.Kind == MappingAnonymous {
			continue
		}
		a.Frames = slices.Clone(a.Frames)
		for j := range a.Frames {
			f := &a.Frames[j]
			name, ok := known[f.Name]
			if !ok {
				name = ShortName(f.Name)
				known[f.Name] = name
			}
			f.Name = name
		}
	}
	return &short
}

// ShortName is a function's name as pictures show it: without parameters and
// return type, template arguments as "<...>". It is for the demangled names of
// C++ and Rust; others, and what it does not understand, come back as they are.
//
//	std::vector<int, std::allocator<int> >::push_back(int const&)   std::vector<...>::push_back
//	int (anonymous namespace)::f<char>(char)::{lambda(int)#1}::operator()(int) const
//	                                                                 (anonymous namespace)::f<...>::{lambda#1}::operator()
//	<alloc::vec::Vec<u8> as core::ops::Deref>::deref                 <alloc::vec::Vec<...> as core::ops::Deref>::deref
//	main.(*list[go.shape.int]).push                                  main.(*list[...]).push
//
// A '<' begins template arguments if it stands behind a word, and a type if it
// is where a word should be (Rust's qualified paths). A '(' begins parameters
// if nothing but qualifiers or a "::" follow its ')'. What is left of the last
// blank outside of brackets then is the return type.
//
// The result is never empty unless the name is, is not longer but for some
// bytes, and is its own short name. It takes time proportional to the length.
func ShortName(name string) string {
	if isGoName(name) {
		short := ShortGoName(name)
		if !isGoName(short) && ShortName(short) != short { // see below
			return name
		}
		return short
	}
	if strings.IndexByte(name, '<') < 0 && strings.IndexByte(name, '(') < 0 {
		return name
	}
	base, stub := strings.CutSuffix(name, "@plt")
	prefix := specialPrefix(base)
	short, ok := shorten(base[len(prefix):], 0)
	if !ok || short == "" {
		return name
	}
	short = prefix + short
	if stub {
		short += "@plt"
	}
	// A name that breaks the rules may be shortened to one that follows them.
	// Such a name is left alone: what is shown must not depend on how often.
	if specialPrefix(short) != prefix {
		return name
	}
	rest := strings.TrimSuffix(short[len(prefix):], "@plt")
	if again, ok := shorten(rest, 0); ok && again != rest {
		return name
	}
	return short
}

// ShortGoName writes the type arguments of a Go name as "[...]", like Go itself
// does when it prints a stack. A '[' that does not stand behind a word is an
// array's.
func ShortGoName(name string) string {
	last := strings.LastIndexByte(name, ']')
	for i := 1; i < last; i++ {
		if name[i] == '[' && name[i-1] != ']' && isWord(name[i-1]) {
			return name[:i] + "[...]" + name[last+1:]
		}
	}
	return name
}

// isGoName recognizes names with brackets that only Go writes: of methods of
// pointers, of generic functions, and of functions made for types.
func isGoName(name string) bool {
	return strings.Contains(name, ".(") || strings.Contains(name, "go.shape.") ||
		strings.HasPrefix(name, "type:.") || strings.HasPrefix(name, "type..")
}

// specialPrefix returns the words before the name of something that compilers
// made for a function: "non-virtual thunk to ".
func specialPrefix(name string) string {
	for _, p := range []string{
		"non-virtual thunk to ", "virtual thunk to ", "covariant return thunk to ", "guard variable for ",
		"TLS init function for ", "TLS wrapper function for ", "transaction clone for ", "non-transaction clone for ",
		"hidden alias for ", "vtable for ", "typeinfo for ", "typeinfo name for ",
	} {
		if strings.HasPrefix(name, p) {
			return p
		}
	}
	return ""
}

// shortener reads a name from left to right.
type shortener struct {
	in   string
	at   int
	out  []byte
	name int // where in out the name begins, if what is before is a return type

	paths      int  // open '<' that are part of the name
	conversion bool // behind "operator" and the type that it converts to
	depth      int  // of names in brackets: what returns a pointer to a function
}

// maxShortDepth bounds how often a part of a name is looked at again.
const maxShortDepth = 3

func shorten(name string, depth int) (string, bool) {
	s := shortener{in: name, depth: depth, out: make([]byte, 0, len(name))}
	for s.at < len(s.in) {
		if inner, done, ok := s.step(); !ok {
			return "", false
		} else if inner != "" {
			return inner, true
		} else if done {
			break
		}
	}
	return string(s.out), s.paths == 0
}

// step reads one thing. done says that only what is left out follows; inner is
// the result if the name is in brackets.
func (s *shortener) step() (inner string, done, ok bool) {
	rest := s.in[s.at:]
	switch c := s.in[s.at]; {
	case c == 'o' && strings.HasPrefix(rest, "operator") && !s.afterWord():
		s.operator()
	case c == '<' && (s.afterWord() || s.isTurbofish(rest)):
		n := closing(rest)
		if n == 0 {
			return "", false, false
		}
		s.out = append(s.out, "<...>"...)
		s.at += n
	case c == '<':
		s.paths++
		s.emit(1)
	case c == '-' && strings.HasPrefix(rest, "->"):
		s.emit(2)
	case c == '>' && s.paths > 0:
		s.paths--
		s.emit(1)
	case c == '{':
		return "", false, s.braces(rest)
	case s.paths > 0:
		s.emit(1)
	case c == '(':
		return s.parentheses(rest)
	case c == ' ' && !s.conversion:
		s.emit(1)
		s.name = len(s.out)
	default:
		s.emit(1)
	}
	return "", false, true
}

func (s *shortener) emit(n int) {
	s.out = append(s.out, s.in[s.at:s.at+n]...)
	s.at += n
}

// afterWord says whether a word ends here.
func (s *shortener) afterWord() bool { return s.at > 0 && isWord(s.in[s.at-1]) }

// isTurbofish tells f::<T> from m::<impl T>::f.
func (s *shortener) isTurbofish(rest string) bool {
	return strings.HasSuffix(s.in[:s.at], "::") && !strings.HasPrefix(rest, "<impl ")
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80 || c == ']'
}

// operators whose names have brackets, signs or blanks, longest first.
var operators = []string{
	" new[]", " delete[]", " new", " delete", " co_await", "<=>", "<<=", ">>=", "->*", "\"\"",
	"()", "[]", "<<", ">>", "<=", ">=", "->", "<", ">",
}

// operator reads the word and what belongs to it. Signs without a bracket are
// read like any other character.
func (s *shortener) operator() {
	s.emit(len("operator"))
	for _, o := range operators {
		if !strings.HasPrefix(s.in[s.at:], o) {
			continue
		}
		s.emit(len(o))
		if o[0] == ' ' && s.at < len(s.in) && isWord(s.in[s.at]) {
			s.conversion = true // to a type whose name begins so
			return
		}
		if strings.HasPrefix(s.in[s.at:], " ") && o[0] != ' ' { // operator< <int>, operator"" _s
			s.emit(1)
		}
		if strings.HasPrefix(s.in[s.at:], "<") {
			if n := closing(s.in[s.at:]); n > 0 {
				s.out = append(s.out, "<...>"...)
				s.at += n
			}
		}
		return
	}
	s.conversion = strings.HasPrefix(s.in[s.at:], " ")
}

// braces reads {lambda(int)#1}, {closure#0}, {{closure}}.
func (s *shortener) braces(rest string) bool {
	n := closing(rest)
	if n == 0 {
		return false
	}
	if !strings.HasPrefix(rest, "{lambda(") {
		s.emit(n)
		return true
	}
	parameters := closing(rest[len("{lambda"):])
	if parameters == 0 {
		return false
	}
	s.emit(len("{lambda"))
	s.at += parameters
	s.emit(n - len("{lambda") - parameters)
	return true
}

// parentheses reads a '(' that is not inside of anything.
func (s *shortener) parentheses(rest string) (inner string, done, ok bool) {
	const anonymous = "(anonymous namespace)"
	if strings.HasPrefix(rest, anonymous) {
		s.emit(len(anonymous))
		return "", false, true
	}
	n := closing(rest)
	if n == 0 {
		return "", false, false
	}
	after := qualifiers(rest[n:])
	switch {
	case s.at > 0 && s.in[s.at-1] != ' ' && (after == len(rest)-n || strings.HasPrefix(rest[n+after:], "::")):
		if s.name > 0 {
			s.out = append(s.out[:0], s.out[s.name:]...)
		}
		s.name, s.conversion = 0, false
		s.at += n + after
		return "", s.at == len(s.in), true
	case !s.conversion && n < len(rest) && (rest[n] == '(' || rest[n] == '['):
		// void (*f(int))(char): the name is in here, behind the star.
		if star := strings.IndexAny(rest[:n], "*&"); star >= 0 && s.depth < maxShortDepth {
			inner, ok := shorten(strings.TrimLeft(rest[star:n-1], "*& "), s.depth+1)
			return inner, false, ok && inner != ""
		}
	}
	s.emit(n) // of a return type, or the type of a conversion
	return "", false, true
}

// qualifiers returns the length of what may stand behind parameters.
func qualifiers(s string) int {
	n := 0
	for {
		rest := s[n:]
		more := 0
		for _, q := range []string{" const", " volatile", " restrict", " noexcept", " &&", " &"} {
			if strings.HasPrefix(rest, q) && (len(rest) == len(q) || !isWord(rest[len(q)])) {
				more = len(q)
				break
			}
		}
		if strings.HasPrefix(rest, " -> ") {
			return len(s)
		}
		if strings.HasPrefix(rest, " [clone ") {
			more = strings.IndexByte(rest, ']') + 1
		}
		if more == 0 {
			return n
		}
		n += more
	}
}

// closing returns the length of the bracket that s begins with, up to the one
// that closes it; 0 if none does. In round brackets '<' and '>' may be signs.
func closing(s string) int {
	var open []byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '<', '(', '[', '{':
			open = append(open, c)
		case '>', ')', ']', '}':
			if c == '>' && (i > 0 && s[i-1] == '-' || open[len(open)-1] != '<') {
				continue
			}
			for open[len(open)-1] == '<' && c != '>' { // they were signs
				if open = open[:len(open)-1]; len(open) == 0 {
					return 0
				}
			}
			if open = open[:len(open)-1]; len(open) == 0 {
				return i + 1
			}
		case 'o':
			if strings.HasPrefix(s[i:], "operator") && (i == 0 || !isWord(s[i-1])) {
				i += len("operator") - 1 + len(sign(s[i+len("operator"):]))
			}
		}
	}
	return 0
}

// sign returns the sign of an operator if it looks like a bracket.
func sign(s string) string {
	for _, o := range operators {
		if o[0] != ' ' && strings.HasPrefix(s, o) {
			return o
		}
	}
	return ""
}
