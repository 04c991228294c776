// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/poller"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store/files"
	"github.com/carverauto/serviceradar-profiler/store/queue"
	"github.com/carverauto/serviceradar-profiler/store/sqlite"
)

// service is the program at work.
type service struct {
	*daemon.Service
	settings *settings
	reached  *reached
	core     *serviceradar.CoreClient // nil: there is none

	dir   *daemon.Directory
	store *sqlite.Store
	queue *queue.Queue // of reports to core

	poller   *poller.Poller
	gate     *access.Gate // before poller
	checking *checking    // nil: there is nothing to check
	server   *grpc.Server
}

// serve runs the service until ctx is over.
func serve(ctx context.Context, call *daemon.Call) (err error) {
	settings, err := load(call.Path)
	if err != nil {
		return err
	}
	s := &service{Service: call.Begin("profiler-poller", &settings.Logging, &settings.source), settings: settings}
	defer s.End()
	if err := s.Open(settings.reach(), &settings.source, s.measure); err != nil {
		return err
	}
	s.Notes(settings.notes())
	s.Unprivileged()
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(ctx); err != nil {
		return err
	}
	if err := s.connect(); err != nil {
		return err
	}
	s.register()
	return s.Run(ctx, &daemon.Work{
		Server:   s.server,
		Status:   s.status,
		Answers:  s.answers,
		Reload:   s.reload,
		Stop:     s.stop,
		Stopping: "sessions go on on the hosts, and are collected when this program is back",
		About:    []any{"hosts", len(settings.Agents), "core", settings.CoreAddress, "data_dir", settings.DataDir},
	})
}

// open opens what is kept in the directory, and goes on with it.
func (s *service) open(ctx context.Context) (err error) {
	c := s.settings
	if s.dir, err = daemon.OpenDirectory(c.DataDir); err != nil {
		return err
	}
	if s.store, err = sqlite.Open(ctx, filepath.Join(c.DataDir, "store.db")); err != nil {
		return err
	}
	if s.queue, err = queue.Open(filepath.Join(c.DataDir, "reports"), queue.Limits{MaxBytes: c.Reports.MaxBytes, MaxItems: c.Reports.MaxItems}); err != nil {
		return err
	}
	profiles, err := files.Open(filepath.Join(c.DataDir, "results"), files.Limits{MaxBytes: c.Limits.MaxResultBytes})
	if err != nil {
		return err
	}
	ids, err := newIdentities(c)
	if err != nil {
		return err
	}
	if s.reached, err = newReached(c, ids, slender(s.Tracing), nil); err != nil {
		return err
	}
	s.poller, err = poller.New(poller.Options{Store: s.store, Files: profiles, Hosts: s.reached.hosts(c), Limits: c.Limits, Spool: c.DataDir, Log: s.Log,
		Changed: func(now session.Session) { s.Metrics.FleetSession(&now) }})
	return err
}

// connect makes what is before the poller, and what goes on beside it.
func (s *service) connect() (err error) {
	c := s.settings
	if s.gate, err = access.NewFleet(s.Tracing.Fleet(s.poller), &c.Access, s.Audit); err != nil {
		return err
	}
	if c.CoreAddress != "" {
		if s.core, err = serviceradar.DialCore(c.CoreAddress, s.reached.ids.core); err != nil {
			return err
		}
	}
	return s.beginChecking(c, s.reached)
}

// register puts all that is served onto the server.
func (s *service) register() {
	s.server = s.NewServer(remote.ServerOptions(s.Log))
	remote.NewServer(s.Metrics.Runner(s.gate), 0).Register(s.server)
	serviceradar.RegisterPoller(s.server, s.settings.ServiceName, func() bool { return s.poller.Health().Healthy })
}

// status is what the service is doing, in words.
func (s *service) status() string {
	h := s.poller.Health()
	status := fmt.Sprintf("%s; sessions: %d running, %d waiting", s.ListeningAt(), h.Running, h.Queued)
	if !h.Healthy {
		status += "; no new ones: " + h.Reason
	}
	return status
}

// answers asks the service as a client would.
func (s *service) answers(ctx context.Context) error {
	if _, err := s.poller.List(ctx, session.Filter{States: []session.State{session.StateRunning}}); err != nil && s.poller.Health().Healthy {
		return fmt.Errorf("list the sessions: %w", err)
	}
	return nil // a disk that is full does not get larger by another start
}

// stopTime is for what is being written down.
const stopTime = 10 * time.Second

// stop ends gracefully: what is known is written down already.
func (s *service) stop() {
	s.endChecking()
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := s.poller.Close(ctx); err != nil {
		s.Log.Warn("the poller did not end in time", "error", err.Error())
	}
}

// close closes what was opened.
func (s *service) close() error {
	s.endChecking()
	var all []error
	if s.core != nil {
		all = append(all, s.core.Close())
	}
	if s.reached != nil {
		all = append(all, s.reached.closeBut(nil))
	}
	if s.store != nil {
		all = append(all, s.store.Close())
	}
	if s.dir != nil {
		all = append(all, s.dir.Close())
	}
	return errors.Join(all...)
}
