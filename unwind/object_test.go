// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
)

// files are common objects of a Linux system; those that a machine does not
// have are left out.
var files = []string{
	"/lib/x86_64-linux-gnu/libc.so.6",
	"/lib64/ld-linux-x86-64.so.2",
	"/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
	"/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
	"/bin/bash",
}

var bigFiles = []string{
	"/usr/bin/node",
	"/usr/lib/gcc/x86_64-linux-gnu/*/cc1",
	"/usr/lib/x86_64-linux-gnu/libLLVM-*.so.1",
}

func open(tb testing.TB, path string) *object.File {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		missing(tb, err)
	}
	o, err := object.Open(f)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { o.Close() })
	return o
}

// missing leaves a test out where a program or file is not installed. With
// SRPROF_REQUIRE_ALL, and for any other reason, it fails.
func missing(tb testing.TB, err error) {
	tb.Helper()
	if os.Getenv("SRPROF_REQUIRE_ALL") == "" && (errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist)) {
		tb.Skip(err)
	}
	tb.Fatal(err)
}

// compile builds a C program; without a compiler the test is left out.
func compile(t *testing.T, program, flags string) string {
	dir := t.TempDir()
	source, path := filepath.Join(dir, "p.c"), filepath.Join(dir, "p")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", append(strings.Fields(flags), "-o", path, source)...).CombinedOutput(); err != nil {
		missing(t, fmt.Errorf("%w: %s", err, out))
	}
	return path
}

func BenchmarkBuild(b *testing.B) {
	all := files
	for _, pattern := range bigFiles {
		found, _ := filepath.Glob(pattern) // the patterns are constants and good
		all = append(all, found...)
	}
	for _, path := range all {
		b.Run(filepath.Base(path), func(b *testing.B) {
			o := open(b, path)
			var s Stats
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if _, s, err = Build(o); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(s.Rows), "rows")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*s.Rows), "ns/row")
			b.ReportMetric(float64(Bound(o))/float64(s.Rows), "bound/rows")
			b.Logf("%+v", s)
		})
	}
}
