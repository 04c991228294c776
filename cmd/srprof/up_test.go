// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// What srprof up says to type works as it stands: by name only where the name
// means this very program.
func TestTyped(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if got := typed(); got != self {
		t.Errorf("not in $PATH: %s, want %s", got, self)
	}
	link := filepath.Join(dir, "srprof")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	if got := typed(); got != "srprof" {
		t.Errorf("in $PATH: %s", got)
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(link, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := typed(); got != self {
		t.Errorf("another one in $PATH: %s, want %s", got, self)
	}
}
