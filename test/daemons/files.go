// SPDX-License-Identifier: Apache-2.0

package daemons

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/auth"
)

// Readable lets each user come to a test's own directory, and read what is in it.
func Readable(t testing.TB, dir string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		chmod(t, f, 0o644)
	}
	for ; dir != filepath.Dir(dir) && strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		chmod(t, dir, 0o755)
	}
}

func chmod(t testing.TB, file string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}

// Certificates are fresh ones, that each user may read.
func Certificates(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(dir, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	Readable(t, dir)
	return dir
}
