// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/carverauto/serviceradar-profiler/session"
)

func TestAgent(t *testing.T) {
	m := NewAgent("v1", []string{"/monitoring.AgentService/GetStatus"}, func() (State, Agent) {
		return State{Healthy: true, Running: 2, Pending: 1}, Agent{ProfilerReady: true, ProfilerSince: time.Unix(8, 0), OutOfSight: 3}
	})
	m.AgentSession(&session.Session{State: session.StateRunning})
	m.AgentSession(&session.Session{State: session.StateFailed, Err: &session.Error{Code: "no_samples"}})
	m.HandedOn("/monitoring.AgentService/GetStatus", "Unavailable") // is known before
	m.HandedOn("/a.stranger/Chose", "Unimplemented")
	m.HandedOn("/kv.Service/Get", "NotFound") // might be anything
	m.HandedOn("/kv.Service/Get", "OK")
	m.HandedOn("/kv.Service/Get", "NotFound") // is known by now
	want := `
# HELP srprof_next_agent_calls_total Calls that were handed on to the next agent, by method and by gRPC's code of the answer.
# TYPE srprof_next_agent_calls_total counter
srprof_next_agent_calls_total{code="NotFound",method="kv.Service/Get"} 1
srprof_next_agent_calls_total{code="NotFound",method="other"} 1
srprof_next_agent_calls_total{code="OK",method="kv.Service/Get"} 1
srprof_next_agent_calls_total{code="Unavailable",method="monitoring.AgentService/GetStatus"} 1
srprof_next_agent_calls_total{code="Unimplemented",method="other"} 1
# HELP srprof_profiler_ready 1 if the profiler of the host answers, 0 if not; the log says why not.
# TYPE srprof_profiler_ready gauge
srprof_profiler_ready 1
# HELP srprof_profiler_since_timestamp_seconds Since when the profiler answers, or does not, in seconds since 1970.
# TYPE srprof_profiler_since_timestamp_seconds gauge
srprof_profiler_since_timestamp_seconds 8
# HELP srprof_sessions Sessions that have not ended, by state.
# TYPE srprof_sessions gauge
srprof_sessions{state="pending"} 1
srprof_sessions{state="running"} 2
# HELP srprof_sessions_ended_total Sessions that ended, by their state and the code of what made them fail or be canceled.
# TYPE srprof_sessions_ended_total counter
srprof_sessions_ended_total{code="no_samples",state="failed"} 1
srprof_sessions_ended_total{code="ok",state="succeeded"} 0
# HELP srprof_sessions_out_of_sight_total Sessions that were asked for here, and of which nobody knows how they ended: the profiler was away for too long, or was started again.
# TYPE srprof_sessions_out_of_sight_total counter
srprof_sessions_out_of_sight_total 3
# HELP srprof_sessions_started_total Sessions that began to sample.
# TYPE srprof_sessions_started_total counter
srprof_sessions_started_total 1
`
	if err := testutil.GatherAndCompare(m.registry, strings.NewReader(want), "srprof_next_agent_calls_total", "srprof_profiler_ready", "srprof_profiler_since_timestamp_seconds",
		"srprof_sessions", "srprof_sessions_ended_total", "srprof_sessions_out_of_sight_total", "srprof_sessions_started_total"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, of := range []string{"srprof_samples_total", "srprof_kernel_memory_bytes", "srprof_results", "srprof_result_bytes"} {
		if n, err := testutil.GatherAndCount(m.registry, of); n != 0 || err != nil {
			t.Errorf("%s is told by an agent, which neither samples nor keeps anything: %v", of, err)
		}
	}
	var none *Metrics
	none.AgentSession(&session.Session{State: session.StateRunning})
	none.HandedOn("/x/y", "OK")
}

// Since when is not known before the profiler was asked.
func TestAgentThatHasNotAskedYet(t *testing.T) {
	m := NewAgent("v1", nil, func() (State, Agent) { return State{}, Agent{} })
	if n, err := testutil.GatherAndCount(m.registry, "srprof_profiler_since_timestamp_seconds"); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// Whatever a next agent answers, the number of labels is bounded.
func TestMethodsAreBounded(t *testing.T) {
	m := NewAgent("v1", nil, func() (State, Agent) { return State{}, Agent{} })
	for i := range 10 * maxCodes {
		m.HandedOn(fmt.Sprintf("/s/M%d", i), "OK")
	}
	if n, err := testutil.GatherAndCount(m.registry, "srprof_next_agent_calls_total"); n != maxCodes+1 || err != nil {
		t.Errorf("%d methods are told apart: %v", n, err)
	}
}
