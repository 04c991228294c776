// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/hops"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// says compares what Prometheus reads with what happened.
func says(t *testing.T, p *daemons.Program, want map[string]float64) {
	t.Helper()
	got := p.Metrics()
	for name, v := range want {
		if g, ok := got[name]; !ok || g != v {
			t.Errorf("%s is %v (%v), want %v", name, g, ok, v)
		}
	}
}

// What passes through an agent is counted there, by how it ended; and whether
// its profiler is there.
func TestMetrics(t *testing.T) {
	certs := daemons.Certificates(t)
	profiler := profilerAt(t, certs, "127.0.0.1:0", "")
	agent := agentBefore(t, certs, profiler.Address, fmt.Sprintf(`"metrics": {"listen_addr": "127.0.0.1:0"}, "next_agent_address": %q,`, realAgentAt(t, certs)), "")
	agent.WaitFor("the profiler is there")
	ready := agent.Metrics()
	if since := time.UnixMilli(int64(1000 * ready["srprof_profiler_since_timestamp_seconds"])); ready["srprof_profiler_ready"] != 1 || ready["srprof_healthy"] != 1 || time.Since(since) > daemons.Hangs {
		t.Errorf("ready %v, healthy %v since %v", ready["srprof_profiler_ready"], ready["srprof_healthy"], since)
	}

	client := hops.Dial(t, certs, "admin", agent.Address)
	busy, idle := busy(t), programs.Start(t, "sleeper.c", programs.Options{})
	begin := func(d time.Duration, pid int) session.Session {
		t.Helper()
		now, err := client.Start(t.Context(), session.Spec{PIDs: []int{pid}, Duration: d, Frequency: 499})
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	begin(time.Second, busy.PID)
	begin(200*time.Millisecond, idle.PID) // fails: there is nothing to sample
	running := begin(5*time.Minute, busy.PID)
	waits := func(what string, want map[string]float64) {
		t.Helper()
		daemons.Until(t, what, func() bool {
			got := agent.Metrics()
			for name, v := range want {
				if got[name] != v {
					return false
				}
			}
			return true
		})
	}
	waits("two have ended, one runs", map[string]float64{
		`srprof_sessions_started_total`: 3, `srprof_sessions{state="running"}`: 1, `srprof_sessions{state="pending"}`: 0,
		`srprof_sessions_ended_total{code="ok",state="succeeded"}`: 1, `srprof_sessions_ended_total{code="no_samples",state="failed"}`: 1,
	})

	// Who may not, and what is for somebody else.
	stranger := hops.Dial(t, certs, "profiler", agent.Address)
	if _, err := stranger.Start(t.Context(), session.Spec{PIDs: []int{busy.PID}, Duration: time.Second, Frequency: 99}); !errors.Is(err, session.ErrForbidden) {
		t.Errorf("%v", err)
	}
	if _, err := client.Start(t.Context(), session.Spec{PIDs: []int{busy.PID}, Duration: time.Hour, Frequency: 99}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("%v", err)
	}
	conn := connect(t, certs, "poller", agent.Address)
	checks := monitoring.NewAgentServiceClient(conn)
	for range 3 {
		if _, err := checks.GetStatus(t.Context(), &monitoring.StatusRequest{ServiceType: "icmp", ServiceName: "ping"}); err != nil {
			t.Error(err)
		}
	}
	trigger(t, conn, &monitoring.TriggerProfilingRequest{ProcessIds: []int32{int32(busy.PID)}, DurationSeconds: 299})
	if err := conn.Invoke(t.Context(), "/a.stranger/Chose", &monitoring.StatusRequest{}, &monitoring.StatusResponse{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
	says(t, agent, map[string]float64{
		`srprof_calls_total{call="start",code="ok"}`:                                          1 + 3, // one by ServiceRadar's way
		`srprof_calls_total{call="start",code="no_role"}`:                                     1,
		`srprof_next_agent_calls_total{code="OK",method="monitoring.AgentService/GetStatus"}`: 3,
		`srprof_next_agent_calls_total{code="Unimplemented",method="other"}`:                  1,
		`srprof_rpcs_failed_total{code="Unimplemented"}`:                                      1,
		`srprof_rpcs_failed_total{code="PermissionDenied"}`:                                   1,
		`srprof_calls_total{call="start",code="duration_limit"}`:                              1,
		`srprof_connections`: 3,
	})
	if m := agent.Metrics(); m["process_resident_memory_bytes"] < 1<<20 || m["process_cpu_seconds_total"] <= 0 || m["srprof_certificate_expires_timestamp_seconds"] < float64(time.Now().Unix()) {
		t.Errorf("%v", m)
	}
	for name := range agent.Metrics() {
		if strings.Contains(name, "stranger") || strings.Contains(name, string(running.ID)) || strings.Contains(name, "serviceradar") {
			t.Errorf("%s names somebody", name)
		}
	}

	// It goes, and takes what it knew with it.
	profiler.Signal(syscall.SIGKILL)
	waits("the profiler is away", map[string]float64{"srprof_profiler_ready": 0, "srprof_healthy": 0})
	if got := agent.Metrics()["srprof_profiler_since_timestamp_seconds"]; got <= ready["srprof_profiler_since_timestamp_seconds"] {
		t.Errorf("away since %v, ready since %v", got, ready["srprof_profiler_since_timestamp_seconds"])
	}
	profilerAt(t, certs, profiler.Address, "")
	waits("the sessions that it had are forgotten", map[string]float64{"srprof_profiler_ready": 1, "srprof_healthy": 1, "srprof_sessions_out_of_sight_total": 2,
		`srprof_sessions{state="running"}`: 0, `srprof_sessions_ended_total{code="ok",state="succeeded"}`: 1})
}

// Connections that come to nothing are counted as at the profiler, and SIGHUPs.
func TestMetricsOfStrangersAndReloads(t *testing.T) {
	h := newStation(t, `"metrics": {"listen_addr": "127.0.0.1:0"},`, "")
	other := daemons.Certificates(t)
	if _, err := hops.Dial(t, other, "admin", h.agent.Address).List(t.Context(), session.Filter{}); err == nil {
		t.Error("who is of another authority is answered")
	}
	h.agent.Signal(syscall.SIGHUP)
	h.agent.WaitFor("the configuration was read again")
	daemons.Until(t, "both are counted", func() bool {
		m := h.agent.Metrics()
		refused := 0.0
		for name, v := range m {
			if strings.HasPrefix(name, "srprof_connections_refused_total{") {
				refused += v
			}
		}
		return refused >= 1 && m[`srprof_config_reloads_total{result="taken"}`] == 1
	})
}
