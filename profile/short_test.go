// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"strings"
	"testing"
	"time"
)

var shortNames = map[string]string{
	// C++
	"std::vector<int, std::allocator<int> >::push_back(int const&)": "std::vector<...>::push_back",
	"std::vector<int, std::allocator<int>>::push_back(int&&)":       "std::vector<...>::push_back",
	"main":                          "main",
	"f(int)":                        "f",
	"int f<int>(int)":               "f<...>",
	"std::vector<int> ns::f<int>()": "ns::f<...>",
	"unsigned long f<unsigned long>(unsigned long, char const*)": "f<...>",
	"Foo::~Foo()":                                       "Foo::~Foo",
	"Foo<int>::~Foo()":                                  "Foo<...>::~Foo",
	"Foo::get() const":                                  "Foo::get",
	"Foo::get() const volatile &":                       "Foo::get",
	"Foo::get() &&":                                     "Foo::get",
	"Foo::get() const [clone .isra.0]":                  "Foo::get",
	"f[abi:cxx11](int)":                                 "f[abi:cxx11]",
	"(anonymous namespace)::f(int)":                     "(anonymous namespace)::f",
	"int (anonymous namespace)::f<char>(char)":          "(anonymous namespace)::f<...>",
	"ns::(anonymous namespace)::T<int>::f(int)":         "ns::(anonymous namespace)::T<...>::f",
	"(anonymous namespace)::(anonymous namespace)::f()": "(anonymous namespace)::(anonymous namespace)::f",
	// operators
	"Foo::operator()(int) const":                                "Foo::operator()",
	"Foo<int>::operator()(int) const":                           "Foo<...>::operator()",
	"void Foo::operator()<int>(int) const":                      "Foo::operator()<...>",
	"std::ostream& operator<<(std::ostream&, Foo const&)":       "operator<<",
	"std::ostream& std::operator<< <char>(std::ostream&, char)": "std::operator<< <...>",
	"std::basic_ostream<char, std::char_traits<char> >& std::operator<< <std::char_traits<char> >(std::basic_ostream<char, std::char_traits<char> >&, char const*)": "std::operator<< <...>",
	"bool operator< <int>(A<int>, A<int>)":                 "operator< <...>",
	"bool operator<(A, B)":                                 "operator<",
	"bool operator><int>(A<int>)":                          "operator><...>",
	"Foo::operator<=>(Foo const&) const":                   "Foo::operator<=>",
	"Foo::operator->() const":                              "Foo::operator->",
	"Foo::operator->*(int)":                                "Foo::operator->*",
	"Foo::operator[](unsigned long)":                       "Foo::operator[]",
	"Foo::operator,(Foo)":                                  "Foo::operator,",
	"Foo::operator+=(Foo const&)":                          "Foo::operator+=",
	"Foo::operator==(Foo const&) const":                    "Foo::operator==",
	"Foo::operator&&(Foo)":                                 "Foo::operator&&",
	"operator new(unsigned long)":                          "operator new",
	"operator new[](unsigned long, std::nothrow_t const&)": "operator new[]",
	"operator delete(void*)":                               "operator delete",
	"operator new":                                         "operator new",
	"operator\"\" _ms(unsigned long long)":                 "operator\"\" _ms",
	"operatorX<int>(int)":                                  "operatorX<...>",
	"my_operator(int)":                                     "my_operator",
	// conversions
	"Foo::operator bool() const":                                   "Foo::operator bool",
	"Foo::operator std::vector<int, std::allocator<int> >() const": "Foo::operator std::vector<...>",
	"Foo::operator unsigned long()":                                "Foo::operator unsigned long",
	"Foo::operator char const*() const":                            "Foo::operator char const*",
	"Foo::operator newtype()":                                      "Foo::operator newtype",
	"Foo::operator void (*)(int)()":                                "Foo::operator void (*)(int)()", // what is left would be shortened again
	"Foo<int>::operator int()":                                     "Foo<...>::operator int",
	"Foo::operator int<int>()":                                     "Foo::operator int<...>",
	// lambdas and local names
	"main::{lambda()#1}::operator()() const":                             "main::{lambda#1}::operator()",
	"f(int)::{lambda(int, std::vector<int>)#2}::operator()(int) const":   "f::{lambda#2}::operator()",
	"A::f() const::{lambda()#1}::operator()() const":                     "A::f::{lambda#1}::operator()",
	"auto f<int>(int)::{lambda(auto:1)#1}::operator()<char>(char) const": "f<...>::{lambda#1}::operator()<...>",
	"f()::'lambda'(int)::operator()(int) const":                          "f::'lambda'::operator()",
	"f(int)::Local::g()":                          "f::Local::g",
	"main::$_0::operator()(int) const":            "main::$_0::operator()",
	"f(void (*)(int), std::function<void (int)>)": "f",
	"{unnamed type#1}::f(int)":                    "{unnamed type#1}::f",
	// types of functions, and pointers to them
	"std::function<void (int)>::operator()(int) const": "std::function<...>::operator()",
	"void (*get<int>(int))(char)":                      "get<...>",
	"int (&array())[3]":                                "array",
	"void (Foo::*member(int))(char)":                   "member",
	"void std::__invoke_impl<void, void (*)(int), int>(std::__invoke_other, void (*&&)(int), int&&)": "std::__invoke_impl<...>",
	"decltype (f(x)) g<int>(int)":        "g<...>",
	"decltype(auto) g<int>(int)":         "g<...>",
	"auto f<int>(int) -> decltype(g(x))": "f<...>",
	// signs in template arguments
	"A<((1)>(2))>::f()":              "A<...>::f",
	"A<((int)3<<(2))>::f(int)":       "A<...>::f",
	"A<&(Foo::operator>(int))>::f()": "A<...>::f",
	"A<&Foo::operator->>::f()":       "A<...>::f",
	"A<B<C<D<E> > > >::f<G<H> >()":   "A<...>::f<...>",
	// made by the compiler
	"non-virtual thunk to Foo<int>::bar()": "non-virtual thunk to Foo<...>::bar",
	"virtual thunk to Foo::bar(int)":       "virtual thunk to Foo::bar",
	"guard variable for f(int)::x":         "guard variable for f::x",
	"f(int)@plt":                           "f@plt",
	"read@plt":                             "read@plt",
	"std::vector<...>::push_back":          "std::vector<...>::push_back",
	// Rust
	"core::fmt::Formatter::pad":                        "core::fmt::Formatter::pad",
	"core::ptr::drop_in_place<alloc::vec::Vec<u8>>":    "core::ptr::drop_in_place<...>",
	"std::mem::align_of::<usize>":                      "std::mem::align_of::<...>",
	"<alloc::vec::Vec<u8> as core::ops::Deref>::deref": "<alloc::vec::Vec<...> as core::ops::Deref>::deref",
	"<T as core::convert::Into<U>>::into":              "<T as core::convert::Into<...>>::into",
	"<<A as B<C>>::D as E>::f":                         "<<A as B<...>>::D as E>::f",
	"<&mut F as core::ops::FnOnce<(A,)>>::call_once":   "<&mut F as core::ops::FnOnce<...>>::call_once",
	"<fn(A) -> B as core::fmt::Debug>::fmt":            "<fn(A) -> B as core::fmt::Debug>::fmt",
	"<(A, B) as T>::f":                                 "<(A, B) as T>::f",
	"core::slice::<impl [T]>::len":                     "core::slice::<impl [T]>::len",
	"core::ops::function::impls::<impl core::ops::function::FnOnce<A> for &mut F>::call_once": "core::ops::function::impls::<impl core::ops::function::FnOnce<...> for &mut F>::call_once",
	"a::b::{{closure}}":                                     "a::b::{{closure}}",
	"a::b::<T>::{closure#0}::{closure#1}":                   "a::b::<...>::{closure#0}::{closure#1}",
	"<a::S<T>>::f::{closure#0}":                             "<a::S<...>>::f::{closure#0}",
	"core::ops::function::FnOnce::call_once{{vtable.shim}}": "core::ops::function::FnOnce::call_once{{vtable.shim}}",
	"std::sys::backtrace::__rust_begin_short_backtrace":     "std::sys::backtrace::__rust_begin_short_backtrace",
	// Go
	"main.(*T).Method":                   "main.(*T).Method",
	"main.F[...]":                        "main.F[...]",
	"main.(*list[...]).push":             "main.(*list[...]).push",
	"main.(*list[go.shape.string]).push": "main.(*list[...]).push",
	"slices.SortFunc[go.shape.[]int,go.shape.func(int) int]":  "slices.SortFunc[...]",
	"net/http.(*conn).serve.func1":                            "net/http.(*conn).serve.func1",
	"type:.eq.struct { F func(int); G <-chan int }":           "type:.eq.struct { F func(int); G <-chan int }",
	"type:.eq.[16]atomic.Pointer[go.shape.struct { a bool }]": "type:.eq.[16]atomic.Pointer[...]",
	"type:.eq.[2][3]main.T":                                   "type:.eq.[2][3]main.T",
	"main.main.func1":                                         "main.main.func1",
	// C, and others
	"nested.1":    "nested.1",
	"":            "",
	"[libfoo.so]": "[libfoo.so]",
	"<unknown>":   "<unknown>",
	"operator":    "operator",
	// broken
	"<": "<", "f<int": "f<int", "f(int": "f(int", "(": "(", "()": "()", ")": ")", ">": ">", "f>": "f>", "{lambda(": "{lambda(",
	"f{lambda(x)": "f{lambda(x)", "<A as B": "<A as B", "(*)(": "(*)(", "a (*)()": "a (*)()", " (": " (",
}

func TestShortName(t *testing.T) {
	for name, want := range shortNames {
		got := ShortName(name)
		if got != want {
			t.Errorf("%s\n got %q\nwant %q", name, got, want)
		}
		checkShort(t, name, got)
	}
}

func checkShort(t *testing.T, name, got string) {
	t.Helper()
	if again := ShortName(got); again != got {
		t.Errorf("%q is shortened to %q, that to %q", name, got, again)
	}
	if (got == "") != (name == "") || len(got) > len(name)+5*(strings.Count(name, "<")+strings.Count(name, "[")) {
		t.Errorf("%q is shortened to %q", name, got)
	}
}

// Brackets in brackets, and names in names, take no longer than their length asks for.
func TestShortNameIsLinear(t *testing.T) {
	for _, part := range []string{"<", "(", "(*", "a<b>(", "{lambda(", "operator<", "(*)(", "a::<", "f()::", ">", "a<(", " (*x", "<<"} {
		name := strings.Repeat(part, 1<<20/len(part))
		begin := time.Now()
		checkShort(t, name, ShortName(name))
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("%q…: %v", part, d)
		}
	}
}

func FuzzShortName(f *testing.F) {
	for name := range shortNames {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) { checkShort(t, name, ShortName(name)) })
}
