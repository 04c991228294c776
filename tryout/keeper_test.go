// SPDX-License-Identifier: Apache-2.0

package tryout

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/contexts"
)

// Whoever cleans up makes the context the current one that was it before, and
// leaves alone what another system has made of it meanwhile.
func TestCleanup(t *testing.T) {
	for _, c := range []struct {
		label        string
		former       string // the context before; empty: there was none
		kept, others bool   // the directory is kept; another system goes on
		current      string // in the end
	}{
		{label: "nothing was there"},
		{label: "a context was there", former: "prod", current: "prod"},
		{label: "the directory is kept", former: "prod", kept: true, current: "prod"},
		{label: "another system goes on", former: "prod", others: true, current: contextName},
	} {
		t.Run(c.label, func(t *testing.T) {
			dir, config := filepath.Join(t.TempDir(), "up"), filepath.Join(t.TempDir(), "config.json")
			t.Setenv(contexts.ConfigVariable, config)
			s := &System{Dir: dir, temporary: !c.kept, user: -1}
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if c.former != "" {
				before := contexts.New(config)
				before.Current, before.Contexts = c.former, map[string]contexts.Place{c.former: {Server: "poller.example"}}
				if err := before.Write(); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.writeContext(contexts.Place{Server: "127.0.0.1:1", CertDir: s.certs()}); err != nil {
				t.Fatal(err)
			}
			if c.others {
				other := &System{Dir: t.TempDir(), user: -1}
				if err := other.writeContext(contexts.Place{Server: "127.0.0.1:2", CertDir: other.certs()}); err != nil {
					t.Fatal(err)
				}
			}
			if err := Cleanup(strings.NewReader(""), dir, c.kept); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) == c.kept {
				t.Errorf("the directory: %v", err)
			}
			f, err := contexts.Open()
			if err != nil || f.Current != c.current {
				t.Errorf("the context is %q (%v), want %q", f.Current, err, c.current)
			}
			if _, err := os.Stat(config); c.former == "" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a file remains that was not there: %v", err)
			}
		})
	}
}

// A program is found beside another one first, if it can be run there.
func TestLookBeside(t *testing.T) {
	dir, path := t.TempDir(), t.TempDir()
	t.Setenv("PATH", path)
	write := func(file string, mode os.FileMode) string {
		t.Helper()
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	own := filepath.Join(dir, "srprof")
	if found, err := lookBeside(own, "x"); err == nil {
		t.Errorf("found %s", found)
	}
	inPath := write(filepath.Join(path, "x"), 0o755)
	beside := write(filepath.Join(dir, "x"), 0o644)
	if found, err := lookBeside(own, "x"); found != inPath {
		t.Errorf("%s, %v; want %s", found, err, inPath)
	}
	if err := os.Chmod(beside, 0o755); err != nil {
		t.Fatal(err)
	}
	if found, err := lookBeside(own, "x"); found != beside {
		t.Errorf("%s, %v; want %s", found, err, beside)
	}
}
