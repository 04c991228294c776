// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/proto/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

const nobody = 65534

// asNobody starts the service without any right.
func asNobody(t *testing.T, s *service) {
	t.Helper()
	s.command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := os.Chown(filepath.Join(s.dir, "profiler-key.pem"), nobody, nobody); err != nil {
		t.Fatal(err)
	}
}

// nobodys is a busy process of the service's own user.
func nobodys(t *testing.T) int {
	t.Helper()
	c := exec.Command("sh", "-c", "while :; do :; done")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill() // it runs for ever
		_ = c.Wait()
	})
	return c.Process.Pid
}

// Where neither BPF nor perf events can be had, the service stays, is not
// healthy, and answers each request with the sentence of docs/limits.md.
func TestNothingCanBeHad(t *testing.T) {
	const row = "| an unprivileged container | refused | `"
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), row)
	why, _, ok := strings.Cut(rest, " [bpf_not_permitted]`")
	if !ok {
		t.Fatalf("docs/limits.md has no row %q", row)
	}
	programs.SetSysctl(t, "kernel/perf_event_paranoid", "2") // with Debian's 3 the sentence is another one
	s := start(t, "", func(s *service) {
		s.forbid(programs.Refused(unix.EPERM, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN))
		asNobody(t, s)
	})
	if said := s.waitFor(t, "this host cannot run sessions for now; each request is answered with the reason").Error; said != why {
		t.Errorf("the log says\n%s\nwant\n%s", said, why)
	}
	pid := nobodys(t)
	c := s.client(t, "admin")
	for range 2 { // and again: it stays
		if got := c.status(t); got != health.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health is %v", got)
		}
		now, err := c.GetStatus(t.Context(), &profiler.GetStatusRequest{})
		if err != nil || now.GetHealthy() || !strings.Contains(now.GetMessage(), why) {
			t.Errorf("%v, %v; want %s", now, err, why)
		}
		r := c.begin(t, pid, 1)
		if r.GetSuccess() || !strings.Contains(r.GetMessage(), why) {
			t.Errorf("%v; want %s", r, why)
		}
		creds, err := auth.Identity(s.dir, "admin").ClientCredentials(s.address)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := remote.Dial(s.address, creds)
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		if _, err := ours.Start(t.Context(), session.Spec{PIDs: []int{pid}, Duration: time.Second, Frequency: 99}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v; want %s", err, why)
		}
	}
}

// Where perf events alone can be had, sessions go on by these; the log says so
// at the start, and each profile.
func TestPerfEventsStandIn(t *testing.T) {
	s := start(t, "", func(s *service) { s.forbid(programs.Refused(unix.EPERM, unix.SYS_BPF)) })
	if why := s.waitFor(t, "profiles are poorer than they could be").Reason; !strings.HasPrefix(why, "sampled by perf events instead of eBPF (") {
		t.Errorf("the log says %q", why)
	}
	c := s.client(t, "admin")
	if got := c.status(t); got != health.HealthCheckResponse_SERVING {
		t.Errorf("health is %v", got)
	}
	r := c.begin(t, target(t).PID, 1)
	if !r.GetSuccess() {
		t.Fatal(r)
	}
	if text := c.whole(t, r.GetSessionId()); !strings.Contains(text, "own_work") {
		t.Errorf("the profile has no function of the target: %.300s", text)
	}
}
