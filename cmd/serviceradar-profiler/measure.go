// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/metrics"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/version"
)

// measure makes the metrics of the service. Its sessions and its server are
// there when they are first read.
func (s *service) measure() *metrics.Metrics {
	return metrics.New(version.String(), func() metrics.State {
		h := s.sessions.Health()
		now := metrics.State{Healthy: h.Healthy, Running: h.Running, Pending: h.Queued, Connections: s.Connections.Open(),
			LogLinesLost: s.Lines.Lost(), CertExpires: auth.Expires(s.Creds), KernelMemory: -1}
		now.Kept, now.KeptBytes = s.sessions.Kept()
		if n, err := process.KernelMemory(); err == nil { // it cannot where /proc does not show it
			now.KernelMemory = n
		}
		return now
	})
}
