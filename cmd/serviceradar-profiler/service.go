// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/metrics"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/tracing"
	"github.com/carverauto/serviceradar-profiler/version"
)

// What is kept in memory from session to session, so that the next one on the
// same programs has it at once.
const (
	keptTables = 8 << 20 // bytes of unwind tables
	keptNames  = 4 << 20 // bytes of names
)

// service is the program at work.
type service struct {
	*daemon.Service
	path        string // of the configuration
	settings    *settings
	creds       credentials.TransportCredentials
	recorder    *profiler.Recorder
	sessions    *profiler.Sessions
	gate        *access.Gate // before this host and its sessions
	server      *grpc.Server
	connections remote.Connections
	metrics     *metrics.Metrics
	scrapes     *metrics.Server
	tracing     *tracing.Tracing
}

// goodBut is before what may be otherwise than the configuration seems.
const goodBut = "the configuration is good, "

// serve runs the service until ctx is over.
func serve(ctx context.Context, call *daemon.Call) error {
	settings, err := load(call.Path)
	if err != nil {
		return err
	}
	s := &service{Service: call.Begin("profiler", &settings.Logging, &settings.source), path: call.Path, settings: settings}
	defer s.End()
	if settings.Metrics.ListenAddr != "" {
		s.metrics = s.measure()
	}
	if err := s.listen(); err != nil {
		return err
	}
	defer s.scrapes.Close()
	defer s.sendSpans()
	confine(s.Log)
	if err := s.prepare(); err != nil {
		return err
	}
	defer s.recorder.Close()
	s.connections.Failed = s.metrics.RPCFailed
	options := append(remote.ServerOptions(s.Log), grpc.Creds(&remote.Counted{TransportCredentials: s.creds, Refused: s.metrics.ConnectionRefused}), grpc.StatsHandler(&s.connections))
	if calls := s.tracing.Calls(); calls != nil {
		options = append(options, grpc.StatsHandler(calls))
	}
	s.server = grpc.NewServer(options...)
	if err := s.register(); err != nil {
		return err
	}
	s.scrapes.Serve(s.metrics, s.Log)
	return s.Run(ctx, &daemon.Work{
		Server:   s.server,
		Within:   func(l net.Listener) net.Listener { return remote.Bounded(l, s.Log) },
		Status:   s.status,
		Answers:  s.answers,
		Reload:   func() { s.metrics.Reloaded(s.reload()) },
		Stop:     s.stop,
		Stopping: "sessions end, results can be fetched for the grace period",
	})
}

// listen finds the certificates and opens the ports.
func (s *service) listen() (err error) {
	c := s.settings
	if s.creds, err = c.Security.ServerCredentials(c.ListenAddr, s.Log); err != nil {
		return c.source.Wrong("security", err)
	}
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find this host's name: %w", err)
	}
	if s.tracing, err = tracing.Start(&c.Tracing, tracing.About{Name: name, Version: version.String(), Host: hostname}, s.Log); err != nil {
		return c.source.Wrong("tracing", err)
	}
	if err = s.Listen(c.ListenAddr); err != nil {
		return err
	}
	s.scrapes, err = metrics.Listen(&c.Metrics, auth.HTTPS(s.creds))
	return err
}

// status is what the service is doing, in words.
func (s *service) status() string {
	h := s.sessions.Health()
	status := fmt.Sprintf("%s; sessions: %d running, %d waiting", s.ListeningAt(), h.Running, h.Queued)
	if !h.Healthy {
		status += "; no new ones: " + h.Reason
	}
	return status
}

// answers asks the service as a client would.
func (s *service) answers(ctx context.Context) error {
	if _, err := s.sessions.List(ctx, session.Filter{}); err != nil {
		return fmt.Errorf("list the sessions: %w", err)
	}
	return nil
}

// prepare gets ready to sample. A kernel that refuses is no reason to end: who
// asks for a session is told why there is none.
func (s *service) prepare() (err error) {
	s.recorder = profiler.NewRecorder(keptTables, keptNames)
	if s.sessions, err = profiler.NewSessions(s.recorder, s.settings.Profiler); err != nil {
		return err
	}
	s.sessions.Log = s.Log
	s.sessions.Changed = func(c profiler.Change) { s.metrics.Session(&c.Session, c.Turn, c.Meta) }
	here := host.New(s.tracing.Runner(s.sessions), host.Options{Version: version.String(), Requested: s.sessions.Requested, Check: s.sessions.Check,
		Health: func() host.Health { return host.Health(s.sessions.Health()) }})
	if s.gate, err = access.New(here, &s.settings.Access, s.Audit); err != nil {
		return err
	}
	if s.settings.Access.Empty() {
		s.Log.Warn(goodBut + daemon.NobodyMay)
	}
	if err := s.sessions.Prepare(); err != nil {
		s.Log.Error("this host cannot run sessions for now; each request is answered with the reason", "error", err.Error())
	}
	return nil
}

// register puts both interfaces onto the server: ours and ServiceRadar's.
func (s *service) register() error {
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find this host's name: %w", err)
	}
	runner := s.metrics.Runner(s.gate)
	remote.NewServer(runner, s.settings.Profiler.ChunkSizeBytes).Register(s.server)
	remote.RegisterServiceRadar(s.server, runner, remote.About{
		Host: hostname, HostIP: daemon.HostIP(s.settings.ListenAddr, s.settings.HostIP), Version: version.String(),
		Limits: func() remote.Limits {
			limits := s.sessions.Limits()
			return remote.Limits{
				MaxConcurrentSessions:     limits.MaxConcurrentSessions,
				MaxQueuedSessions:         limits.MaxQueuedSessions,
				MaxSessionDurationSeconds: limits.MaxSessionDurationSeconds,
				MaxFrequencyHz:            limits.MaxFrequencyHz,
				ChunkSizeBytes:            limits.ChunkSizeBytes,
			}
		},
		Health: func() remote.Health { return remote.Health(s.sessions.Health()) },
	})
	return nil
}

const (
	namesTime = 20 * time.Second // for the names of sessions that end by the stop
	spansTime = 2 * time.Second  // for what tracing has not sent yet
)

// sendSpans sends those of the last calls.
func (s *service) sendSpans() {
	ctx, cancel := context.WithTimeout(context.Background(), spansTime)
	defer cancel()
	s.tracing.Close(ctx)
}

// stop ends gracefully: no new sessions, the running ones end, and their
// results are handed out for the grace period.
func (s *service) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.settings.Profiler.GracePeriodSeconds)*time.Second+namesTime)
	defer cancel()
	go s.connections.WhileAny(ctx, cancel)
	err := s.sessions.Close(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		s.Log.Warn("sessions did not end in time", "error", err.Error())
	}
}
