// SPDX-License-Identifier: Apache-2.0

// Package metrics is what Prometheus is told of a service that runs sessions:
// how many, how fast they began, how they ended, what was lost, and who was
// refused. No label has a value that a stranger chooses, nor one that is another
// with each session: there are no PIDs in it, and no names of peers.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Metrics are those of one service. All methods may be called from several
// goroutines. Nil are those of a service that nobody asks: they take no room.
type Metrics struct {
	registry *prometheus.Registry

	started     prometheus.Counter
	ended       *prometheus.CounterVec // state, code
	recordings  *prometheus.CounterVec // event, user_stacks
	dispatched  prometheus.Histogram   // of a poller
	waited      prometheus.Histogram
	starting    prometheus.Histogram
	firstSample prometheus.Histogram
	symbolizing prometheus.Histogram
	sampled     prometheus.Counter
	samples     map[string]prometheus.Counter

	calls   *prometheus.CounterVec // call, code
	rpcs    *prometheus.CounterVec // code
	refused *prometheus.CounterVec // code
	reloads *prometheus.CounterVec // result
	codes   codes

	handedOn *prometheus.CounterVec // method, code; of an agent
	methods  codes                  // that were answered once
}

// New makes the metrics of a service of that version. now is asked for what
// changes by itself, once each time they are read.
func New(version string, now func() State) *Metrics {
	m := served(version)
	m.registry.MustRegister(&current{now})
	m.sessions()
	m.recordingsMade()
	return m
}

// served makes what each service tells of: how it is called.
func served(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), samples: map[string]prometheus.Counter{}}
	m.calls = m.counters("calls_total", "Calls to start, get, list, watch, fetch or cancel sessions, and for hosts, processes and matches, by how they were answered: ok, or the code of the refusal or failure.", "call", "code")
	for _, call := range []string{"start", "get", "list", "watch", "fetch", "cancel"} {
		m.calls.WithLabelValues(call, codeOK)
	}
	m.rpcs = m.counters("rpcs_failed_total", "Calls by gRPC that were not answered with OK, of all services, by gRPC's code.", "code")
	m.refused = m.counters("connections_refused_total", "Connections that were refused before any call, by reason.", "code")
	m.reloads = m.counters("config_reloads_total", "How often the configuration was read again, by result.", "result")
	for _, result := range []string{reloadTaken, reloadRefused} {
		m.reloads.WithLabelValues(result)
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled()),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name("build_info"), Help: "1, with what was built.",
			ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version(), "arch": runtime.GOARCH},
		}, func() float64 { return 1 }),
	)
	return m
}

func name(s string) string { return "srprof_" + s }

func (m *Metrics) counters(n, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name(n), Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) counter(n, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name(n), Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histogram(n, help string, buckets ...float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name(n), Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

// sessions makes what is told of sessions, wherever they run.
func (m *Metrics) sessions() {
	m.started = m.counter("sessions_started_total", "Sessions that began to sample.")
	m.ended = m.counters("sessions_ended_total", "Sessions that ended, by their state and the code of what made them fail or be canceled.", "state", "code")
	m.ended.WithLabelValues(string(session.StateSucceeded), codeOK)
}

// recordingsMade makes what only who samples can tell of sessions.
func (m *Metrics) recordingsMade() {
	m.recordings = m.counters("recordings_total", "Profiles that were recorded, by what made the kernel take samples and how user stacks were walked.", "event", "user_stacks")
	m.waited = m.histogram("session_wait_seconds", "From the request to a session's turn.", .001, .01, .1, 1, 5, 10, 30, 60, 120, 300, 600)
	m.starting = m.histogram("session_start_seconds", "From a session's turn until sampling was on.", .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5)
	m.firstSample = m.histogram("first_sample_seconds", "From a session's turn to its first sample: a target that sleeps makes it late.", .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60)
	m.symbolizing = m.histogram("symbolize_seconds", "From the end of sampling to names.", .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30)
	m.sampled = m.counter("sampled_seconds_total", "Time that sessions sampled for, together.")
	for _, c := range []struct{ name, help string }{
		{"samples_total", "Samples that were kept."},
		{"samples_lost_total", "Samples that were taken, but not kept for lack of room."},
		{"samples_truncated_total", "Samples that were kept, but whose stack was cut at the depth limit."},
		{"samples_unknown_total", "Samples that were kept, but have a frame without a name."},
	} {
		m.samples[c.name] = m.counter(c.name, c.help)
	}
}

// Session takes note that a session began to sample, or has ended. turn is when
// it had its place, zero if it never had one; meta is of its profile, nil if it
// has none.
func (m *Metrics) Session(now *session.Session, turn time.Time, meta *profile.Metadata) {
	if m == nil {
		return
	}
	if now.State == session.StateRunning {
		m.started.Inc()
		m.waited.Observe(turn.Sub(now.Created).Seconds())
		m.starting.Observe(now.Started.Sub(turn).Seconds())
		return
	}
	if !now.State.Final() {
		return
	}
	m.sessionEnded(now)
	if meta != nil {
		m.recorded(turn, meta)
	}
}

func (m *Metrics) sessionEnded(s *session.Session) {
	code := codeOK
	if s.Err != nil {
		code = m.codes.bounded(s.Err.Code)
	}
	m.ended.WithLabelValues(string(s.State), code).Inc()
}

// recorded takes note of a profile.
func (m *Metrics) recorded(turn time.Time, meta *profile.Metadata) {
	m.recordings.WithLabelValues(meta.Event, meta.UserStacks).Inc()
	if !meta.FirstSample.IsZero() {
		m.firstSample.Observe(meta.FirstSample.Sub(turn).Seconds())
	}
	m.symbolizing.Observe((time.Duration(meta.SymbolizeNs) * time.Nanosecond).Seconds())
	m.sampled.Add(meta.Duration().Seconds())
	m.samples["samples_total"].Add(float64(meta.Counts.Samples))
	m.samples["samples_lost_total"].Add(float64(meta.Counts.Lost))
	m.samples["samples_truncated_total"].Add(float64(meta.Counts.Truncated))
	m.samples["samples_unknown_total"].Add(float64(meta.Counts.Unknown))
}

// ConnectionRefused takes note of a connection that came to nothing.
func (m *Metrics) ConnectionRefused(code string) {
	if m != nil {
		m.refused.WithLabelValues(m.codes.bounded(code)).Inc()
	}
}

// RPCFailed takes note of a call that was not answered with OK.
func (m *Metrics) RPCFailed(code string) {
	if m != nil {
		m.rpcs.WithLabelValues(m.codes.bounded(code)).Inc()
	}
}

const reloadTaken, reloadRefused = "taken", "refused"

// Reloaded takes note that the configuration was read again.
func (m *Metrics) Reloaded(taken bool) {
	switch {
	case m == nil:
	case taken:
		m.reloads.WithLabelValues(reloadTaken).Inc()
	default:
		m.reloads.WithLabelValues(reloadRefused).Inc()
	}
}

// Handler answers Prometheus. Few may ask at once: each answer looks at all.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 8 * time.Second, EnableOpenMetrics: true})
}
