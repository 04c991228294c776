// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/carverauto/serviceradar-profiler/version"
)

// Service is a program at work: its log, its port, and the signals to which it
// listens.
type Service struct {
	Log, Audit *slog.Logger
	Lines      *Outlet // of both
	Listener   net.Listener

	manager *Manager
	hangup  <-chan os.Signal
}

// Begin opens the log.
func (c *Call) Begin(component string, logging *Logging, source *Source) *Service {
	s := &Service{Lines: NewOutlet(logging.Stream(c.Out)), hangup: c.hangup}
	s.Log, s.Audit = logging.Loggers(s.Lines, component)
	s.Lines.Recovered = func(n uint64, why error) {
		s.Log.Error("lines of the log were lost", "lines", n, "error", fmt.Sprint(why))
	}
	if len(source.Variables) > 0 {
		s.Log.Info("settings come from the environment", "variables", source.Variables)
	}
	return s
}

// Listen opens the port, and finds who wants to hear of the service.
func (s *Service) Listen(address string) (err error) {
	if s.manager, err = WhoStarted(s.Log); err != nil {
		return err
	}
	s.Listener, err = Listen(address)
	return err
}

// End closes what is open, the log last.
func (s *Service) End() {
	if s.Listener != nil {
		s.Listener.Close() // the server has closed it, mostly
	}
	s.Lines.Close()
}

// ListeningAt is where, in words.
func (s *Service) ListeningAt() string { return "listening at " + s.Listener.Addr().String() }

// Server is what serves: gRPC's.
type Server interface {
	http.Handler
	Serve(net.Listener) error
	Stop()
	GracefulStop()
}

// Work is what a service does.
type Work struct {
	Server Server
	Within func(net.Listener) net.Listener // bounds connections
	// Status is what the service is doing, in words, for the service manager.
	Status func() string
	// Answers asks the service as a client would; nil if its health is enough,
	// which is asked for in any case.
	Answers func(context.Context) error
	Reload  func() // reads the configuration again
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
	go func() { failed <- w.Server.Serve(w.Within(s.Listener)) }()
	s.Log.Info("listening", append([]any{"address", s.Listener.Addr().String(), "version", version.String(), "pid", os.Getpid()}, w.About...)...)
	s.manager.Ready(w.Status())
	go s.manager.Watch(ctx, w.answers)
	for {
		select {
		case <-ctx.Done():
			s.stop(w)
			return nil
		case <-s.hangup:
			s.manager.Reloading()
			w.Reload()
			s.manager.Ready(w.Status())
		case err := <-failed:
			return fmt.Errorf("%w at %s: %w", ErrCannotServe, s.Listener.Addr(), err)
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

func (s *Service) stop(w *Work) {
	s.manager.Stopping("stopping: " + w.Stopping)
	s.Log.Info("stopping: " + w.Stopping)
	w.Stop()
	hard := time.AfterFunc(streamTime, w.Server.Stop) // watchers of health never go by themselves
	w.Server.GracefulStop()
	hard.Stop()
	s.Log.Info("stopped")
}
