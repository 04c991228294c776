// SPDX-License-Identifier: Apache-2.0

// Package service_test runs the real serviceradar-profiler as a process and
// calls it with plain gRPC, as clients that know nothing of our code do.
package service_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/proto/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

func TestMain(m *testing.M) {
	if list := os.Getenv(forbidEnv); list != "" {
		fmt.Println(errors.Join(programs.Forbid(list), syscall.Exec(os.Args[1], os.Args[1:], os.Environ())))
		os.Exit(99)
	}
	os.Exit(daemons.Main(m, "the service", "serviceradar-profiler"))
}

// forbidEnv makes this binary execute its arguments, with the system calls of a
// programs.Refused forbidden.
const forbidEnv = "SRPROF_TEST_FORBID"

// forbid lets the kernel refuse system calls to the service, before it is
// started.
func (s *service) forbid(list string) {
	s.command = exec.Command("/proc/self/exe", s.command.Args...)
	s.command.Env = append(os.Environ(), forbidEnv+"="+list)
}

// line is one of the log.
type line struct {
	Level, Component, Time, Message, Address, Error, Reason string
}

// service is a running one.
type service struct {
	dir     string
	address string
	command *exec.Cmd

	mu   sync.Mutex
	log  []line
	raw  []string
	gone chan struct{}
}

// hangs is how long anything may take: to see that it hangs, not how fast it is.
const hangs = 2 * time.Minute

// start starts the service with try-out certificates; profiler are limits.
// change may change how it is started.
func start(t *testing.T, limits string, change func(s *service)) *service {
	t.Helper()
	s := &service{dir: t.TempDir(), gone: make(chan struct{})}
	if err := os.Chmod(filepath.Dir(s.dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.WriteTryoutCertificates(s.dir, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"listen_addr": "127.0.0.1:0", "profiler": {%s},
		"access": {"roles": {"admin.serviceradar": ["admin"], "agent.serviceradar": ["operator"]}, "rate": {"per_second": 10000, "burst": 10000}}, "security": {"cert_dir": %q,
		"tls": {"cert_file": "profiler.pem", "key_file": "profiler-key.pem", "ca_file": "root.pem"}}}`, limits, s.dir)
	file := filepath.Join(s.dir, "profiler.json")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	s.command = exec.Command(daemons.Path("serviceradar-profiler"), "--config", file)
	if change != nil {
		change(s)
	}
	out, err := s.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.command.Stderr = s.command.Stdout
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	go s.read(out)
	t.Cleanup(func() {
		_ = s.command.Process.Kill() // it may be gone
		<-s.gone
		if t.Failed() {
			t.Logf("the service said:\n%s", strings.Join(s.raw, "\n"))
		}
	})
	s.address = s.waitFor(t, "listening").Address
	return s
}

// read reads the log to its end, then waits for the process.
func (s *service) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var l line
		err := json.Unmarshal(lines.Bytes(), &l)
		s.mu.Lock()
		s.raw = append(s.raw, lines.Text())
		if err == nil {
			s.log = append(s.log, l)
		}
		s.mu.Unlock()
	}
	_ = s.command.Wait() // its state says how it ended
	close(s.gone)
}

// waitFor waits for a line of the log.
func (s *service) waitFor(t *testing.T, message string) line {
	t.Helper()
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		for _, l := range s.log {
			if strings.HasPrefix(l.Message, message) {
				s.mu.Unlock()
				return l
			}
		}
		s.mu.Unlock()
	}
	t.Fatalf("the log has no line %q", message)
	return line{}
}

// ended waits until the service has ended and returns how.
func (s *service) ended(t *testing.T) *os.ProcessState {
	t.Helper()
	select {
	case <-s.gone:
	case <-time.After(hangs):
		t.Fatal("the service does not end")
	}
	return s.command.ProcessState
}

func (s *service) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.command.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// client is plain gRPC with a certificate.
type client struct {
	*grpc.ClientConn
	profiler.ProfilerServiceClient
	health.HealthClient
}

func (s *service) client(t *testing.T, identity string) *client {
	t.Helper()
	creds, err := auth.Identity(s.dir, identity).ClientCredentials(s.address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{c, profiler.NewProfilerServiceClient(c), health.NewHealthClient(c)}
}

// begin starts a session.
func (c *client) begin(t *testing.T, pid, seconds int) *profiler.StartProfilingResponse {
	t.Helper()
	r, err := c.StartProfiling(t.Context(), &profiler.StartProfilingRequest{ProcessId: int32(pid), DurationSeconds: int32(seconds), Frequency: 999})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// results fetches what there is: "" while the session runs.
func (c *client) results(t *testing.T, session string) (string, error) {
	t.Helper()
	stream, err := c.GetProfilingResults(t.Context(), &profiler.GetProfilingResultsRequest{SessionId: session})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for final := false; ; {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if text.Len() > 0 && !final {
				t.Error("the last chunk is not final")
			}
			return text.String(), nil
		}
		if err != nil {
			return "", err
		}
		text.Write(chunk.GetData())
		final = chunk.GetIsFinal()
	}
}

// whole fetches results until there are some.
func (c *client) whole(t *testing.T, session string) string {
	t.Helper()
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		text, err := c.results(t, session)
		if err != nil {
			t.Fatal(err)
		}
		if text != "" {
			return text
		}
	}
	t.Fatal("there are no results")
	return ""
}

func (c *client) status(t *testing.T) health.HealthCheckResponse_ServingStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	defer cancel()
	r, err := c.Check(ctx, &health.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetStatus()
}

// samples waits until the session that runs has some.
func (s *service) samples(t *testing.T) {
	t.Helper()
	creds, err := auth.Identity(s.dir, "admin").ClientCredentials(s.address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.Dial(s.address, creds)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		all, err := c.List(t.Context(), session.Filter{States: []session.State{session.StateRunning}})
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 1 && all[0].Progress.Samples > 50 {
			return
		}
	}
	t.Fatal("the session takes no samples")
}

// target is a busy process.
func target(t *testing.T) *programs.Process {
	t.Helper()
	return programs.Start(t, "shared.c", programs.Options{})
}

func pidOf(s *service) string { return strconv.Itoa(s.command.Process.Pid) }

// known are those of the IDs that the kernel still knows, as bpftool sees it.
func known(t *testing.T, ids []string) (left []string) {
	t.Helper()
	bpftool, err := exec.LookPath("bpftool")
	if err != nil {
		bpftool = "/usr/sbin/bpftool"
	}
	for _, id := range ids {
		kind, number, _ := strings.Cut(id, " ")
		out, err := exec.Command(bpftool, kind, "show", "id", number).CombinedOutput()
		if err == nil {
			left = append(left, id)
		} else if !strings.Contains(string(out), "No such file or directory") {
			t.Fatalf("bpftool %s: %v: %s", id, err, out)
		}
	}
	return left
}
