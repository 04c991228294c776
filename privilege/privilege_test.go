// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/process"
)

// The smallest set for each kind of host.
func TestNeeded(t *testing.T) {
	const old = process.Capability(37) // CAP_AUDIT_READ, the last one before Linux 5.8
	all := "CAP_BPF CAP_PERFMON CAP_SYS_PTRACE CAP_SYSLOG CAP_DAC_READ_SEARCH CAP_CHECKPOINT_RESTORE"
	for _, c := range []struct {
		name string
		host Host
		want string
		cost string // of the last one
	}{
		{"upstream's default", Host{process.CapCheckpointRestore, 2}, all, "replaced or deleted"},
		{"newer kernel", Host{process.CapCheckpointRestore + 1, -1}, all, "replaced or deleted"},
		{"Debian's default", Host{process.CapCheckpointRestore, 3}, all + " CAP_SYS_ADMIN", "kernel.perf_event_paranoid is 3"},
		{"Ubuntu's default", Host{process.CapCheckpointRestore, 4}, all + " CAP_SYS_ADMIN", "kernel.perf_event_paranoid is 4"},
		{"Linux 5.8", Host{process.CapBPF, 2}, "CAP_BPF CAP_PERFMON CAP_SYS_PTRACE CAP_SYSLOG CAP_DAC_READ_SEARCH CAP_SYS_ADMIN", "replaced or deleted"},
		{"Linux 5.4", Host{old, 2}, "CAP_SYS_PTRACE CAP_SYSLOG CAP_DAC_READ_SEARCH CAP_SYS_ADMIN", "before Linux 5.8"},
		{"Linux 4.9", Host{old, 3}, "CAP_SYS_PTRACE CAP_SYSLOG CAP_DAC_READ_SEARCH CAP_SYS_ADMIN", "before Linux 5.8"},
	} {
		var got []string
		needed := c.host.Needed()
		for _, r := range needed {
			if r.For == "" || r.Without == "" {
				t.Errorf("%s: %v does not say what it is for", c.name, r)
			}
			got = append(got, r.String())
		}
		if strings.Join(got, " ") != c.want || !strings.Contains(needed[len(needed)-1].Without, c.cost) {
			t.Errorf("%s: %v (%q), want %s (%q)", c.name, got, needed[len(needed)-1].Without, c.want, c.cost)
		}
	}
}

// What is kept is the same in every thread and in every set.
func TestKeep(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal("not root")
		}
		t.Skip("not root: there is nothing to drop")
	}
	exe := filepath.Join(t.TempDir(), "privilege.test") // as our programs are built: without cgo
	build := exec.Command("go", "test", "-c", "-o", exe, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := exec.Command(exe)
	c.Env = append(os.Environ(), keepEnv+"=1")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var all process.Capabilities
	for _, r := range rights {
		all |= 1 << r.Capability
	}
	own, err := ownPermitted()
	if err != nil {
		t.Fatal(err)
	}
	kept, none := fmt.Sprintf("%016x", uint64(all&own)), fmt.Sprintf("%016x", 0)
	want := map[string]string{"CapInh": none, "CapPrm": kept, "CapEff": kept, "CapAmb": none, "NoNewPrivs": "1"}
	if own.Has(process.CapSetPCAP) {
		want["CapBnd"] = kept
	}
	threads := 0
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(line, ":")
		if name == "Pid" {
			threads++
		}
		if w, ok := want[name]; ok && strings.TrimSpace(value) != w {
			t.Errorf("thread %d: %s is %s, want %s", threads, name, strings.TrimSpace(value), w)
		}
	}
	if threads < 3 {
		t.Errorf("%d threads, want some:\n%s", threads, out)
	}
}

// keepEnv makes the test binary a program that keeps what it may, and shows
// what each of its threads has then.
const keepEnv = "SRPROF_TEST_KEEP"

func TestMain(m *testing.M) {
	if os.Getenv(keepEnv) == "" {
		os.Exit(m.Run())
	}
	if err := keepAndShow(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func keepAndShow() error {
	release := make(chan struct{})
	defer close(release)
	for range 4 { // a thread each
		started := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(started)
			<-release
		}()
		<-started
	}
	if _, err := Keep(rights); err != nil {
		return err
	}
	threads, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		return err
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		os.Stdout.Write(b)
	}
	return nil
}
