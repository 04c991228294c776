// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Agent is how an agent is at a moment, beside its State, whose sessions are
// those that were asked for here.
type Agent struct {
	ProfilerReady bool
	ProfilerSince time.Time // since when it is so; zero: it was not asked yet
	OutOfSight    uint64    // sessions of which nobody knows how they ended, since the start
}

// NewAgent makes the metrics of an agent of that version. now is asked as New's
// is; methods are those that the next agent is known to have.
func NewAgent(version string, methods []string, now func() (State, Agent)) *Metrics {
	m := served(version)
	m.sessions()
	m.handedOn = m.counters("next_agent_calls_total", "Calls that were handed on to the next agent, by method and by gRPC's code of the answer.", "method", "code")
	for _, method := range methods {
		m.methods.bounded(plain(method))
	}
	m.registry.MustRegister(&agent{now})
	return m
}

// AgentSession takes note that a session that was asked for here began to
// sample, or has ended.
func (m *Metrics) AgentSession(now *session.Session) {
	switch {
	case m == nil:
	case now.State == session.StateRunning:
		m.started.Inc()
	case now.State.Final():
		m.sessionEnded(now)
	}
}

// HandedOn takes note of a call that the next agent has answered. Who calls
// chooses the method: it has a label of its own only once an answer was OK.
func (m *Metrics) HandedOn(method, code string) {
	if m == nil {
		return
	}
	method = plain(method)
	if code != "OK" && !m.methods.has(method) {
		method = codeOther
	}
	m.handedOn.WithLabelValues(m.methods.bounded(method), m.codes.bounded(code)).Inc()
}

// plain is a method's name as gRPC's own metrics have it.
func plain(method string) string { return strings.TrimPrefix(method, "/") }

// agent makes metrics of an Agent and a State: all of them of the same moment.
type agent struct{ now func() (State, Agent) }

var (
	profilerReady = described("profiler_ready", "1 if the profiler of the host answers, 0 if not; the log says why not.")
	profilerSince = described("profiler_since_timestamp_seconds", "Since when the profiler answers, or does not, in seconds since 1970.")
	outOfSight    = described("sessions_out_of_sight_total", "Sessions that were asked for here, and of which nobody knows how they ended: the profiler was away for too long, or was started again.")
)

// Describe is of prometheus's interface.
func (a *agent) Describe(to chan<- *prometheus.Desc) {
	(&current{}).Describe(to)
	for _, d := range []*prometheus.Desc{profilerReady, profilerSince, outOfSight} {
		to <- d
	}
}

// Collect is of prometheus's interface.
func (a *agent) Collect(to chan<- prometheus.Metric) {
	s, of := a.now()
	s.KernelMemory, s.Kept = -1, -1 // an agent has none, and keeps nothing
	(&current{func() State { return s }}).Collect(to)
	ready := 0.0
	if of.ProfilerReady {
		ready = 1
	}
	to <- prometheus.MustNewConstMetric(profilerReady, prometheus.GaugeValue, ready)
	if !of.ProfilerSince.IsZero() {
		to <- prometheus.MustNewConstMetric(profilerSince, prometheus.GaugeValue, float64(of.ProfilerSince.UnixMilli())/1000)
	}
	to <- prometheus.MustNewConstMetric(outOfSight, prometheus.CounterValue, float64(of.OutOfSight))
}
