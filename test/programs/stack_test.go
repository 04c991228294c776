// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"slices"
	"strings"
	"testing"
)

func TestStackPattern(t *testing.T) {
	check := func(pattern, stack string, equal, full bool) {
		t.Helper()
		s, err := parseStack(pattern, start)
		if err != nil {
			t.Fatal(err)
		}
		frames := strings.Split(stack, ";")
		if s.Equal(frames) != equal || s.Full(frames) != full {
			t.Errorf("%s: %s is equal: %v, in full: %v; want %v, %v", pattern, stack, s.Equal(frames), s.Full(frames), equal, full)
		}
	}
	const p = "root;main|run;hot"
	check(p, "root;main;run;hot", true, true)
	check(p, "root;main;run", true, false)
	check(p, "root;main", true, false)
	check(p, "root", false, false)                  // ends above what must be there
	check(p, "main;run;hot", false, false)          // has no root
	check(p, "root;main;hot", false, false)         // lacks a frame in the middle
	check(p, "root;main;run;run;hot", false, false) // has one too many
	check(p, "root;main;run;hot;leaf", false, false)
	check(p, "root;main;other", false, false)
	check("(start);main|run", "_start;__libc_start_main;[libc.so.6];main;run", true, true)
	check("(start);main|run", "_start;__libc_start_main_impl;__libc_start_call_main;main", true, false)
	check("(start);main|run", "_start;[libc.so.6];main;run", false, false)
	check("main|down{3};leaf", "main;down;down;down;leaf", true, true)
	check("main|down{3};leaf", "main;down;down", true, false)
	check("main|down{3};leaf", "main;down;down;leaf", false, false)
	check("main|down{3};leaf", "main;down;down;down;down", false, false)
	check("main|down{1,3};leaf", "main;down;leaf", true, true)
	check("main|sort*{1,3};sortme", "main;sort_a;sortme", true, true)
	check("main|...;leaf", "main;leaf", true, true)
	check("main;...;end|leaf", "main;a;b", false, false)
	check("main;...;end|leaf", "main;a;b;end;leaf", true, true)
	check("main|a::{{closure}}", "main;a::{{closure}}", true, true)
}

func TestStackBegins(t *testing.T) {
	s, err := parseStack("(start);main|run", start)
	if err != nil {
		t.Fatal(err)
	}
	for first, want := range map[string]bool{"_start": true, "main": false, "[unknown]": false} {
		if got := s.Begins([]string{first, "main", "other"}); got != want {
			t.Errorf("a stack from %s on begins there: %v, want %v", first, got, want)
		}
	}
}

func TestParseStackRefuses(t *testing.T) {
	for _, bad := range []string{"", "main;run", "main|down{3,2}", "main|down{1,2,3}", "main|down{,}"} {
		if _, err := parseStack(bad, start); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestUserStack(t *testing.T) {
	for line, want := range map[string]string{
		"comm;main;run":                  "main;run",
		"comm;main;read;sys_[k];vfs_[k]": "main;read",
		"comm;sys_[k]":                   "",
		"comm":                           "",
	} {
		if got := UserStack(strings.Split(line, ";")); !slices.Equal(got, strings.FieldsFunc(want, func(r rune) bool { return r == ';' })) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// A variant without stacks would compare nothing, and two of one name could not
// be told apart in the table.
func TestZooIsStated(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range Zoo {
		stacks, err := v.Stacks()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(stacks, func(s StackPattern) bool { return !s.Seldom }) {
			t.Errorf("%s: %s states no stacks", v.Name, v.Source)
		}
		if seen[v.Name] {
			t.Errorf("%s is there twice", v.Name)
		}
		seen[v.Name] = true
	}
}
