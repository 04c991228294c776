// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/agent"
	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/privilege"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/version"
)

// service is the program at work.
type service struct {
	log, audit *slog.Logger
	path       string // of the configuration
	settings   *settings
	creds      identities
	listener   net.Listener
	client     *remote.Client // of the profiler
	next       *remote.Next   // nil: there is none
	agent      *agent.Agent   // before client
	gate       *access.Gate   // before agent
	server     *grpc.Server
	stopping   atomic.Bool
	manager    *daemon.Manager
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
	log, audit := settings.Logging.Loggers(lines, "profiler-agent")
	lines.Recovered = func(n uint64, why error) {
		log.Error("lines of the log were lost", "lines", n, "error", fmt.Sprint(why))
	}
	if len(settings.source.Variables) > 0 {
		log.Info("settings come from the environment", "variables", settings.source.Variables)
	}
	for _, note := range settings.notes() {
		log.Warn("the configuration is good, " + note)
	}
	s := &service{path: path, settings: settings, log: log, audit: audit}
	if s.creds, err = settings.credentials(log); err != nil {
		return err
	}
	if s.listener, err = daemon.Listen(settings.ListenAddr); err != nil {
		return err
	}
	defer s.listener.Close()
	if s.manager, err = daemon.WhoStarted(log); err != nil {
		return err
	}
	if _, err := privilege.Keep(nil); err != nil {
		log.Warn("this program needs no privilege, and could not give up those that it has", "error", err.Error())
	}
	debug.SetGCPercent(garbagePercent)
	if err := s.connect(); err != nil {
		return err
	}
	defer s.disconnect()
	return s.run(ctx, reload)
}

// This program is to be small on each host: what passes through it waits at the
// profiler, which is near, and not here; and garbage is not left lying about.
const (
	window         = 128 << 10 // of one profile on its way, at most
	garbagePercent = 40        // of what is in use; Go's own is 100
)

// connect makes what is called. Nothing is connected to yet.
func (s *service) connect() (err error) {
	if s.client, err = remote.Dial(s.settings.ProfilerAddress, s.creds.profiler, grpc.WithStaticStreamWindowSize(window)); err != nil {
		return err
	}
	if s.settings.NextAgentAddress != "" {
		if s.next, err = remote.DialNext(s.settings.NextAgentAddress, s.creds.next); err != nil {
			return err
		}
	}
	s.agent, err = agent.New(s.client, s.client.Report, agent.Options{Address: s.settings.ProfilerAddress, Limits: s.settings.Limits, Log: s.log})
	if err != nil {
		return err
	}
	if s.gate, err = access.New(s.agent, &s.settings.Access, s.audit); err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find this host's name: %w", err)
	}
	s.server = grpc.NewServer(append(remote.AgentOptions(s.log, s.next), grpc.Creds(s.creds.server))...)
	remote.NewServer(s.gate, 0).Register(s.server)
	remote.RegisterAgent(s.server, s.gate, remote.About{
		Host: host, HostIP: s.settings.hostIP(), Version: version.String(), AgentID: s.settings.AgentID,
		Limits: s.agent.RemoteLimits, Health: s.agent.Health, Profiler: s.agent.Profiler,
		Serving: func() bool { return !s.stopping.Load() },
	}, s.next)
	return nil
}

func (s *service) disconnect() {
	s.agent.Close()
	for _, c := range []interface{ Close() error }{s.client, s.next} {
		if n, ok := c.(*remote.Next); ok && n == nil {
			continue
		}
		if err := c.Close(); err != nil {
			s.log.Warn("a connection could not be closed", "error", err.Error())
		}
	}
}

// run serves, reads the configuration again when it is told to, and ends.
func (s *service) run(ctx context.Context, reload <-chan os.Signal) error {
	failed := make(chan error, 1)
	go func() { failed <- s.server.Serve(remote.Bounded(s.listener, s.log)) }()
	s.log.Info("listening", "address", s.listener.Addr().String(), "version", version.String(), "pid", os.Getpid(),
		"profiler", s.settings.ProfilerAddress, "next_agent", s.settings.NextAgentAddress)
	s.manager.Ready(s.status())
	go s.manager.Watch(ctx, s.answers)
	for {
		select {
		case <-ctx.Done():
			s.stop()
			return nil
		case <-reload:
			s.manager.Reloading()
			s.reload()
			s.manager.Ready(s.status())
		case err := <-failed:
			return fmt.Errorf("%w at %s: %w", daemon.ErrCannotServe, s.listener.Addr(), err)
		}
	}
}

// status is what the service is doing, in words.
func (s *service) status() string {
	status := "listening at " + s.listener.Addr().String()
	if p := s.agent.Profiler(); p.Reason != "" {
		status += "; no profiler: " + p.Reason
	}
	return status
}

// answers asks the service for its health as a client would.
func (s *service) answers(ctx context.Context) (string, error) {
	return s.status(), daemon.CallHealth(ctx, s.server)
}

// streamTime is for what is still being sent at the end. Clients go on with it
// when they find another agent, or this one again.
const streamTime = 2 * time.Second

// stop ends gracefully. Sessions go on in the profiler.
func (s *service) stop() {
	s.manager.Stopping("stopping: calls end, sessions go on")
	s.log.Info("stopping: calls end, sessions go on")
	s.stopping.Store(true)
	hard := time.AfterFunc(streamTime, s.server.Stop) // watchers of health never go by themselves
	s.server.GracefulStop()
	hard.Stop()
	s.log.Info("stopped")
}
