// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"github.com/carverauto/serviceradar-profiler/session"
)

// answers asks the service as a client would, for its sessions and for its
// health by gRPC, only without a network: a certificate for it would have to
// be the service's own, which others rely on being asked for. It returns what
// the service is doing, in words.
func (s *service) answers(ctx context.Context) (string, error) {
	if _, err := s.sessions.List(ctx, session.Filter{}); err != nil {
		return "", fmt.Errorf("list the sessions: %w", err)
	}
	if err := s.callHealth(ctx); err != nil {
		return "", err
	}
	h := s.sessions.Health()
	status := fmt.Sprintf("%s; sessions: %d running, %d waiting", s.listeningAt(), h.Running, h.Queued)
	if !h.Healthy {
		status += "; no new ones: " + h.Reason
	}
	return status, nil
}

func (s *service) listeningAt() string { return "listening at " + s.listener.Addr().String() }

// emptyMessage is a request with nothing in it, in gRPC's framing: a byte that
// says "not compressed", then the length.
var emptyMessage = []byte{0, 0, 0, 0, 0}

// callHealth calls grpc.health.v1.Health/Check.
func (s *service) callHealth(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/grpc.health.v1.Health/Check", bytes.NewReader(emptyMessage))
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.Header.Set("Content-Type", "application/grpc")
	w := response{header: http.Header{}}
	s.server.ServeHTTP(&w, r)
	if status := w.header.Get("Grpc-Status"); status != "0" {
		return fmt.Errorf("ask for health: gRPC status %q: %s", status, w.header.Get("Grpc-Message"))
	}
	return nil
}

// response takes an answer; only its header matters.
type response struct{ header http.Header }

// Header is of http.ResponseWriter, as the next two.
func (w *response) Header() http.Header { return w.header }

// Write takes all.
func (w *response) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader does nothing: gRPC's status is in a trailer.
func (w *response) WriteHeader(int) {}

// Flush is of http.Flusher, which gRPC asks for.
func (w *response) Flush() {}
