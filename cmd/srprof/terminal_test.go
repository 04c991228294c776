// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/terminal"
)

// onTerminal runs srprof on a terminal of so many columns, and returns what that
// got.
func onTerminal(t *testing.T, columns int, env []string, args ...string) (int, string) {
	t.Helper()
	script, err := exec.LookPath("script")
	if err != nil {
		t.Fatal("script (Debian: bsdutils, essential) makes the terminal: ", err)
	}
	c := command(t, args...)
	c.Env = append(c.Env, env...)
	c.Args = []string{"script", "-qec", "stty cols " + strconv.Itoa(columns) + " && exec " + strings.Join(c.Args, " "), "/dev/null"}
	c.Path = script
	return execute(t, c)
}

// drawn are the lines that were drawn over one another.
var drawn = regexp.MustCompile(`\r([^\r\n\x1b]*)\x1b\[K`)

// On a narrow terminal the line of progress stays one line.
func TestNarrowTerminal(t *testing.T) {
	needRoot(t)
	pid := strconv.Itoa(start(t, busyLoop))
	code, text := onTerminal(t, 20, nil, "record", "--pid", pid, "--duration", "1s", "--output", "x.svg")
	lines := drawn.FindAllStringSubmatch(text, -1)
	if code != exitOK || len(lines) == 0 {
		t.Fatalf("exit code %d: %q", code, text)
	}
	for _, line := range lines {
		if n := terminal.Width(line[1]); n >= 20 {
			t.Errorf("%q has %d columns", line[1], n)
		}
	}
}

// A terminal that says that it is dumb gets lines, and nothing that steers it.
func TestDumbTerminal(t *testing.T) {
	needRoot(t)
	pid := strconv.Itoa(start(t, busyLoop))
	code, text := onTerminal(t, 80, []string{"TERM=dumb"}, "record", "--pid", pid, "--duration", "1s", "--output", "x.svg")
	if code != exitOK || strings.Contains(text, "\x1b") || !strings.Contains(text, "wrote x.svg") {
		t.Errorf("exit code %d: %q", code, text)
	}
}

// Who reads standard output may stop; that is no failure to tell of, and what
// else was asked for is written.
func TestNobodyReads(t *testing.T) {
	needRoot(t)
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	defer out.Close()
	pid := strconv.Itoa(start(t, busyLoop))
	c := command(t, "record", "--pid", pid, "--duration", "500ms", "--frequency", "999", "-o", "-", "-o", "x.folded")
	var said strings.Builder
	c.Stdout, c.Stderr = out, &said
	_ = c.Run() // its state says how it ended
	if code := c.ProcessState.ExitCode(); code != exitPipe || said.Len() > 0 {
		t.Errorf("%v: %q, want exit code %d and silence", c.ProcessState, &said, exitPipe)
	}
	entries, err := filepath.Glob(filepath.Join(c.Dir, "*.folded"))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v; want x.folded", entries, err)
	}
	if left, _ := filepath.Glob(filepath.Join(c.Dir, ".*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
