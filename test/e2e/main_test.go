// SPDX-License-Identifier: Apache-2.0

// Package e2e_test runs the real srprof as root against programs with a known
// hot path and against real ones, and reads what it wrote. Shares are compared
// within sampling error; nothing here depends on how fast the machine is.
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// forbidEnv makes this binary execute its arguments, with the system calls of a
// programs.Refused forbidden.
const forbidEnv = "SRPROF_TEST_FORBID"

func TestMain(m *testing.M) {
	if list := os.Getenv(forbidEnv); list != "" {
		fmt.Println(errors.Join(programs.Forbid(list), syscall.Exec(os.Args[1], os.Args[1:], os.Environ())))
		os.Exit(99)
	}
	os.Exit(daemons.Main(m, "srprof", "srprof", "serviceradar-profiler"))
}

// requireAll in the environment makes a missing program a failure.
const requireAll = "SRPROF_REQUIRE_ALL"

// need skips a test that needs a program which is not installed.
func need(t *testing.T, command, debianPackage string) {
	t.Helper()
	_, err := exec.LookPath(command)
	switch {
	case err == nil:
	case os.Getenv(requireAll) != "":
		t.Fatalf("%s is missing: apt-get install %s", command, debianPackage)
	default:
		t.Skipf("%s is missing: apt-get install %s", command, debianPackage)
	}
}

// start starts one of our programs.
func start(t *testing.T, name string, o programs.Options) *programs.Process {
	t.Helper()
	compilers := map[string]string{".c": "gcc", ".cpp": "g++", ".rs": "rustc"}
	if c, ok := compilers[filepath.Ext(name)]; ok {
		need(t, c, c)
	}
	return programs.Start(t, name, o)
}

// launch starts a command that is none of ours, and waits for its line.
func launch(t *testing.T, ready string, command ...string) *programs.Process {
	t.Helper()
	p, err := programs.Launch(exec.Command(command[0], command[1:]...), ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// recording is what one run of srprof record left behind.
type recording struct {
	exit   int
	stderr string
	lines  []folded.Line // without a file, nil
	meta   profile.Metadata
	exists bool // the output file
}

// command prepares srprof record with folded output and metadata in dir.
func command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	args = append([]string{"record", "--output", filepath.Join(dir, "out.folded"), "--metadata", filepath.Join(dir, "meta.json")}, args...)
	return exec.CommandContext(ctx, daemons.Path("srprof"), args...)
}

// hangs is how long a run may take at most: to see where it hangs, not how fast
// it is.
const hangs = 4 * time.Minute

// record runs srprof record to its end, whatever that is.
func record(t *testing.T, args ...string) *recording {
	t.Helper()
	return recordBy(t, nil, nil, args...)
}

// recordWhile is record during which something happens, once it samples: how
// long srprof takes to begin is the machine's affair.
func recordWhile(t *testing.T, happens func(), args ...string) *recording {
	t.Helper()
	return recordBy(t, nil, happens, args...)
}

// recordBy is record, run by another command.
func recordBy(t *testing.T, by []string, happens func(), args ...string) *recording {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	defer cancel()
	dir := t.TempDir()
	c := command(ctx, dir, args...)
	if len(by) > 0 {
		c.Path, c.Args = by[0], append(by, c.Args...)
	}
	var out, stderr bytes.Buffer
	c.Stdout, c.Stderr = &out, &stderr
	err := runWhile(c, happens)
	if ctx.Err() != nil {
		t.Fatalf("srprof %q does not end: %s", args, &stderr)
	}
	if out.Len() > 0 {
		t.Errorf("srprof writes to standard output although a file was asked for: %.200q", out.String())
	}
	return read(t, dir, exitCode(t, err), stderr.String())
}

// runWhile runs a command. Once it samples, something may happen.
func runWhile(c *exec.Cmd, happens func()) error {
	if err := c.Start(); err != nil {
		return err
	}
	happened := make(chan bool)
	go func() {
		defer close(happened)
		if happens != nil && sampling(c.Process.Pid) {
			happens()
		}
	}()
	err := c.Wait()
	<-happened
	return err
}

// sampling waits until a process has perf events; false says that it ended.
func sampling(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	for ; ; time.Sleep(5 * time.Millisecond) {
		fds, err := os.ReadDir(dir)
		if err != nil || len(fds) == 0 {
			return false
		}
		for _, fd := range fds {
			if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && to == "anon_inode:[perf_event]" {
				return true
			}
		}
	}
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return exit.ExitCode()
	}
	return 0
}

