// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The README's commands work as they stand there, but for the PID and, so that
// nobody waits, the duration.
func TestREADME(t *testing.T) {
	needRoot(t)
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(start(t, busyLoop))
	dir := t.TempDir()
	run := 0
	for line := range strings.Lines(string(b)) {
		text, _, _ := strings.Cut(line, "#")
		f := strings.Fields(text)
		if len(f) < 3 || f[0] != "sudo" || f[1] != "bin/srprof" {
			continue
		}
		args := f[2:]
		if args[0] == "record" {
			args = append(args, "--duration", "1s")
		}
		for i := range args {
			if args[i] == "4242" {
				args[i] = pid
			}
		}
		c := exec.Command("/proc/self/exe", args...)
		c.Env = append(os.Environ(), mainEnv+"=1")
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.TrimSpace(text), err, out)
		}
		run++
	}
	if run < 4 {
		t.Errorf("ran %d commands of the README, want at least 4", run)
	}
	for _, name := range []string{"flame.svg", "web.html", "web.pb.gz"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
