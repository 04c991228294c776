// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Fleet is how a poller is at a moment, beside its State.
type Fleet struct {
	Hosts map[session.HostState]int // of the fleet
	Runs  map[session.State]int     // hosts' parts of sessions that have not ended, or ended just now

	Collected   uint64 // bytes of profiles, since the start
	StoreErrors uint64 // since the start

	Reports        int // that wait for core
	ReportBytes    int64
	ReportsDropped map[string]uint64 // by kind, in all the time of the directory
}

// NewFleet makes the metrics of a poller of that version. now is asked as New's
// is.
func NewFleet(version string, now func() (State, Fleet)) *Metrics {
	m := served(version)
	m.sessions()
	m.dispatched = m.histogram("session_dispatch_seconds", "From the request to the first host that samples: its wait for a place is in it.",
		.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300)
	m.registry.MustRegister(&fleet{now})
	return m
}

// FleetSession takes note that a session of several hosts began to sample on
// the first of them, or has ended on the last.
func (m *Metrics) FleetSession(now *session.Session) {
	switch {
	case m == nil:
	case now.State == session.StateRunning:
		m.started.Inc()
		m.dispatched.Observe(now.Started.Sub(now.Created).Seconds())
	case now.State.Final():
		m.sessionEnded(now)
	}
}

// fleet makes metrics of a Fleet and a State: all of them of the same moment.
type fleet struct{ now func() (State, Fleet) }

var (
	hosts          = described("hosts", "Hosts of the fleet, by state.", "state")
	runs           = described("host_runs", "Hosts' parts of sessions that have not ended or ended just now, by state.", "state")
	collected      = described("collected_bytes_total", "Bytes of profiles that were collected from hosts.")
	storeErrors    = described("store_errors_total", "What could not be written into the store, or read from it.")
	reports        = described("reports_waiting", "Reports that wait for core to take them.")
	reportBytes    = described("report_waiting_bytes", "Bytes of the reports that wait for core.")
	reportsDropped = described("reports_dropped_total", "Reports that were thrown away because too many waited, by kind.", "kind")
)

// Describe is of prometheus's interface.
func (f *fleet) Describe(to chan<- *prometheus.Desc) {
	(&current{}).Describe(to)
	for _, d := range []*prometheus.Desc{hosts, runs, collected, storeErrors, reports, reportBytes, reportsDropped} {
		to <- d
	}
}

// Collect is of prometheus's interface.
func (f *fleet) Collect(to chan<- prometheus.Metric) {
	s, of := f.now()
	s.KernelMemory = -1 // a poller has none
	(&current{func() State { return s }}).Collect(to)
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	count := func(d *prometheus.Desc, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	for _, state := range []session.HostState{session.HostUnknown, session.HostReady, session.HostUnhealthy, session.HostAway, session.HostUnsupported} {
		gauge(hosts, float64(of.Hosts[state]), string(state))
	}
	for _, state := range session.States {
		gauge(runs, float64(of.Runs[state]), string(state))
	}
	count(collected, of.Collected)
	count(storeErrors, of.StoreErrors)
	gauge(reports, float64(of.Reports))
	gauge(reportBytes, float64(of.ReportBytes))
	for kind, n := range of.ReportsDropped {
		count(reportsDropped, n, kind)
	}
}
