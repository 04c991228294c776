// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/carverauto/serviceradar-profiler/agent"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/metrics"
	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/version"
)

// measure makes the metrics of the service. What they are of is there when they
// are first read.
func (s *service) measure() *metrics.Metrics {
	return metrics.NewAgent(version.String(), serviceradar.NextMethods(), func() (metrics.State, metrics.Agent) {
		of, profiler := s.agent.Stats(), s.agent.Status()
		now := metrics.State{Healthy: s.agent.Health().Healthy, Running: of.Running, Pending: of.Pending, Connections: s.Connections.Open(),
			LogLinesLost: s.Lines.Lost(), CertExpires: auth.Expires(s.Creds)}
		return now, metrics.Agent{ProfilerReady: profiler.State == agent.StateReady, ProfilerSince: profiler.Since, OutOfSight: of.OutOfSight}
	})
}
