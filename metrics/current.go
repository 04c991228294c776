// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/carverauto/serviceradar-profiler/session"
)

// State is how a service is at a moment.
type State struct {
	Healthy      bool
	Running      int   // sessions that have a place
	Pending      int   // sessions that wait for one
	Kept         int   // sessions that have ended and are known still; -1 if none ever are
	KeptBytes    int64 // of all profiles that are kept
	Connections  int64
	LogLinesLost uint64
	KernelMemory int64     // bytes; -1 if they cannot be found out
	CertExpires  time.Time // of the service's own certificate; zero if it has none
}

// current makes metrics of a State: all of them of the same one.
type current struct{ now func() State }

var (
	healthy      = described("healthy", "1 if sessions can be had, 0 if not; the log says why not.")
	sessions     = described("sessions", "Sessions that have not ended, by state.", "state")
	kept         = described("results", "Sessions that have ended and are known still.")
	keptBytes    = described("result_bytes", "Bytes of all profiles that are kept.")
	connections  = described("connections", "Connections of clients that are open.")
	linesLost    = described("log_lines_lost_total", "Lines of the log that could not be written.")
	kernelMemory = described("kernel_memory_bytes", "Memory of BPF maps and programs and of perf's rings, which no RSS has.")
	certExpires  = described("certificate_expires_timestamp_seconds", "When the service's own certificate expires, in seconds since 1970.")
)

func described(n, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name(n), help, labels, nil)
}

// Describe is of prometheus's interface.
func (c *current) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{healthy, sessions, kept, keptBytes, connections, linesLost, kernelMemory, certExpires} {
		to <- d
	}
}

// Collect is of prometheus's interface.
func (c *current) Collect(to chan<- prometheus.Metric) {
	s := c.now()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	good := 0.0
	if s.Healthy {
		good = 1
	}
	gauge(healthy, good)
	gauge(sessions, float64(s.Running), string(session.StateRunning))
	gauge(sessions, float64(s.Pending), string(session.StatePending))
	if s.Kept >= 0 {
		gauge(kept, float64(s.Kept))
		gauge(keptBytes, float64(s.KeptBytes))
	}
	gauge(connections, float64(s.Connections))
	to <- prometheus.MustNewConstMetric(linesLost, prometheus.CounterValue, float64(s.LogLinesLost))
	if s.KernelMemory >= 0 {
		gauge(kernelMemory, float64(s.KernelMemory))
	}
	if !s.CertExpires.IsZero() {
		gauge(certExpires, float64(s.CertExpires.UnixMilli())/1000)
	}
}
