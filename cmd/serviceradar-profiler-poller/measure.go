// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/metrics"
	"github.com/carverauto/serviceradar-profiler/version"
)

// measure makes the metrics of the service. What they are of is there when they
// are first read.
func (s *service) measure() *metrics.Metrics {
	return metrics.NewFleet(version.String(), func() (metrics.State, metrics.Fleet) {
		h := s.poller.Health()
		now := metrics.State{Healthy: h.Healthy, Running: h.Running, Pending: h.Queued, Connections: s.Connections.Open(),
			LogLinesLost: s.Lines.Lost(), CertExpires: auth.Expires(s.Creds)}
		now.Kept, now.KeptBytes = s.poller.Kept()
		stats, waiting := s.poller.Stats(), s.queue.Stats()
		of := metrics.Fleet{Hosts: stats.Hosts, Runs: stats.Runs, StoreErrors: stats.StoreErrors, Collected: stats.Collected,
			Reports: waiting.Items, ReportBytes: waiting.Bytes, ReportsDropped: map[string]uint64{}}
		for kind, n := range waiting.Dropped {
			of.ReportsDropped[string(kind)] = n
		}
		return now, of
	})
}
