// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"cmp"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	legacy "github.com/carverauto/serviceradar-profiler/proto/profiler"
	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

// About is what ServiceRadar's interfaces tell of a service besides its
// sessions.
type About struct {
	Host, HostIP string
	Version      string
	Limits       func() Limits // as they are now
	Health       func() Health // of sessions; must answer at once

	// Of agents alone.
	AgentID  string                // by which ServiceRadar knows the agent
	Profiler func() ProfilerStatus // of the profiler behind it; must answer at once
	Serving  func() bool           // whether the agent itself serves, though it may have no profiler
}

// ProfilerStatus is what an agent tells of the profiler behind it.
type ProfilerStatus struct {
	Address string    `json:"address"`
	State   string    `json:"state"`          // ready, away, or unknown before it was first asked
	Since   time.Time `json:"since,omitzero"` // since when it is so
	Code    string    `json:"code,omitempty"` // why it is away
	Reason  string    `json:"reason,omitempty"`
	Version string    `json:"version,omitempty"` // when it was last there
}

// Limits are those of the configuration that ServiceRadar's interfaces enforce
// or tell. Duration, frequency and chunk size have the first profiler's values
// where they are zero.
type Limits struct {
	MaxConcurrentSessions     int               `json:"max_concurrent_sessions"`
	MaxQueuedSessions         int               `json:"max_queued_sessions"`
	MaxSessionDurationSeconds int               `json:"max_session_duration_seconds"`
	MaxFrequencyHz            profile.Frequency `json:"max_frequency_hz"`
	ChunkSizeBytes            int               `json:"chunk_size_bytes"`
}

// Health is how a service is at this moment.
type Health struct {
	Healthy         bool   // it takes new sessions
	Reason          string // why it does not
	Running, Queued int    // sessions
}

// RegisterServiceRadar adds to a server what ServiceRadar's clients, pollers
// and agents speak: profiler.ProfilerService, monitoring.AgentService, health
// and reflection. How they behave is in docs/serviceradar.md.
func RegisterServiceRadar(s *grpc.Server, runner session.Runner, about About) {
	legacy.RegisterProfilerServiceServer(s, &legacyServer{runner: runner, about: about})
	monitoring.RegisterAgentServiceServer(s, newMonitoringServer(runner, about, "grpc", "profiler", ""))
	registerHealth(s, healthNames, about.serves)
}

// RegisterAgent adds to a server what an agent of ServiceRadar answers: checks
// of type profiler by itself, all else as the next agent does, or as one does
// that has no such check where next is nil. The server must have the options of
// AgentOptions.
func RegisterAgent(s *grpc.Server, runner session.Runner, about About, next *Next) {
	legacy.RegisterProfilerServiceServer(s, &legacyServer{runner: runner, about: about})
	checks := newMonitoringServer(runner, about, "profiler")
	s.RegisterService((&fork{checks, next}).describe(), checks)
	registerHealth(s, healthNames, about.serves)
}

// RegisterPoller adds to a server what a poller of ServiceRadar answers: health,
// as a whole and by the name that its configuration gives it, and reflection.
// Healthy must answer at once.
func RegisterPoller(s *grpc.Server, name string, healthy func() bool) {
	registerHealth(s, []string{"", name, sessionv1.SessionService_ServiceDesc.ServiceName, sessionv1.FleetService_ServiceDesc.ServiceName},
		func(string) bool { return healthy() })
}

func registerHealth(s *grpc.Server, names []string, serves func(string) bool) {
	grpc_health_v1.RegisterHealthServer(s, &healthServer{names: names, serves: serves})
	reflection.Register(s)
}

// limits are those of this moment, with what is left out filled in.
func (a *About) limits() Limits {
	l := a.Limits()
	l.MaxSessionDurationSeconds = cmp.Or(l.MaxSessionDurationSeconds, 300)
	l.MaxFrequencyHz = cmp.Or(l.MaxFrequencyHz, 1000)
	l.ChunkSizeBytes = cmp.Or(l.ChunkSizeBytes, 64<<10)
	return l
}
