// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// Where eBPF cannot be had, programs with frame pointers have the same shares by
// perf events, whole CPUs at a time or thread by thread: threads, those born
// meanwhile, and children too.
func TestPerfEventsStandIn(t *testing.T) {
	programs.SetSysctl(t, "kernel/perf_event_paranoid", "2") // Debian's 3 keeps perf events from all but root
	for _, program := range []struct {
		name, args string
		more       []string
	}{{"split.c", "", nil}, {"threads.c", "8", nil}, {"forks.c", "", []string{"--children"}}, {"goroutines", "", nil}} {
		for reach, caps := range map[string][]process.Capability{"CPUs": nil, "threads": {process.CapSysPtrace}} {
			t.Run(program.name+" "+reach, func(t *testing.T) {
				p := start(t, program.name, programs.Options{Args: strings.Fields(program.args)})
				r := withoutBPF(t, caps, append([]string{"--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "3s"}, program.more...)...)
				r.succeeded(t).as(t, program.name)
				if r.meta.Event != sampler.EventPerf || !strings.Contains(r.stderr, "sampled by perf events instead of eBPF (") {
					t.Errorf("the profile is by %s: %s", r.meta.Event, r.stderr)
				}
				if program.name == "threads.c" && r.meta.Threads < 4 { // it bears the others when told to
					t.Errorf("%d threads were sampled, want all", r.meta.Threads)
				}
			})
		}
	}
}

// withoutBPF is record where the kernel has no BPF; with caps, as another user
// with just these.
func withoutBPF(t *testing.T, caps []process.Capability, args ...string) *recording {
	t.Helper()
	dir := t.TempDir()
	c := command(t.Context(), dir, args...)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wrap := []string{self}
	if caps != nil {
		list := "-all,+dac_read_search" // for where the test's programs lie
		for _, capability := range caps {
			list += ",+" + strings.ToLower(strings.TrimPrefix(capability.String(), "CAP_"))
		}
		setpriv, err := exec.LookPath("setpriv")
		if err != nil {
			t.Fatal(err)
		}
		wrap = append(wrap, setpriv, "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", list, "--ambient-caps", list)
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	c.Path, c.Args = self, append(wrap, c.Args...)
	c.Env = append(os.Environ(), forbidEnv+"="+programs.Refused(unix.ENOSYS, unix.SYS_BPF))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	return read(t, dir, exitCode(t, c.Run()), stderr.String())
}
