// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"runtime/debug"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/agent"
	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/version"
)

// service is the program at work.
type service struct {
	*daemon.Service
	settings *settings
	ids      *identities
	client   *remote.Client // of the profiler
	next     *remote.Next   // nil: there is none
	agent    *agent.Agent   // before client
	gate     *access.Gate   // before agent
	server   *grpc.Server
	stopping atomic.Bool
}

// serve runs the service until ctx is over.
func serve(ctx context.Context, call *daemon.Call) error {
	settings, err := load(call.Path)
	if err != nil {
		return err
	}
	s := &service{Service: call.Begin("profiler-agent", &settings.Logging, &settings.source), settings: settings}
	defer s.End()
	if err = s.Open(settings.reach(), &settings.source, s.measure); err != nil {
		return err
	}
	if s.ids, err = settings.identities(); err != nil {
		return err
	}
	s.Notes(settings.notes())
	s.Unprivileged()
	debug.SetGCPercent(garbagePercent)
	if err := s.connect(); err != nil {
		return err
	}
	defer s.disconnect()
	s.register()
	return s.Run(ctx, &daemon.Work{
		Server:   s.server,
		Status:   s.status,
		Reload:   s.reload,
		Stop:     func() { s.stopping.Store(true) },
		Stopping: "calls end, sessions go on",
		About:    []any{"profiler", settings.ProfilerAddress, "next_agent", settings.NextAgentAddress},
	})
}

// This program is to be small on each host: what passes through it waits at the
// profiler, which is near, and not here; and garbage is not left lying about.
const (
	window         = 128 << 10 // of one profile on its way, at most
	garbagePercent = 40        // of what is in use; Go's own is 100
)

// connect makes what is called. Nothing is connected to yet.
func (s *service) connect() (err error) {
	traces := grpc.WithStatsHandler(s.Tracing.Outgoing())
	if s.client, err = remote.Dial(s.settings.ProfilerAddress, s.ids.profiler, grpc.WithStaticStreamWindowSize(window), traces); err != nil {
		return err
	}
	if s.settings.NextAgentAddress != "" {
		if s.next, err = remote.DialNext(s.settings.NextAgentAddress, s.ids.next, traces); err != nil {
			return err
		}
		s.next.Answered = s.Metrics.HandedOn
	}
	s.agent, err = agent.New(s.client, s.client.Report, agent.Options{Address: s.settings.ProfilerAddress, Limits: s.settings.Limits, Log: s.Log,
		Changed: func(now session.Session) { s.Metrics.AgentSession(&now) }})
	if err != nil {
		return err
	}
	s.gate, err = access.New(s.agent, &s.settings.Access, s.Audit)
	return err
}

// register puts all that is served onto the server.
func (s *service) register() {
	s.server = s.NewServer(remote.AgentOptions(s.Log, s.next))
	runner := s.Metrics.Runner(s.gate)
	remote.NewServer(runner, 0).Register(s.server)
	serviceradar.RegisterAgent(s.server, runner, serviceradar.About{
		Host: s.Host, HostIP: s.settings.hostIP(), Version: version.String(), AgentID: s.settings.AgentID,
		Limits: s.agent.RemoteLimits, Health: s.agent.Health, Profiler: s.agent.Profiler,
		Serving: func() bool { return !s.stopping.Load() },
	}, s.next)
}

func (s *service) disconnect() {
	s.agent.Close()
	for _, c := range []interface{ Close() error }{s.client, s.next} {
		if n, ok := c.(*remote.Next); ok && n == nil {
			continue
		}
		if err := c.Close(); err != nil {
			s.Log.Warn("a connection could not be closed", "error", err.Error())
		}
	}
}

// status is what the service is doing, in words.
func (s *service) status() string {
	status := s.ListeningAt()
	if p := s.agent.Profiler(); p.Reason != "" {
		status += "; no profiler: " + p.Reason
	}
	return status
}
