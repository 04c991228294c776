// SPDX-License-Identifier: Apache-2.0

package sampler_test

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/sampler"
)

// A kernel gets the best build that it can take: a refusal must not hide
// behind the other build.
func TestBuild(t *testing.T) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	want := "4.9"
	if newer(unix.ByteSliceToString(u.Release[:]), 5, 4) {
		want = "5.4"
	}
	for _, only := range []string{"", "4.9"} {
		t.Setenv(sampler.EnvBuild, only)
		s, err := sampler.OpenBPF(sampler.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if only != "" {
			want = only
		}
		if !strings.HasSuffix(s.Program(), "Linux "+want+" and newer") {
			t.Errorf("%s=%q: loaded %s, want that for Linux %s", sampler.EnvBuild, only, s.Program(), want)
		}
		if err := s.OpenTables(); err != nil {
			t.Errorf("the walk of %s does not load: %v", s.Program(), err)
		}
		s.Close()
	}
	t.Setenv(sampler.EnvBuild, "2.6")
	if s, err := sampler.OpenBPF(sampler.Options{}); err == nil {
		s.Close()
		t.Error("a build that does not exist is no error")
	}
}

// newer says whether a kernel release is major.minor or newer.
func newer(release string, major, minor int) bool {
	var a, b int
	for i, field := range strings.FieldsFunc(release, func(r rune) bool { return r < '0' || r > '9' })[:2] {
		n := 0
		for _, d := range field {
			n = 10*n + int(d-'0')
		}
		if i == 0 {
			a = n
		} else {
			b = n
		}
	}
	return a > major || a == major && b >= minor
}
