// SPDX-License-Identifier: Apache-2.0

// Package up_test runs srprof up, the whole system on this machine, and makes
// sure that nothing of it remains however it ends.
package up_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// services are what srprof up starts.
var services = []string{"serviceradar-profiler", "serviceradar-profiler-agent", "serviceradar-profiler-poller"}

func TestMain(m *testing.M) { os.Exit(daemons.Main(m, "srprof up", append(services, "srprof")...)) }

// site is somebody's place: his contexts, and where temporary files go.
type site struct {
	t            testing.TB
	config, temp string
	env          []string // more of it
}

func newSite(t testing.TB) *site {
	s := &site{t: t, config: filepath.Join(t.TempDir(), "config.json"), temp: t.TempDir()}
	t.Cleanup(func() {
		for _, pid := range s.running() {
			t.Errorf("process %d remains", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return s
}

func (s *site) command(args ...string) *exec.Cmd {
	c := exec.Command(daemons.Path("srprof"), args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SRPROF_") && !strings.HasPrefix(v, "SUDO_") {
			c.Env = append(c.Env, v)
		}
	}
	c.Env = append(append(c.Env, "SRPROF_CONFIG="+s.config, "TMPDIR="+s.temp), s.env...)
	return c
}

// srprof runs a command, and returns what it wrote, and its exit code.
func (s *site) srprof(args ...string) (out, stderr string, code int) {
	s.t.Helper()
	c := s.command(args...)
	var o, e bytes.Buffer
	c.Stdout, c.Stderr = &o, &e
	if err := c.Run(); c.ProcessState == nil {
		s.t.Fatalf("srprof %v: %v", args, err)
	}
	return o.String(), e.String(), c.ProcessState.ExitCode()
}

// system is a srprof up that runs.
type system struct {
	*site
	cmd   *exec.Cmd
	out   string // file
	ended chan struct{}
}

// up starts it, and waits until it says what to type.
func (s *site) up(args ...string) *system {
	s.t.Helper()
	u := &system{site: s, cmd: s.command(append([]string{"up"}, args...)...), out: filepath.Join(s.t.TempDir(), "out"), ended: make(chan struct{})}
	file, err := os.Create(u.out)
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	u.cmd.Stdout, u.cmd.Stderr = file, file
	if err := u.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = u.cmd.Wait() // its state says how it ended
		close(u.ended)
	}()
	s.t.Cleanup(func() {
		_ = u.cmd.Process.Kill() // it has ended, mostly
		<-u.ended
	})
	daemons.Until(s.t, "srprof up says what to type", func() bool {
		select {
		case <-u.ended:
			s.t.Fatalf("srprof up has ended:\n%s", u.said())
		default:
		}
		return strings.Contains(u.said(), "Ctrl-C ends it")
	})
	return u
}

func (u *system) said() string {
	b, err := os.ReadFile(u.out)
	if err != nil {
		u.t.Fatal(err)
	}
	return string(b)
}

// running are the processes that run a program of ours from where they were built.
func (s *site) running() []int {
	s.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		s.t.Fatal(err)
	}
	var pids []int
	for _, link := range all {
		var pid int
		if to, err := os.Readlink(link); err == nil && filepath.Dir(to) == daemons.Path("") {
			if _, err := fmt.Sscanf(link, "/proc/%d/exe", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// of is the process of a service.
func (u *system) of(service string) int {
	u.t.Helper()
	for _, pid := range u.running() {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && filepath.Base(to) == service {
			return pid
		}
	}
	u.t.Fatalf("there is no %s", service)
	return 0
}

// nothingRemains waits until all is gone, and fails if it stays.
func (u *system) nothingRemains() {
	u.t.Helper()
	daemons.Until(u.t, "no process remains", func() bool { return len(u.running()) == 0 })
	left, err := filepath.Glob(u.temp + "/*")
	if err != nil || len(left) > 0 {
		u.t.Errorf("files remain: %q (%v)", left, err)
	}
	if _, err := os.Stat(u.config); err == nil {
		if out, _, _ := u.srprof("context", "list", "-o", "json"); strings.Contains(out, "srprof-up") {
			u.t.Errorf("the context remains: %s", out)
		}
	}
}

func (u *system) end(signal syscall.Signal) int {
	u.t.Helper()
	if err := u.cmd.Process.Signal(signal); err != nil {
		u.t.Fatal(err)
	}
	<-u.ended
	return u.cmd.ProcessState.ExitCode()
}

// From one command to a flame graph with the right function in it.
func TestUp(t *testing.T) {
	s := newSite(t)
	if _, stderr, code := s.srprof("context", "set", "prod", "--server", "poller.example:50086", "--cert-dir", "/etc/certs"); code != 0 {
		t.Fatal(stderr)
	}
	u := s.up()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if said := u.said(); !strings.Contains(said, "\n  "+daemons.Path("srprof")+" run "+host+" --hottest -d 10s -o flame.svg\n") || !strings.Contains(said, "removes all of it") {
		t.Errorf("%s", said)
	}
	target := programs.Start(t, "shared.c", programs.Options{As: "srprof-up-target"})
	file := filepath.Join(t.TempDir(), "out.folded")
	if out, stderr, code := s.srprof("run", host, "--name", "srprof-up-target", "-d", "1s", "-o", file); code != 0 {
		t.Fatalf("exit code %d: %s%s\n%s", code, out, stderr, u.said())
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), ";library_work ") {
		t.Errorf("%v: %s", err, text)
	}
	out, stderr, code := s.srprof("list", "-o", "json")
	if code != 0 || !json.Valid([]byte(out)) || !strings.Contains(out, `"succeeded"`) {
		t.Errorf("exit code %d: %s%s", code, out, stderr)
	}
	if code := u.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d:\n%s", code, u.said())
	}
	u.nothingRemains()
	if out, _, _ := s.srprof("context", "list"); !strings.Contains(out, "*         prod") {
		t.Errorf("what was the context before is not any more:\n%s", out)
	}
	target.Stop()
}

// However it ends, nothing remains.
func TestEndings(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*system)
	}{
		{"Ctrl-C", func(u *system) { u.end(syscall.SIGINT) }},
		{"killed", func(u *system) { u.end(syscall.SIGKILL) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newSite(t).up()
			c.end(u)
			u.nothingRemains()
			if _, err := os.Stat(u.config); err == nil {
				t.Errorf("a file of contexts remains that was not there before")
			}
		})
	}
	for _, service := range services {
		t.Run(service+" killed", func(t *testing.T) {
			u := newSite(t).up()
			if err := syscall.Kill(u.of(service), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-u.ended
			if said, code := u.said(), u.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(said, "srprof: the log of "+service+" ends with\n  {") || !strings.HasSuffix(said, "srprof: "+service+" has ended: signal: killed [service_ended]\n") {
				t.Errorf("exit code %d:\n%s", code, said)
			}
			u.nothingRemains()
		})
	}
}

// A directory that is named is kept, and the next one goes on with it.
func TestKept(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(t.TempDir(), "kept")
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	target := programs.Start(t, "shared.c", programs.Options{As: "srprof-up-target"})
	u := s.up("--dir", dir)
	if out, stderr, code := s.srprof("run", host, "--pid", fmt.Sprint(target.PID), "-d", "1s", "-o", filepath.Join(t.TempDir(), "x.svg")); code != 0 {
		t.Fatalf("exit code %d: %s%s", code, out, stderr)
	}
	u.end(syscall.SIGTERM)
	if len(s.running()) > 0 {
		t.Errorf("processes remain: %v", s.running())
	}
	u = s.up("--dir", dir)
	var sessions []struct{ State string }
	out, stderr, code := s.srprof("list", "-o", "json")
	if err := json.Unmarshal([]byte(out), &sessions); err != nil || len(sessions) != 1 || sessions[0].State != "succeeded" {
		t.Errorf("exit code %d, %v: %s%s", code, err, out, stderr)
	}
	u.end(syscall.SIGTERM)
	if _, err := os.Stat(filepath.Join(dir, "data", "store.db")); err != nil {
		t.Error(err)
	}
}

// Who may not, or lacks a program, is told what to do.
func TestRefused(t *testing.T) {
	s := newSite(t)
	c := s.command("up")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.CombinedOutput()
	if want := "the profiler that is to be started needs to be root; type: sudo " + daemons.Path("") + "/srprof up [not_root]\n"; c.ProcessState.ExitCode() != 4 || !strings.Contains(string(out), want) {
		t.Errorf("%v: %s", err, out)
	}
	alone := t.TempDir()
	if err := os.Link(daemons.Path("srprof"), filepath.Join(alone, "srprof")); err != nil {
		t.Fatal(err)
	}
	c = s.command("up")
	c.Path = filepath.Join(alone, "srprof")
	c.Env = append(c.Env, "PATH="+alone)
	out, _ = c.CombinedOutput()
	if want := "serviceradar-profiler is neither in " + alone + " nor in $PATH"; c.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), want) {
		t.Errorf("exit code %d: %s", c.ProcessState.ExitCode(), out)
	}
}

// Who called sudo can use what was made, though it is root's.
func TestSudo(t *testing.T) {
	const nobody = 65534
	s := newSite(t)
	for _, dir := range []string{filepath.Dir(s.temp), s.temp} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.env = []string{fmt.Sprintf("SUDO_UID=%d", nobody)}
	u := s.up()
	_, config, ok := strings.Cut(u.said(), "export SRPROF_CONFIG=")
	config, _, _ = strings.Cut(config, "\n")
	if !ok {
		t.Fatalf("%s", u.said())
	}
	c := s.command("hosts")
	c.Env = append(c.Env, "SRPROF_CONFIG="+config)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "ready") {
		t.Errorf("%v: %s", err, out)
	}
	u.end(syscall.SIGTERM)
	u.nothingRemains()
}
