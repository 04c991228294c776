// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/version"
)

// Service is a program at work: its log, its ports, and the signals to which it
// listens.
type Service struct {
	Path       string // of the configuration
	Log, Audit *slog.Logger
	Lines      *Outlet // of both
	Ports

	listener net.Listener
	manager  *Manager
	hangup   <-chan os.Signal
}

// Begin opens the log.
func (c *Call) Begin(component string, logging *Logging, source *Source) *Service {
	s := &Service{Lines: NewOutlet(logging.Stream(c.Out)), Path: c.Path, hangup: c.hangup}
	s.Log, s.Audit = logging.Loggers(s.Lines, component)
	s.Lines.Recovered = func(n uint64, why error) {
		s.Log.Error("lines of the log were lost", "lines", n, "error", fmt.Sprint(why))
	}
	if len(source.Variables) > 0 {
		s.Log.Info("settings come from the environment", "variables", source.Variables)
	}
	return s
}

// Notes tells of what is good in a configuration, and yet may be otherwise than
// it seems.
func (s *Service) Notes(notes []string) {
	for _, note := range notes {
		s.Log.Warn("the configuration is good, but " + note)
	}
}

// listen opens the port, and finds who wants to hear of the service.
func (s *Service) listen(address string) (err error) {
	if s.manager, err = WhoStarted(s.Log); err != nil {
		return err
	}
	s.listener, err = listen(address)
	return err
}

// End closes what is open, the log last.
func (s *Service) End() {
	s.Ports.close()
	if s.listener != nil {
		s.listener.Close() // the server has closed it, mostly
	}
	s.Lines.Close()
}

// ListeningAt is where, in words.
func (s *Service) ListeningAt() string { return "listening at " + s.listener.Addr().String() }

// Work is what a service does.
type Work struct {
	Server *grpc.Server
	// Status is what the service is doing, in words, for the service manager.
	Status func() string
	// Answers asks the service as a client would; nil if its health is enough,
	// which is asked for in any case.
	Answers func(context.Context) error
	// Reload reads the configuration again. What is wrong changes nothing, and is
	// an error (of kind ErrPartly, if it changed something after all); notes are
	// what Program.Check returns.
	Reload func() (notes []string, err error)
	// Stop ends what the service does, when it was told to end; the server is
	// stopped after it.
	Stop     func()
	Stopping string // what that means for who uses it
	About    []any  // belongs to the line of the log that says that it listens
}

// streamTime is for what is still being sent at the end. Clients go on with it
// when the service is back.
const streamTime = 2 * time.Second

// Run serves until ctx is over.
func (s *Service) Run(ctx context.Context, w *Work) error {
	failed := make(chan error, 1)
	s.scrapes.Serve(s.Metrics, s.Log)
	go func() { failed <- w.Server.Serve(remote.Bounded(s.listener, s.Log)) }()
	s.Log.Info("listening", append([]any{"address", s.listener.Addr().String(), "version", version.String(), "pid", os.Getpid()}, w.About...)...)
	s.manager.Ready(w.Status())
	go s.manager.Watch(ctx, w.answers)
	for {
		select {
		case <-ctx.Done():
			s.stop(w)
			return nil
		case <-s.hangup:
			s.manager.Reloading()
			s.reload(w)
			s.manager.Ready(w.Status())
		case err := <-failed:
			return fmt.Errorf("%w at %s: %w", ErrCannotServe, s.listener.Addr(), err)
		}
	}
}

func (w *Work) answers(ctx context.Context) (string, error) {
	if w.Answers != nil {
		if err := w.Answers(ctx); err != nil {
			return "", err
		}
	}
	if err := CallHealth(ctx, w.Server); err != nil {
		return "", err
	}
	return w.Status(), nil
}

// ErrPartly marks what is wrong with a configuration, and was not found before
// some of it was in force.
var ErrPartly = errors.New("not all of the configuration is in force")

func (s *Service) reload(w *Work) {
	notes, err := w.Reload()
	s.Metrics.Reloaded(err == nil)
	switch {
	case errors.Is(err, ErrPartly):
		s.Log.Error("the configuration was read again, but not all of it is in force", "error", err.Error())
		return
	case err != nil:
		s.Log.Error("the configuration was not read again: what was there before stays in force", "error", err.Error())
		return
	}
	s.Notes(notes)
	s.Log.Info("the configuration was read again", "file", s.Path)
}

func (s *Service) stop(w *Work) {
	s.manager.Stopping("stopping: " + w.Stopping)
	s.Log.Info("stopping: " + w.Stopping)
	w.Stop()
	hard := time.AfterFunc(streamTime, w.Server.Stop) // watchers of health never go by themselves
	w.Server.GracefulStop()
	hard.Stop()
	s.Log.Info("stopped")
}
