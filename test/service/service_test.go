// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/proto/profiler"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// A session as the clients of the first profiler have it, over mTLS.
func TestSession(t *testing.T) {
	s := start(t, "", nil)
	p := target(t)
	c := s.client(t, "agent")
	if got := c.status(t); got != health.HealthCheckResponse_SERVING {
		t.Errorf("health is %v", got)
	}
	first := c.begin(t, p.PID, 3)
	if !first.GetSuccess() {
		t.Fatal(first.GetMessage())
	}
	for range 2 {
		if again := c.begin(t, p.PID, 3); again.GetSessionId() != first.GetSessionId() {
			t.Errorf("the same request leads to %s and %s", first.GetSessionId(), again.GetSessionId())
		}
	}
	lines, err := folded.Parse(strings.NewReader(c.whole(t, first.GetSessionId())))
	if err != nil {
		t.Fatal(err)
	}
	of, err := programs.Read("shared.c")
	if err != nil {
		t.Fatal(err)
	}
	if wrong := programs.Compare(of.Expect, lines); len(wrong) > 0 {
		t.Error(strings.Join(wrong, "\n"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.log {
		if l.Level != "info" || l.Component != "profiler" || l.Message == "" {
			t.Errorf("a line of the log is %+v", l)
		}
		if _, err := time.Parse(time.RFC3339, l.Time); err != nil {
			t.Error(err)
		}
	}
}

// forever is a grace period that no test waits for.
const forever = `"grace_period_seconds": 3600`

// SIGTERM in a session: it ends, no other begins, and the service ends as soon
// as the results were fetched.
func TestStopInASession(t *testing.T) {
	s := start(t, forever, nil)
	p := target(t)
	c := s.client(t, "admin")
	session := c.begin(t, p.PID, 300)
	if !session.GetSuccess() {
		t.Fatal(session.GetMessage())
	}
	s.samples(t)
	s.signal(t, syscall.SIGTERM)
	s.waitFor(t, "stopping")
	s.waitFor(t, "session ended")
	if got := c.status(t); got != health.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health is %v", got)
	}
	if other := c.begin(t, os.Getpid(), 1); other.GetSuccess() {
		t.Error("a session begins")
	}
	if text := c.whole(t, session.GetSessionId()); !strings.Contains(text, "main;") {
		t.Errorf("%q", text)
	}
	if state := s.ended(t); state.ExitCode() != 0 {
		t.Errorf("it ends with %v", state)
	}
}

// Nobody is connected any more: results are not waited for.
func TestStopAlone(t *testing.T) {
	s := start(t, forever, nil)
	p := target(t)
	c := s.client(t, "admin")
	c.begin(t, p.PID, 300)
	s.samples(t)
	s.signal(t, syscall.SIGTERM)
	s.waitFor(t, "session ended")
	select {
	case <-s.gone:
		t.Error("it ends while somebody is connected who may fetch")
	case <-time.After(100 * time.Millisecond):
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if state := s.ended(t); state.ExitCode() != 0 {
		t.Errorf("it ends with %v", state)
	}
}

// A second signal ends it at once.
func TestStopTwice(t *testing.T) {
	s := start(t, forever, nil)
	p := target(t)
	c := s.client(t, "admin")
	c.begin(t, p.PID, 300)
	s.samples(t)
	s.signal(t, syscall.SIGTERM)
	s.waitFor(t, "stopping")
	s.signal(t, syscall.SIGTERM)
	if w := s.ended(t).Sys().(syscall.WaitStatus); !w.Signaled() || w.Signal() != syscall.SIGTERM {
		t.Errorf("it ends with %v", s.command.ProcessState)
	}
}

// held are the IDs of what a process has in the kernel for BPF, as fdinfo has
// them (proc(5)). Arrays of programs are left out: to look at one by its ID
// while the kernel is about to clear it can keep it alive, so the look itself
// would be what is found. The programs in it are looked at.
func held(t *testing.T, pid string) (ids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/" + pid + "/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`(?m)^(prog|map|link)_id:\s*(\d+)`)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // closed meanwhile
		}
		if strings.Contains(string(b), "\nmap_type:\t3\n") { // BPF_MAP_TYPE_PROG_ARRAY
			continue
		}
		for _, m := range id.FindAllStringSubmatch(string(b), -1) {
			ids = append(ids, m[1]+" "+m[2])
		}
	}
	return ids
}

// The kernel refuses BPF and perf events: the service stays, and says why to
// everybody.
func TestKernelRefuses(t *testing.T) {
	s := start(t, "", func(s *service) {
		s.forbid(programs.Refused(unix.EPERM, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN))
	})
	why := s.waitFor(t, "this host cannot run sessions for now").Error
	if why == "" {
		t.Error("the log does not say why")
	}
	c := s.client(t, "admin")
	if got := c.status(t); got != health.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health is %v", got)
	}
	now, err := c.GetStatus(t.Context(), &profiler.GetStatusRequest{})
	if err != nil || now.GetHealthy() || !strings.Contains(now.GetMessage(), why) {
		t.Errorf("%v, %v; the log says %s", now, err, why)
	}
	p := target(t)
	if r := c.begin(t, p.PID, 1); r.GetSuccess() {
		_, err := c.results(t, r.GetSessionId())
		if status.Code(err) != codes.Internal || !strings.HasPrefix(status.Convert(err).Message(), "Profiling failed: ") {
			t.Errorf("%v: %v", r, err)
		}
	} else if r.GetMessage() == "" {
		t.Errorf("%v", r)
	}
	s.signal(t, syscall.SIGTERM)
	if state := s.ended(t); state.ExitCode() != 0 {
		t.Errorf("it ends with %v", state)
	}
}

// Certificates are replaced under load: sessions and calls go on, and the next
// connection has the new ones.
func TestRotation(t *testing.T) {
	s := start(t, "", nil)
	p := target(t)
	before := s.client(t, "admin")
	session := before.begin(t, p.PID, 2)
	if !session.GetSuccess() {
		t.Fatal(session.GetMessage())
	}
	old := t.TempDir()
	for _, name := range []string{"root.pem", "admin.pem", "admin-key.pem"} {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(old, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := auth.WriteTryoutCertificates(s.dir, auth.Tryout{Overwrite: true}); err != nil {
		t.Fatal(err)
	}
	after := s.client(t, "admin")
	if again := after.begin(t, p.PID, 2); again.GetSessionId() != session.GetSessionId() {
		t.Errorf("%v", again)
	}
	if text := before.whole(t, session.GetSessionId()); !strings.Contains(text, "main;") {
		t.Errorf("%q", text)
	}
	s.waitFor(t, "certificates were read again")
	dir := s.dir
	s.dir = old
	stranger := s.client(t, "admin")
	s.dir = dir
	_, err := stranger.GetStatus(t.Context(), &profiler.GetStatusRequest{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "was not made by an authority that is believed here") {
		t.Errorf("with the former certificates: %v", err)
	}
}

// kill -9 in a session: nothing of it is left in the kernel.
func TestKilled(t *testing.T) {
	s := start(t, "", nil)
	p := target(t)
	c := s.client(t, "admin")
	c.begin(t, p.PID, 300)
	s.samples(t)
	ids := held(t, pidOf(s))
	if len(ids) < 10 {
		t.Fatalf("a session holds only %q in the kernel", ids)
	}
	s.signal(t, syscall.SIGKILL)
	s.ended(t)
	var left []string
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(500 * time.Millisecond) { // the kernel frees them after a grace period of its own
		if left = known(t, ids); len(left) == 0 {
			return
		}
	}
	t.Errorf("left in the kernel: %q", left)
}