// read reads what was written to dir.
func read(t *testing.T, dir string, exit int, stderr string) *recording {
	t.Helper()
	r := &recording{exit: exit, stderr: stderr}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "out.folded" && e.Name() != "meta.json" {
			t.Errorf("srprof left %s behind", e.Name())
		}
	}
	f, err := os.Open(filepath.Join(dir, "out.folded"))
	if err != nil {
		return r
	}
	defer f.Close()
	r.exists = true
	if r.lines, err = folded.Parse(f); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r.meta); err != nil {
		t.Fatal(err)
	}
	if got := programs.Samples(r.lines); got != r.meta.Counts.Samples {
		t.Errorf("the folded file has %d samples, the metadata says %d", got, r.meta.Counts.Samples)
	}
	return r
}

// succeeded ends the test unless srprof exited with 0.
func (r *recording) succeeded(t *testing.T) *recording {
	t.Helper()
	if r.exit != 0 {
		t.Fatalf("srprof exits with %d: %s", r.exit, r.stderr)
	}
	return r
}

// as checks the shares that a program's source states.
func (r *recording) as(t *testing.T, program string) *recording {
	t.Helper()
	p, err := programs.Read(program)
	if err != nil {
		t.Fatal(err)
	}
	if wrong := programs.Compare(p.Expect, r.lines); len(wrong) > 0 {
		t.Errorf("%s\nof\n%s", strings.Join(wrong, "\n"), r.hottest(12))
	}
	// A drain that comes late, on a machine that has other work, loses some.
	if lost := r.meta.Counts.Lost; lost*200 > r.meta.Counts.Samples {
		t.Errorf("%d samples and %d lost", r.meta.Counts.Samples, lost)
	}
	return r
}

// in is the share of the samples with these frames in a row.
func (r *recording) in(frames ...string) float64 {
	e := programs.Expectation{Frames: frames}
	return float64(programs.Count(r.lines, e.In)) / float64(max(1, programs.Samples(r.lines)))
}

// hottest shows the lines with the highest counts.
func (r *recording) hottest(n int) string {
	lines := append([]folded.Line{}, r.lines...)
	var b strings.Builder
	for ; n > 0 && len(lines) > 0; n-- {
		top := 0
		for i := range lines {
			if lines[i].Count > lines[top].Count {
				top = i
			}
		}
		fmt.Fprintf(&b, "%7d %s\n", lines[top].Count, strings.Join(lines[top].Frames, ";"))
		lines = append(lines[:top], lines[top+1:]...)
	}
	return b.String()
}

// often is a frequency for shares: more samples, less chance.
const often = "999"

// sample records a process for two seconds.
func sample(t *testing.T, pid int, more ...string) *recording {
	t.Helper()
	return sampleWhile(t, nil, pid, more...)
}

// sampleWhile is sample during which something happens.
func sampleWhile(t *testing.T, happens func(), pid int, more ...string) *recording {
	t.Helper()
	return recordWhile(t, happens, append([]string{"--pid", strconv.Itoa(pid), "--frequency", often, "--duration", "2s"}, more...)...).succeeded(t)
}

// after is something that happens so long after a recording began.
func after(t *testing.T, d time.Duration, do func() error) (happens func()) {
	return func() {
		time.Sleep(d)
		if err := do(); err != nil {
			t.Error(err)
		}
	}
}
