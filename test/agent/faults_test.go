// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/proto/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/hops"
)

// aPollersTime is what a real poller gives all checks together.
const aPollersTime = 30 * time.Second

// profilerStatus is what GetStatus tells of the profiler.
func profilerStatus(t testing.TB, conn *grpc.ClientConn) (available bool, of map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), aPollersTime)
	defer cancel()
	out, err := monitoring.NewAgentServiceClient(conn).GetStatus(ctx, &monitoring.StatusRequest{ServiceName: "ebpf", ServiceType: "profiler"})
	if err != nil {
		t.Fatal(err)
	}
	of, _ = object(t, out.GetMessage())["profiler"].(map[string]any)
	return out.GetAvailable(), of
}

// resultsOf is GetResults of one session, within a poller's time.
func resultsOf(t testing.TB, conn *grpc.ClientConn, id string) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), aPollersTime)
	defer cancel()
	out, err := monitoring.NewAgentServiceClient(conn).GetResults(ctx, &monitoring.ResultsRequest{ServiceType: "profiler", Details: `{"session_id": "` + id + `"}`})
	if err != nil {
		t.Fatal(err)
	}
	return object(t, out.GetData())
}

// faulty is a host with a session in each state.
type faulty struct {
	*station
	conn                      *grpc.ClientConn
	ended, running, waiting   string // sessions
	endedPID, runPID, waitPID int32
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{station: &station{certs: daemons.Certificates(t)}}
	f.profiler = profilerAt(t, f.certs, "127.0.0.1:0", `"profiler": {"max_concurrent_sessions": 1},`)
	f.agent = agentBefore(t, f.certs, f.profiler.Address, `"limits": {"call_timeout_seconds": 2},`, "")
	f.agent.WaitFor("the profiler is")
	f.conn = connect(t, f.certs, "poller", f.agent.Address)
	state := func(in *monitoring.TriggerProfilingRequest, wanted monitoring.TriggerProfilingResponse_State) string {
		var out *monitoring.TriggerProfilingResponse
		daemons.Until(t, wanted.String(), func() bool {
			out = trigger(t, f.conn, in)
			return out.GetState() == wanted
		})
		return out.GetSessionId()
	}
	f.endedPID, f.runPID, f.waitPID = int32(busy(t).PID), int32(busy(t).PID), int32(busy(t).PID)
	f.ended = state(&monitoring.TriggerProfilingRequest{RequestId: "ended", ProcessIds: []int32{f.endedPID}, DurationSeconds: 1, Frequency: 499}, monitoring.TriggerProfilingResponse_SUCCEEDED)
	f.running = state(&monitoring.TriggerProfilingRequest{RequestId: "running", ProcessIds: []int32{f.runPID}, DurationSeconds: 300}, monitoring.TriggerProfilingResponse_RUNNING)
	f.waiting = state(&monitoring.TriggerProfilingRequest{RequestId: "waiting", ProcessIds: []int32{f.waitPID}, DurationSeconds: 1}, monitoring.TriggerProfilingResponse_PENDING)
	return f
}

// each of the calls that a poller makes says what is wrong, in its time.
func (f *faulty) allSay(t *testing.T, code ...string) {
	t.Helper()
	for _, id := range []string{f.ended, f.running, f.waiting} {
		if o := resultsOf(t, f.conn, id); !slices.Contains(code, fmt.Sprint(o["code"])) || o["available"] != false {
			t.Errorf("results: %v, want %q", o, code)
		}
	}
	for id, pid := range map[string]int32{"ended": f.endedPID, "running": f.runPID, "waiting": f.waitPID, "new": f.runPID} {
		began := time.Now()
		out := trigger(t, f.conn, &monitoring.TriggerProfilingRequest{RequestId: id, ProcessIds: []int32{pid}, DurationSeconds: 1})
		if !slices.Contains(code, out.GetErrorCode()) || out.GetSuccess() || time.Since(began) > aPollersTime {
			t.Errorf("after %v: %v, want %q", time.Since(began), out, code)
		}
	}
}

func (f *faulty) awaitState(t *testing.T, state string) map[string]any {
	t.Helper()
	var of map[string]any
	daemons.Until(t, "the profiler is "+state, func() bool {
		_, of = profilerStatus(t, f.conn)
		return of["state"] == state
	})
	return of
}

