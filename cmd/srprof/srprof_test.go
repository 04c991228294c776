// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// The test binary is the program too: as srprof in scripts, by mainEnv in Go
// tests that have to run it under other rights.
const (
	mainEnv   = "SRPROF_TEST_MAIN"
	targetEnv = "SRPROF_TEST_TARGET" // it is a program to profile
	forbidEnv = "SRPROF_TEST_FORBID" // what programs.Forbid takes
)

func TestMain(m *testing.M) {
	if os.Getenv(targetEnv) != "" {
		beTarget()
	}
	if os.Getenv(mainEnv) != "" {
		if list := os.Getenv(forbidEnv); list != "" {
			if err := programs.Forbid(list); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(99)
			}
		}
		main()
	}
	testscript.Main(m, map[string]func(){"srprof": main})
}

func TestScripts(t *testing.T) {
	needRoot(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":  checkCode,
			"spawn": spawn,
		},
	})
}

// checkCode is `code N command…`: the command must exit with N.
func checkCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%v: exit code %d, want %s", args[1:], code, args[0])
	}
}

// spawn is `spawn NAME shell-command`: runs it in the background until the
// script ends and sets $NAME to its PID.
func spawn(ts *testscript.TestScript, _ bool, args []string) {
	c := exec.Command("sh", "-c", "exec "+args[1])
	ts.Check(c.Start())
	ts.Setenv(args[0], strconv.Itoa(c.Process.Pid))
	ts.Defer(func() {
		c.Process.Kill()
		c.Wait()
	})
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: make test runs as root")
	}
}

// start runs a shell command in the background and returns its PID.
func start(t *testing.T, command string) int {
	t.Helper()
	c := exec.Command("sh", "-c", "exec "+command)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	return c.Process.Pid
}

const busyLoop = `sh -c 'while :; do :; done'`

// restricted runs srprof as user and group nobody with just these
// capabilities, and returns its exit code and standard error.
func restricted(t *testing.T, caps []process.Capability, args ...string) (int, string) {
	t.Helper()
	const nobody = 65534
	var ambient []uintptr
	for _, c := range caps {
		ambient = append(ambient, uintptr(c))
	}
	c := command(t, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: ambient}
	return execute(t, c)
}

// command is srprof in a place where everybody may run it.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("", "srprof")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "srprof")
	for _, err := range []error{os.Chmod(dir, 0o755), os.WriteFile(program, self, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(program, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), mainEnv+"=1")
	return c
}

func execute(t *testing.T, c *exec.Cmd) (int, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err != nil && stdout.Len() > 0 && !slices.Contains(c.Args, "doctor") {
		t.Errorf("something on standard output although it failed: %s", stdout.String())
	}
	return c.ProcessState.ExitCode(), stdout.String() + stderr.String()
}

// The capabilities that the documentation names are enough. Debian's kernels
// set perf_event_paranoid to 3, where CAP_SYS_ADMIN has to stand in.
func TestEnoughCapabilities(t *testing.T) {
	needRoot(t)
	caps := []process.Capability{process.CapSysPtrace, process.CapBPF, process.CapPerfmon, process.CapSyslog}
	if b, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid"); err == nil && strings.TrimSpace(string(b)) > "2" {
		caps = append(caps, process.CapSysAdmin)
	}
	pid := strconv.Itoa(start(t, busyLoop))
	if code, text := restricted(t, caps, "doctor"); code != exitOK {
		t.Errorf("doctor: exit code %d: %s", code, text)
	}
	if code, text := recordBusy(t, func(d string) (int, string) { return restricted(t, caps, "record", "--pid", pid, "--duration", d) }); code != exitOK {
		t.Errorf("record: exit code %d: %s", code, text)
	}
}

// Ctrl-C ends the recording and the profile up to then is written.
func TestInterrupt(t *testing.T) {
	needRoot(t)
	out := filepath.Join(t.TempDir(), "x.folded")
	pid := start(t, busyLoop)
	c := command(t, "record", "--pid", strconv.Itoa(pid), "--duration", "1h", "--output", out)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	sampled(t, c.Process.Pid, pid)
	if entries, err := os.ReadDir(filepath.Dir(out)); err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "x.folded" }) {
		t.Errorf("while recording: %v, %v; want no file of that name yet", entries, err)
	}
	c.Process.Signal(os.Interrupt)
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		t.Errorf("%v, want exit code %d", err, exitInterrupted)
	}
	if b, err := os.ReadFile(out); err != nil || !strings.HasPrefix(string(b), "sh;") {
		t.Errorf("profile %q, %v", b, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(out)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// sampled waits until srprof has perf events, and the target has used CPU time
// for some samples since.
func sampled(t *testing.T, srprof, target int) {
	t.Helper()
	await := func(what string, came func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !came(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd/", srprof)
	await("srprof has no perf events", func() bool {
		fds, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(fds, func(fd fs.DirEntry) bool {
			to, _ := os.Readlink(dir + fd.Name()) // it may be closed by now
			return to == "anon_inode:[perf_event]"
		})
	})
	used := func() time.Duration {
		stat, err := process.ReadStat(target)
		if err != nil {
			t.Fatal(err)
		}
		return stat.CPUTime
	}
	before := used()
	await("the target has no CPU time", func() bool { return used() > before+200*time.Millisecond })
}

// On a terminal there is a line of progress, and only there.
func TestProgress(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("script"); err != nil {
		t.Fatal("script (Debian: bsdutils, essential) makes the terminal: ", err)
	}
	c := command(t, "record", "--pid", strconv.Itoa(start(t, busyLoop)), "--duration", "2s", "--output", "x.svg")
	c.Args = []string{"script", "-qec", strings.Join(c.Args, " "), "/dev/null"}
	c.Path, _ = exec.LookPath("script")
	code, text := execute(t, c)
	for _, want := range []string{"of 2s", "samples", "hottest: ", "wrote x.svg"} {
		if code != 0 || !strings.Contains(text, want) {
			t.Errorf("exit code %d, want %q in %q", code, want, text)
		}
	}
}

// On a terminal a table is as wide as that, and in its colors; NO_COLOR takes
// those away.
func TestTerminal(t *testing.T) {
	needRoot(t)
	pid := strconv.Itoa(start(t, busyLoop))
	for _, colors := range []bool{true, false} {
		c := command(t, "record", "--pid", pid, "--duration", "2s")
		c.Args = []string{"script", "-qec", "stty cols 60; " + strings.Join(c.Args, " "), "/dev/null"}
		c.Path, _ = exec.LookPath("script")
		if !colors {
			c.Env = append(c.Env, "NO_COLOR=1")
		}
		code, text := execute(t, c)
		const broken = " UTC,\r\n                duration reached\r\n"
		if code != 0 || !strings.Contains(text, broken) {
			t.Errorf("exit code %d, want %q in %q", code, broken, text)
		}
		if strings.Contains(text, "\x1b[1mFunctions by self samples") != colors {
			t.Errorf("colors %v in %q", colors, text)
		}
	}
}
