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

// hot is a program to be stripped: its name is found in debug files alone.
const hot = "static volatile unsigned long sink; int main(void) { for (;;) sink++; }"

// stripped builds it into dir, with its debug file in a folder there.
func stripped(t *testing.T, dir string) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil && os.Getenv("SRPROF_REQUIRE_ALL") == "" {
		t.Skip("gcc is missing: apt-get install gcc: ", err)
	}
	c := exec.Command("sh", "-ec", `mkdir debug && echo "$1" | gcc -x c -g -o hot - && objcopy --only-keep-debug hot debug/hot && strip -s hot`, "sh", hot)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "hot")
}

// The README's commands work as they stand there, but for the PID and, so that
// nobody waits, the duration.
func TestREADME(t *testing.T) {
	needRoot(t)
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pid := strconv.Itoa(start(t, stripped(t, dir)))
	run := 0
	for line := range strings.Lines(string(b)) {
		text, _, _ := strings.Cut(line, "#")
		f := strings.Fields(strings.TrimPrefix(text, "sudo "))
		if len(f) < 2 || f[0] != "bin/srprof" {
			continue
		}
		args := f[1:]
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
	if run < 6 {
		t.Errorf("ran %d commands of the README, want at least 6", run)
	}
	for _, name := range []string{"flame.svg", "web.html", "web.pb.gz", "found.svg"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
