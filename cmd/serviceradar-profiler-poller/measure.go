// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/metrics"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/version"
)

// measure makes the metrics of the service. What they are of is there when they
// are first read.
func (s *service) measure() *metrics.Metrics {
	return metrics.NewFleet(version.String(), func() (metrics.State, metrics.Fleet) {
		h := s.poller.Health()
		now := metrics.State{Healthy: h.Healthy, Running: h.Running, Pending: h.Queued, Connections: s.connections.Open(),
			LogLinesLost: s.Lines.Lost(), CertExpires: auth.Expires(s.creds)}
		now.Kept, now.KeptBytes = s.poller.Kept()
		of := metrics.Fleet{Hosts: map[session.HostState]int{}, Reports: map[string]int{}, ReportsDropped: map[string]uint64{}}
		if all, err := s.poller.Hosts(context.Background(), session.Hosts{}); err == nil { // asks nobody, and cannot fail
			for _, h := range all {
				of.Hosts[h.State]++
			}
		}
		waiting := s.queue.Stats()
		of.ReportBytes = waiting.Bytes
		for kind, n := range waiting.Dropped {
			of.ReportsDropped[string(kind)] = n
		}
		return now, of
	})
}
