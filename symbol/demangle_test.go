// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/carverauto/serviceradar-profiler/profile"
)

func TestDemangle(t *testing.T) {
	for in, want := range map[string]string{
		// C++
		"_ZN3foo3barEv":                         "foo::bar()",
		"_ZN3foo3barEv.isra.0":                  "foo::bar()",
		"_ZN3foo3barEv.constprop.0.cold":        "foo::bar()",
		"_Z3addIiET_S0_S0_":                     "int add<int>(int, int)",
		"_ZNSt6vectorIiSaIiEE9push_backEOi":     "std::vector<int, std::allocator<int> >::push_back(int&&)",
		"_ZZ4mainENKUlvE_clEv":                  "main::{lambda()#1}::operator()() const",
		"_ZN12_GLOBAL__N_13fooEv":               "(anonymous namespace)::foo()",
		"_ZN3FooD2Ev":                           "Foo::~Foo()",
		"_ZNK3FoocvbEv":                         "Foo::operator bool() const",
		"_ZThn8_N3Foo3barEv":                    "non-virtual thunk to Foo::bar()",
		"_ZN4node9inspector8protocol9ValueFunc": "_ZN4node9inspector8protocol9ValueFunc", // cut
		// Rust, legacy and v0
		"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE":                                                       "core::fmt::Formatter::pad",
		"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.12345678":                                         "core::fmt::Formatter::pad",
		"_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar17h930b740aa94f1d3aE": "<Test + 'static as foo::Bar<Test>>::bar",
		"_ZN3std3sys9backtrace28__rust_begin_short_backtrace17h0123456789abcdefE":                              "std::sys::backtrace::__rust_begin_short_backtrace",
		"_ZN3std2rt10lang_start28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE.llvm.123":                    "std::rt::lang_start::{{closure}}",
		"_ZN4_abc3__d1_17h0123456789abcdefE":                                                                   "_abc::__d::_",
		"_RNvCs1234_7mycrate3foo":                                                                              "mycrate::foo",
		"_RNvNtCs1234_7mycrate3bar3foo.llvm.55":                                                                "mycrate::bar::foo",
		"_RINvNtC3std3mem8align_ofjE":                                                                          "std::mem::align_of::<usize>",
		"_RNCNCNgCs6DXkGYLi8lr_2cc5spawn00B5_":                                                                 "cc::spawn::{closure#0}::{closure#0}",
		"_RNCNCNvC2cc5spawn00B4_":                                                                              "cc::spawn::{closure#0}::{closure#0}",
		// C, and everything else
		"main":                       "main",
		"__libc_start_main":          "__libc_start_main",
		"sort_r.isra.0":              "sort_r",
		"do_work.part.12":            "do_work",
		"do_work.constprop.0.isra.3": "do_work",
		"usage.cold":                 "usage",
		"helper.lto_priv.3":          "helper",
		"helper.llvm.1234567":        "helper",
		"nested.1":                   "nested.1",
		".cold":                      ".cold",
		"":                           "",
		"_":                          "_",
		"_Z":                         "_Z",
		"_R":                         "_R",
		"new\nline\x1b[31m\xff":      "new?line?[31m?",
		"größe":                      "größe",
		"read@plt":                   "read@plt",
		"_ZN3foo3barEv@plt":          "foo::bar()@plt",
	} {
		if got := Demangle(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// Names that would fill memory, or never end.
func TestDemangleIsBounded(t *testing.T) {
	deep := "_Z1f" + strings.Repeat("P", 100000) + "i"
	var doubling strings.Builder // each argument is a pair of the one before
	doubling.WriteString("_Z1fI1AIiiEE")
	for i := range 60 {
		ref := "S" + strings.ToUpper(string("0123456789abcdefghijklmnopqrstuvwxyz"[i%36])) + "_"
		doubling.WriteString("1AI" + ref + ref + "E")
	}
	rust := "_RMC1a" + strings.Repeat("TB_", 500) + strings.Repeat("E", 500) + "1f"
	for _, name := range []string{deep, doubling.String(), rust, "_Z" + strings.Repeat("N", 4000), "_R" + strings.Repeat("I", 4000),
		"_Z" + strings.Repeat("cv", 2000), "_ZN" + strings.Repeat("1aI", 1300), "_Z1fI" + strings.Repeat("XplLi1E", 500)} {
		begin := time.Now()
		got := Demangle(name)
		if len(got) > max(len(name), 1<<maxDemangled) {
			t.Errorf("%.20s…: %d bytes", name, len(got))
		}
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("%.20s…: took %v", name, d)
		}
	}
}

// c++filt is what we mean, for all of the standard library; and short is what
// it says without parameters, but for what is in angle brackets.
func TestDemangleAgreesWithCxxfilt(t *testing.T) {
	out, err := exec.Command("g++", "-print-file-name=libstdc++.so.6").Output()
	path := strings.TrimSpace(string(out))
	if err != nil || !filepath.IsAbs(path) {
		t.Fatal("no libstdc++ found: ", err)
	}
	var mangled []string
	for _, l := range nm(t, "-D", path) {
		if strings.HasPrefix(l.name, "_Z") {
			mangled = append(mangled, withoutVersion(l.name))
		}
	}
	full, bare := cxxfilt(t, mangled), cxxfilt(t, mangled, "-p")
	same, differ := 0, 0
	for i, name := range mangled {
		got := Demangle(name)
		short, want := profile.ShortName(got), profile.ShortName(bare[i])
		if got == full[i] && short == want {
			same++
			continue
		}
		if strings.Contains(full[i], "std::basic_") {
			continue // the ABI's short forms (std::string) stay short here
		}
		if differ++; differ <= 5 {
			t.Logf("%s:\n     got %q\n c++filt %q\n   short %q\n c++filt %q", name, got, full[i], short, want)
		}
		if strings.HasPrefix(got, "_Z") {
			t.Errorf("%s is not demangled", got)
		}
	}
	if same < 4000 || differ > same/200 {
		t.Errorf("%d equal, %d differ", same, differ)
	}
	t.Logf("%d equal, %d differ", same, differ)
}

func cxxfilt(t *testing.T, mangled []string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("c++filt", args...)
	cmd.Stdin = strings.NewReader(strings.Join(mangled, "\n") + "\n")
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(names) != len(mangled) {
		t.Fatalf("%d names of %d", len(names), len(mangled))
	}
	return names
}

func FuzzDemangle(f *testing.F) {
	for _, s := range []string{"_ZN3foo3barEv.isra.0", "_RNvCs1234_7mycrate3foo", "_ZZ4mainENKUlvE_clEv", "_Z1fI1AIiiEE1AIS0_S0_E", "a\xff.cold"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := Demangle(name)
		if !utf8.ValidString(got) || len(got) > max(3*len(name), 1<<maxDemangled) || strings.ContainsAny(got, "\n\t\x00\x1b") {
			t.Errorf("%q", got)
		}
	})
}