// A profiler that is killed at each state of a session, and started again: calls
// say so in time, the status since when; then it is found again by itself.
func TestProfilerKilledAndRestarted(t *testing.T) {
	f := newFaulty(t)
	client := hops.Dial(t, f.certs, "admin", f.agent.Address)
	watched := make(chan error, 1)
	go func() {
		var last error
		for _, err := range client.Watch(t.Context(), session.ID(f.running)) {
			last = err
		}
		watched <- last
	}()
	killed := time.Now()
	f.profiler.Kill()
	f.allSay(t, "profiler_unavailable")
	away := f.awaitState(t, "away")
	since, err := time.Parse(time.RFC3339, fmt.Sprint(away["since"]))
	if err != nil || since.Before(killed.Add(-2*time.Second)) || away["code"] != "profiler_unavailable" || away["reason"] == "" {
		t.Errorf("%v: killed at %v, %v", away, killed, err)
	}
	for name, want := range map[string]health.HealthCheckResponse_ServingStatus{
		"": health.HealthCheckResponse_SERVING, "AgentService": health.HealthCheckResponse_SERVING, "serviceradar.session.v1.SessionService": health.HealthCheckResponse_NOT_SERVING,
	} {
		if r, err := health.NewHealthClient(f.conn).Check(t.Context(), &health.HealthCheckRequest{Service: name}); err != nil || r.GetStatus() != want {
			t.Errorf("health of %q: %v, %v", name, r, err)
		}
	}
	var e *session.Error
	if err := <-watched; !errors.As(err, &e) || e.Code != "profiler_unavailable" {
		t.Errorf("the watch ends with %v", err)
	}
	f.profiler = profilerAt(t, f.certs, f.profiler.Address, "")
	f.awaitState(t, "ready")
	for _, id := range []string{f.ended, f.running, f.waiting} {
		if o := resultsOf(t, f.conn, id); o["code"] != "no_such_session" {
			t.Errorf("after a restart: %v", o)
		}
	}
	out := trigger(t, f.conn, &monitoring.TriggerProfilingRequest{RequestId: "running", ProcessIds: []int32{f.runPID}, DurationSeconds: 1})
	if !out.GetSuccess() || out.GetSessionId() == f.running {
		t.Errorf("%v", out)
	}
	if late := trigger(t, f.conn, &monitoring.TriggerProfilingRequest{RequestId: "waiting", ProcessIds: []int32{f.waitPID}, DurationSeconds: 1, TtlSeconds: 1, CreatedAt: killed.Unix() - 5}); late.GetErrorCode() != "request_expired" {
		t.Errorf("what is too late by now is begun: %v", late)
	}
}

// A profiler that hangs, and goes on.
func TestProfilerHangs(t *testing.T) {
	f := newFaulty(t)
	f.profiler.Signal(syscall.SIGSTOP)
	f.allSay(t, "profiler_slow")
	if away := f.awaitState(t, "away"); away["code"] != "profiler_slow" {
		t.Errorf("%v", away)
	}
	began := time.Now()
	profilerStatus(t, f.conn)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the status took %v: it asks nobody", took)
	}
	f.profiler.Signal(syscall.SIGCONT)
	f.awaitState(t, "ready")
	if o := resultsOf(t, f.conn, f.ended); hottest(t, fmt.Sprint(o["folded"])) != "hot_a" {
		t.Errorf("%v", o)
	}
	if out := trigger(t, f.conn, &monitoring.TriggerProfilingRequest{RequestId: "running", ProcessIds: []int32{f.runPID}, DurationSeconds: 300}); out.GetSessionId() != f.running || !out.GetSuccess() {
		t.Errorf("%v", out)
	}
	client := hops.Dial(t, f.certs, "admin", f.agent.Address)
	if s, err := client.Cancel(t.Context(), session.ID(f.running)); err != nil || s.State != session.StateCanceled {
		t.Errorf("%+v, %v", s, err)
	}
	daemons.Until(t, "the one that waited ends", func() bool {
		s, err := client.Get(t.Context(), session.ID(f.waiting))
		return err == nil && s.State.Final()
	})
}

