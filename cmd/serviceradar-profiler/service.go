// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/version"
)

// What is kept in memory from session to session, so that the next one on the
// same programs has it at once. Tables are in the kernel too, where those of
// large programs stay longer than here.
const (
	keptTables = 2 << 20 // bytes of unwind tables
	keptNames  = 4 << 20 // bytes of names
)

// garbagePercent is how much garbage may lie about, of what is in use; Go's own
// is 100. Hosts run this for one session a day, and memory is there all day.
const garbagePercent = 50

// service is the program at work.
type service struct {
	*daemon.Service
	settings *settings
	recorder *profiler.Recorder
	sessions *profiler.Sessions
	gate     *access.Gate // before this host and its sessions
	server   *grpc.Server
}

// serve runs the service until ctx is over.
func serve(ctx context.Context, call *daemon.Call) error {
	settings, err := load(call.Path)
	if err != nil {
		return err
	}
	debug.SetGCPercent(garbagePercent)
	s := &service{Service: call.Begin("profiler", &settings.Logging, &settings.source), settings: settings}
	defer s.End()
	if err := s.Open(settings.reach(), &settings.source, s.measure); err != nil {
		return err
	}
	s.Notes(settings.notes())
	confine(s.Log)
	if err := s.prepare(); err != nil {
		return err
	}
	defer s.recorder.Close()
	s.server = s.NewServer(remote.ServerOptions(s.Log))
	s.register()
	return s.Run(ctx, &daemon.Work{
		Server:   s.server,
		Status:   s.status,
		Answers:  s.answers,
		Reload:   s.reload,
		Stop:     s.stop,
		Stopping: "sessions end, results can be fetched for the grace period",
	})
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
	s.sessions.Resolve = host.Resolve
	s.sessions.Changed = func(c profiler.Change) { s.Metrics.Session(&c.Session, c.Turn, c.Meta) }
	here := host.New(s.Tracing.Runner(s.sessions), host.Options{Version: version.String(), Requested: s.sessions.Requested, Check: s.sessions.Check,
		Health: func() host.Health { return host.Health(s.sessions.Health()) }})
	if s.gate, err = access.New(here, &s.settings.Access, s.Audit); err != nil {
		return err
	}
	if err := s.sessions.Prepare(); err != nil {
		s.Log.Error("this host cannot run sessions for now; each request is answered with the reason", "error", err.Error())
	}
	return nil
}

// register puts both interfaces onto the server: ours and ServiceRadar's.
func (s *service) register() {
	runner := s.Metrics.Runner(s.gate)
	remote.NewServer(runner, s.settings.Profiler.ChunkSizeBytes).Register(s.server)
	serviceradar.RegisterServiceRadar(s.server, runner, serviceradar.About{
		Host: s.Host, HostIP: daemon.HostIP(s.settings.ListenAddr, s.settings.HostIP), Version: version.String(),
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
}

// namesTime is for the names of sessions that end by the stop.
const namesTime = 20 * time.Second

// stop ends gracefully: no new sessions, the running ones end, and their
// results are handed out for the grace period.
func (s *service) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.settings.Profiler.GracePeriodSeconds)*time.Second+namesTime)
	defer cancel()
	go s.Connections.WhileAny(ctx, cancel)
	err := s.sessions.Close(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		s.Log.Warn("sessions did not end in time", "error", err.Error())
	}
}
