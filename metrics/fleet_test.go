// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/carverauto/serviceradar-profiler/session"
)

func TestFleet(t *testing.T) {
	m := NewFleet("v1", func() (State, Fleet) {
		return State{Healthy: true, Running: 2}, Fleet{
			Hosts: map[session.HostState]int{session.HostReady: 3, session.HostAway: 1}, Runs: map[session.State]int{session.StateRunning: 4},
			Collected: 5, StoreErrors: 6, Reports: 7, ReportBytes: 8, ReportsDropped: map[string]uint64{"summary": 9},
		}
	})
	created := time.Unix(1000, 0)
	m.FleetSession(&session.Session{State: session.StateRunning, Created: created, Started: created.Add(30 * time.Millisecond)})
	m.FleetSession(&session.Session{State: session.StateFailed, Err: &session.Error{Code: "host_unreachable"}})
	want := `
# HELP srprof_hosts Hosts of the fleet, by state.
# TYPE srprof_hosts gauge
srprof_hosts{state="away"} 1
srprof_hosts{state="no profiling"} 0
srprof_hosts{state="ready"} 3
srprof_hosts{state="unhealthy"} 0
srprof_hosts{state="unknown"} 0
# HELP srprof_reports_dropped_total Reports that were thrown away because too many waited, by kind.
# TYPE srprof_reports_dropped_total counter
srprof_reports_dropped_total{kind="summary"} 9
# HELP srprof_sessions_ended_total Sessions that ended, by their state and the code of what made them fail or be canceled.
# TYPE srprof_sessions_ended_total counter
srprof_sessions_ended_total{code="host_unreachable",state="failed"} 1
srprof_sessions_ended_total{code="ok",state="succeeded"} 0
# HELP srprof_sessions_started_total Sessions that began to sample.
# TYPE srprof_sessions_started_total counter
srprof_sessions_started_total 1
# HELP srprof_store_errors_total What could not be written into the store, or read from it.
# TYPE srprof_store_errors_total counter
srprof_store_errors_total 6
`
	if err := testutil.GatherAndCompare(m.registry, strings.NewReader(want), "srprof_hosts", "srprof_reports_dropped_total", "srprof_sessions_ended_total",
		"srprof_sessions_started_total", "srprof_store_errors_total"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, of := range []string{"srprof_samples_total", "srprof_kernel_memory_bytes", "srprof_symbolize_seconds"} {
		if n, err := testutil.GatherAndCount(m.registry, of); n != 0 || err != nil {
			t.Errorf("%s is told by a poller, which does not sample: %v", of, err)
		}
	}
	var none *Metrics
	none.FleetSession(&session.Session{State: session.StateRunning})
}
