// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Settings are where Prometheus is answered: the object "metrics" of a
// configuration. What is told names nobody and no process; even so nobody on
// another host reads it without being asked who he is.
type Settings struct {
	ListenAddr string `json:"listen_addr"` // host:port; "" is off
	Insecure   bool   `json:"insecure"`    // plain HTTP for whoever can reach it; on the loopback interface it always is
}

// plain says whether it is HTTP without TLS.
func (s *Settings) plain() bool { return s.Insecure || auth.OnLoopback(s.ListenAddr) }

// Validate refuses what makes no sense, or is not safe. The security is that of
// the service.
func (s *Settings) Validate(security *auth.Security) error {
	if s.ListenAddr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(s.ListenAddr)
	if err == nil && port == "" {
		err = errors.New("there is no port")
	}
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return &session.Error{Code: "bad_listen_addr", Kind: session.ErrInvalid, Problem: fmt.Sprintf("%q is no address to listen at", s.ListenAddr), Cause: err,
			Remedy: `write "127.0.0.1:9084", or ":9084" for all interfaces`}
	}
	if strings.EqualFold(security.Mode, auth.ModeNone) && !s.plain() {
		return session.Invalid("metrics_without_certificates", fmt.Sprintf("metrics at %q need the certificates of security, whose mode is none", s.ListenAddr),
			"listen at 127.0.0.1, or set metrics.insecure to let whoever can reach it read them")
	}
	return nil
}

// Bounds of what somebody can take who only connects.
const (
	requestTime   = 10 * time.Second // for a request and its answer
	idleTime      = 2 * time.Minute  // for a connection without one
	maxReaders    = 16               // connections at once
	maxHeaderSize = 8 << 10          // of a request
	closingTime   = time.Second      // for the last answer
)

// Server answers Prometheus. Nil is one that is off.
type Server struct {
	server   http.Server
	listener net.Listener
}

// Listen opens the port, if one is configured; else the server is nil. secure is
// what HTTPS takes, and nil where there are no certificates.
func Listen(s *Settings, secure *tls.Config) (*Server, error) {
	if s.ListenAddr == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", s.ListenAddr)
	if err != nil {
		return nil, fmt.Errorf("metrics.listen_addr: %w", err)
	}
	l = &few{Listener: l, places: make(chan struct{}, maxReaders)}
	if !s.plain() {
		l = tls.NewListener(l, secure)
	}
	return &Server{listener: l}, nil
}

// Serve answers, in a goroutine of its own, until Close.
func (s *Server) Serve(m *Metrics, log *slog.Logger) {
	if s == nil {
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	s.server = http.Server{Handler: mux, ReadTimeout: requestTime, WriteTimeout: requestTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeaderSize,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)} // strangers must not fill the log
	log.Info("metrics can be read", "address", s.listener.Addr().String(), "path", "/metrics")
	go func() {
		if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics cannot be read any more", "error", err.Error())
		}
	}()
}

// Close lets the last answer go out.
func (s *Server) Close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closingTime)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		s.server.Close() // who is still connected reads too slowly
	}
	s.listener.Close() // if Serve was never called
}

// few is a listener with bounded places; who comes next waits in the kernel.
type few struct {
	net.Listener
	places chan struct{}
}

// Accept waits for a place and a connection. When the listener is closed while
// all places are taken, it returns as soon as one is free: its server closes
// them all.
func (f *few) Accept() (net.Conn, error) {
	f.places <- struct{}{}
	c, err := f.Listener.Accept()
	if err != nil {
		<-f.places
		return nil, err
	}
	return &placed{Conn: c, places: f.places, closed: make(chan struct{}, 1)}, nil
}

// placed gives its place back when it is closed.
type placed struct {
	net.Conn
	places chan struct{}
	closed chan struct{} // has a value once it was
}

// Close closes, and gives the place back once.
func (p *placed) Close() error {
	select {
	case p.closed <- struct{}{}:
		<-p.places
	default:
	}
	return p.Conn.Close()
}
