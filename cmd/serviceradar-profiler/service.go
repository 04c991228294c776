// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/metrics"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
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
	log, audit  *slog.Logger
	path        string // of the configuration
	settings    *settings
	creds       credentials.TransportCredentials
	listener    net.Listener
	recorder    *profiler.Recorder
	sessions    *profiler.Sessions
	gate        *access.Gate // before sessions
	server      *grpc.Server
	connections connections
	manager     *daemon.Manager
	metrics     *metrics.Metrics
	scrapes     *metrics.Server
	tracing     *tracing.Tracing
}

// serve runs the service until ctx is over.
func serve(ctx context.Context, path string, out daemon.Streams) error {
	reload := make(chan os.Signal, 1) // from the beginning: by default the signal ends a program
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	settings, err := load(path)
	if err != nil {
		return err
	}
	lines := daemon.NewOutlet(settings.Logging.Stream(out))
	defer lines.Close()
	log, audit := settings.Logging.Loggers(lines, "profiler")
	lines.Recovered = func(n uint64, why error) {
		log.Error("lines of the log were lost", "lines", n, "error", fmt.Sprint(why))
	}
	if len(settings.source.Variables) > 0 {
		log.Info("settings come from the environment", "variables", settings.source.Variables)
	}
	s := &service{path: path, settings: settings, log: log, audit: audit}
	if settings.Metrics.ListenAddr != "" {
		s.metrics = s.measure(lines)
	}
	if err := s.listen(); err != nil {
		return err
	}
	defer s.listener.Close()
	defer s.scrapes.Close()
	if s.manager, err = daemon.WhoStarted(log); err != nil {
		return err
	}
	confine(log)
	if err := s.prepare(); err != nil {
		return err
	}
	defer s.recorder.Close()
	s.connections.failed = s.metrics.RPCFailed
	options := append(remote.ServerOptions(log), grpc.Creds(&counted{s.creds, s.metrics.ConnectionRefused}), grpc.StatsHandler(&s.connections))
	if calls := s.tracing.Calls(); calls != nil {
		options = append(options, grpc.StatsHandler(calls))
	}
	s.server = grpc.NewServer(options...)
	if err := s.register(); err != nil {
		return err
	}
	return s.run(ctx, reload)
}

// listen finds the certificates and opens the ports.
func (s *service) listen() (err error) {
	c := s.settings
	if s.creds, err = c.Security.ServerCredentials(c.ListenAddr, s.log); err != nil {
		return c.source.Wrong("security", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find this host's name: %w", err)
	}
	if s.tracing, err = tracing.Start(&c.Tracing, tracing.About{Name: program, Version: version.String(), Host: host}, s.log); err != nil {
		return c.source.Wrong("tracing", err)
	}
	if s.listener, err = daemon.Listen(c.ListenAddr); err != nil {
		return err
	}
	if s.scrapes, err = metrics.Listen(&c.Metrics, auth.HTTPS(s.creds)); err != nil {
		s.listener.Close()
	}
	return err
}

// run serves until ctx is over.
func (s *service) run(ctx context.Context, reload <-chan os.Signal) error {
	failed := make(chan error, 1)
	go func() { failed <- s.server.Serve(remote.Bounded(s.listener, s.log)) }()
	s.log.Info("listening", "address", s.listener.Addr().String(), "version", version.String(), "pid", os.Getpid())
	s.scrapes.Serve(s.metrics, s.log)
	s.manager.Ready(s.listeningAt())
	go s.manager.Watch(ctx, s.answers)
	for {
		select {
		case <-ctx.Done():
			return s.stop()
		case <-reload:
			s.manager.Reloading()
			s.metrics.Reloaded(s.reload())
			s.manager.Ready(s.listeningAt())
		case err := <-failed:
			return fmt.Errorf("%w at %s: %w", daemon.ErrCannotServe, s.listener.Addr(), err)
		}
	}
}

// prepare gets ready to sample. A kernel that refuses is no reason to end: who
// asks for a session is told why there is none.
func (s *service) prepare() (err error) {
	s.recorder = profiler.NewRecorder(keptTables, keptNames)
	if s.sessions, err = profiler.NewSessions(s.recorder, s.settings.Profiler); err != nil {
		return err
	}
	s.sessions.Log = s.log
	s.sessions.Changed = func(c profiler.Change) { s.metrics.Session(&c.Session, c.Turn, c.Meta) }
	if s.gate, err = access.New(s.tracing.Runner(s.sessions), &s.settings.Access, s.audit); err != nil {
		return err
	}
	if s.settings.Access.Empty() {
		s.log.Warn(nobodyMay)
	}
	if err := s.sessions.Prepare(); err != nil {
		s.log.Error("this host cannot run sessions for now; each request is answered with the reason", "error", err.Error())
	}
	return nil
}

// register puts both interfaces onto the server: ours and ServiceRadar's.
func (s *service) register() error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find this host's name: %w", err)
	}
	runner := s.metrics.Runner(s.gate)
	remote.NewServer(runner, s.settings.Profiler.ChunkSizeBytes).Register(s.server)
	remote.RegisterServiceRadar(s.server, runner, remote.About{
		Host: host, HostIP: daemon.HostIP(s.settings.ListenAddr, s.settings.HostIP), Version: version.String(),
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
	namesTime  = 20 * time.Second       // for the names of sessions that end by the stop
	alone      = 2 * time.Second        // without any connection nobody will come any more
	lookEvery  = 100 * time.Millisecond // for that
	streamTime = 2 * time.Second        // for what is still being sent at the end
)

// stop ends gracefully: no new sessions, the running ones end, and their
// results are handed out for the grace period.
func (s *service) stop() error {
	s.manager.Stopping("stopping: sessions end, results are handed out")
	s.log.Info("stopping: sessions end, results can be fetched for the grace period", "grace_period_seconds", s.settings.Profiler.GracePeriodSeconds)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s.settings.Profiler.GracePeriodSeconds)*time.Second+namesTime)
	defer cancel()
	go s.connections.whileAny(ctx, cancel)
	err := s.sessions.Close(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		s.log.Warn("sessions did not end in time", "error", err.Error())
	}
	hard := time.AfterFunc(streamTime, s.server.Stop) // watchers of health never go by themselves
	s.server.GracefulStop()
	hard.Stop()
	last, cancel := context.WithTimeout(context.Background(), streamTime)
	defer cancel()
	s.tracing.Close(last)
	s.log.Info("stopped")
	return nil
}
