// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// losses are what is lost without one of the unit's capabilities: what srprof
// says or writes with all of them and not without, and, unless it is empty, the
// other way round.
var losses = []struct {
	capability string
	name       string // as setpriv has it
	with       string
	without    string
}{
	{"CAP_BPF", "bpf", "main;in_private", ""}, // whole stacks
	{"CAP_PERFMON", "perfmon", "vfs_read_[k]", ""},
	{"CAP_SYS_PTRACE", "sys_ptrace", "in_private", "CAP_SYS_PTRACE"},
	{"CAP_SYSLOG", "syslog", "vfs_read_[k]", "[kernel]_[k]"},
	{"CAP_DAC_READ_SEARCH", "dac_read_search", "in_private", "[private]"},
	{"CAP_CHECKPOINT_RESTORE", "checkpoint_restore", "in_deleted", "[deleted.so"},
}

// private is a program that spends its time in a function of its own, in one of
// a library, and in the kernel.
const private = `#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
static char buffer[1 << 16];
__attribute__((noinline)) void in_private(void) { for (volatile int i = 0; i < 1000000; i++) {} }
int main(int argc, char **argv) {
	void (*in_deleted)(void) = dlsym(dlopen(argv[1], RTLD_NOW), "in_deleted");
	int zero = open("/dev/zero", O_RDONLY);
	puts("ready"); fflush(stdout);
	for (;;) { in_private(); in_deleted(); for (int i = 0; i < 200; i++) if (read(zero, buffer, sizeof buffer) < 0) return 1; }
}`

const deleted = `void in_deleted(void) { for (volatile int i = 0; i < 1000000; i++) {} }`

// startPrivate lets it run as another user, from a directory that nobody else
// may enter, and deletes its library.
func startPrivate(t *testing.T) int {
	t.Helper()
	const user = 2000
	dir := filepath.Join(outside, "private")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, library := filepath.Join(dir, "private"), filepath.Join(dir, "deleted.so")
	for _, c := range []struct {
		source string
		args   []string
	}{
		{private, []string{"-O1", "-o", program, "-x", "c", "-"}},
		{deleted, []string{"-O1", "-shared", "-fPIC", "-o", library, "-x", "c", "-"}},
	} {
		gcc := exec.Command("gcc", c.args...)
		gcc.Stdin = strings.NewReader(c.source)
		if out, err := gcc.CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
	}
	for path, mode := range map[string]os.FileMode{program: 0o700, library: 0o755, dir: 0o700} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, user, user); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(program, library)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}, Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	if _, err := io.ReadFull(out, make([]byte, len("ready"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(library); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid
}

// recordWith records it as a user that has these capabilities, and returns what
// was said and written.
func recordWith(t *testing.T, pid int, capabilities []string) string {
	t.Helper()
	set := "-all"
	for _, c := range capabilities {
		set += ",+" + c
	}
	c := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--inh-caps="+set, "--ambient-caps="+set, "--bounding-set="+set,
		built(t, "srprof"), "record", "--pid", strconv.Itoa(pid), "--duration", "2s", "--format", "folded", "--output", "-", "--explain")
	out, err := c.CombinedOutput()
	if err != nil {
		return err.Error() + "\n" + string(out)
	}
	return string(out)
}

// With the unit's capabilities nothing is lost, and with one less something is.
func TestEachCapability(t *testing.T) {
	needRoot(t)
	need(t, "setpriv", "gcc")
	b, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || n > 2 {
		t.Skipf("kernel.perf_event_paranoid is %s, with which nothing goes without CAP_SYS_ADMIN; test/vm tests that", b)
	}
	pid := startPrivate(t)
	var all []string
	for _, l := range losses {
		all = append(all, l.name)
	}
	whole := recordWith(t, pid, all)
	for _, l := range losses {
		if !strings.Contains(whole, l.with) || l.without != "" && strings.Contains(whole, l.without) {
			t.Errorf("with all: want %q and not %q in\n%s", l.with, l.without, whole)
		}
	}
	for i, l := range losses {
		t.Run(l.capability, func(t *testing.T) {
			less := append(append([]string{}, all[:i]...), all[i+1:]...)
			out := recordWith(t, pid, less)
			if strings.Contains(out, l.with) || !strings.Contains(out, l.without) {
				t.Errorf("want %q and not %q in\n%s", l.without, l.with, out)
			}
		})
	}
}