// A profiler that is replaced by another version is told of, and works.
func TestProfilerReplaced(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "serviceradar-profiler"), "-ldflags", "-X github.com/carverauto/serviceradar-profiler/version.version=9.8.7",
		"github.com/carverauto/serviceradar-profiler/cmd/serviceradar-profiler")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	h := newStation(t, "", "")
	conn := connect(t, h.certs, "poller", h.agent.Address)
	h.profiler.Kill()
	h.profiler = start(t, "serviceradar-profiler", fmt.Sprintf(`{"listen_addr": %q, "security": %s, "access": {"roles": {"agent.serviceradar": ["admin"]}, %s}}`,
		h.profiler.Address, security(h.certs, "profiler"), often), func(c *exec.Cmd) { c.Path = filepath.Join(dir, "serviceradar-profiler") })
	daemons.Until(t, "the new version is seen", func() bool {
		_, of := profilerStatus(t, conn)
		return of["state"] == "ready" && of["version"] == "9.8.7"
	})
	if out := trigger(t, conn, &monitoring.TriggerProfilingRequest{ProcessIds: []int32{int32(busy(t).PID)}, DurationSeconds: 1}); !out.GetSuccess() {
		t.Errorf("%v", out)
	}
}

// firstProfiler is what ServiceRadar's first profiler served: nothing else.
type firstProfiler struct {
	profiler.UnimplementedProfilerServiceServer
}

// What is at profiler_address, and is not the profiler that it should be.
func TestWhatIsNoProfiler(t *testing.T) {
	certs, others := daemons.Certificates(t), daemons.Certificates(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := grpc.NewServer()
	go func() { _ = open.Serve(plain) }() // it ends by Stop
	defer open.Stop()
	for _, c := range []struct{ name, address, code string }{
		{"nobody", "127.0.0.1:1", "profiler_unavailable"},
		{"nobody who says a word", silent.Addr().String(), "profiler_slow profiler_unavailable profiler_not_trusted"},
		{"plaintext", plain.Addr().String(), "profiler_not_trusted"},
		{"another authority", hops.Serve(t, others, "profiler", nil, func(*grpc.Server) {}), "profiler_not_trusted"},
		{"the first profiler", hops.Serve(t, certs, "profiler", nil, func(s *grpc.Server) { profiler.RegisterProfilerServiceServer(s, firstProfiler{}) }), "profiler_too_old"},
		{"a real agent", realAgentAt(t, certs), "profiler_too_old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			agent := agentBefore(t, certs, c.address, `"limits": {"call_timeout_seconds": 3},`, "")
			conn := connect(t, certs, "poller", agent.Address)
			began := time.Now()
			out := trigger(t, conn, &monitoring.TriggerProfilingRequest{ProcessIds: []int32{1}})
			if !strings.Contains(c.code, out.GetErrorCode()) || out.GetErrorCode() == "" || !strings.Contains(out.GetMessage(), "; ") || time.Since(began) > aPollersTime {
				t.Errorf("after %v: %v", time.Since(began), out)
			}
			var of map[string]any
			var available bool
			daemons.Until(t, "it is away", func() bool {
				available, of = profilerStatus(t, conn)
				return of["state"] == "away"
			})
			if code, _ := of["code"].(string); available || !strings.Contains(c.code, code) || of["reason"] == "" || of["since"] == nil {
				t.Errorf("%v", of)
			}
			var e *session.Error
			if _, err := hops.Dial(t, certs, "admin", agent.Address).Get(t.Context(), "x"); !errors.As(err, &e) || !strings.Contains(c.code, e.Code) || errors.Is(err, session.ErrForbidden) {
				t.Errorf("%v", err)
			}
		})
	}
}

// The agent's own certificate, expired or of another authority, is what is
// told, and not that whoever asks has a wrong one.
func TestAgentIsNotTrusted(t *testing.T) {
	certs, others := daemons.Certificates(t), daemons.Certificates(t)
	profiler := profilerAt(t, certs, "127.0.0.1:0", "")
	foreign := auth.Identity(others, "agent")
	agent := agentBefore(t, certs, profiler.Address, fmt.Sprintf(`"profiler_security": {"tls": {"cert_file": %q, "key_file": %q, "ca_file": %q}},`,
		filepath.Join(foreign.CertDir, "agent.pem"), filepath.Join(foreign.CertDir, "agent-key.pem"), filepath.Join(certs, "root.pem")), "")
	out := trigger(t, connect(t, certs, "poller", agent.Address), &monitoring.TriggerProfilingRequest{ProcessIds: []int32{1}})
	if out.GetErrorCode() != "profiler_not_trusted" || !strings.Contains(out.GetMessage(), "authority") {
		t.Errorf("%v", out)
	}
}
