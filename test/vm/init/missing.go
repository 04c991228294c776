// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// recordWithout runs srprof record where something is missing and returns what
// it says. Kinds of lockdown are on the kernel's command line already.
func recordWithout(what string) (string, error) {
	p, err := programs.Launch(exec.Command("/bin/goroutines"), "ready")
	if err != nil {
		return "", err
	}
	defer p.Stop()
	c := exec.Command("/bin/srprof", "record", "--pid", strconv.Itoa(p.PID), "--duration", "4s", "--output", "/tmp/x.folded")
	capable := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: []uintptr{
		uintptr(process.CapBPF), uintptr(process.CapPerfmon), uintptr(process.CapSysPtrace), uintptr(process.CapSyslog)}}
	paranoid := "2"
	switch what {
	case "paranoid":
		c.SysProcAttr, paranoid = capable, "3"
	case "memlock":
		c.SysProcAttr = capable
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil {
			return "", fmt.Errorf("lower the limit: %w", err)
		}
	default:
		state, err := os.ReadFile("/sys/kernel/security/lockdown")
		if err != nil || !strings.Contains(string(state), "["+what+"]") {
			return "", fmt.Errorf("the kernel is not locked down for %s: %q, %w", what, state, err)
		}
	}
	if err := os.WriteFile("/proc/sys/kernel/perf_event_paranoid", []byte(paranoid), 0); err != nil {
		return "", err
	}
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return string(out), err
	}
	return fmt.Sprintf("%sexit code %d\n", out, c.ProcessState.ExitCode()), nil
}
