// SPDX-License-Identifier: Apache-2.0

// Package serviceradar is what ServiceRadar's own services and ours say to one
// another: the checks that its pollers ask of agents and its agents of checkers,
// its first profiler's service, and what its core is told. It serves any
// session.Runner to them, and asks them as they ask one another.
//
// The messages are ServiceRadar's, by its names: who has them in his program
// already imports package remote alone.
package serviceradar

import (
	"cmp"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	legacy "github.com/carverauto/serviceradar-profiler/proto/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// About is what ServiceRadar's interfaces tell of a service besides its
// sessions.
type About struct {
	Host, HostIP string
	Version      string
	Limits       func() remote.Limits // as they are now
	Health       func() remote.Health // of sessions; must answer at once

	// Of agents alone.
	AgentID  string                       // by which ServiceRadar knows the agent
	Profiler func() remote.ProfilerStatus // of the profiler behind it; must answer at once
	Serving  func() bool                  // whether the agent itself serves, though it may have no profiler
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
func RegisterAgent(s *grpc.Server, runner session.Runner, about About, next *remote.Next) {
	legacy.RegisterProfilerServiceServer(s, &legacyServer{runner: runner, about: about})
	checks := newMonitoringServer(runner, about, "profiler")
	s.RegisterService((&fork{checks, next}).describe(), checks)
	registerHealth(s, healthNames, about.serves)
}

// RegisterPoller adds to a server what a poller of ServiceRadar answers: health,
// as a whole and by the name that its configuration gives it, and reflection.
// Healthy must answer at once.
func RegisterPoller(s *grpc.Server, name string, healthy func() bool) {
	registerHealth(s, []string{"", name, remote.SessionService, remote.FleetService},
		func(string) bool { return healthy() })
}

func registerHealth(s *grpc.Server, names []string, serves func(string) bool) {
	grpc_health_v1.RegisterHealthServer(s, &healthServer{names: names, serves: serves})
	reflection.Register(s)
}

// limits are those of this moment, with what is left out filled in.
func (a *About) limits() remote.Limits {
	l := a.Limits()
	l.MaxSessionDurationSeconds = cmp.Or(l.MaxSessionDurationSeconds, 300)
	l.MaxFrequencyHz = cmp.Or(l.MaxFrequencyHz, 1000)
	l.ChunkSizeBytes = cmp.Or(l.ChunkSizeBytes, 64<<10)
	return l
}

// NextMethods are the methods that each agent behind an agent has, as far as
// they are known here.
func NextMethods() (methods []string) {
	service := monitoring.AgentService_ServiceDesc
	for _, m := range service.Methods {
		methods = append(methods, "/"+service.ServiceName+"/"+m.MethodName)
	}
	for _, s := range service.Streams {
		methods = append(methods, "/"+service.ServiceName+"/"+s.StreamName)
	}
	return methods
}
