// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
)

// emptyMessage is a request with nothing in it, in gRPC's framing: a byte that
// says "not compressed", then the length.
var emptyMessage = []byte{0, 0, 0, 0, 0}

// CallHealth asks a gRPC server for its health, grpc.health.v1.Health/Check, as
// a client would, only without a network: a certificate for it would have to be
// the service's own, which others rely on being asked for. That the server
// answers is enough.
func CallHealth(ctx context.Context, server http.Handler) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/grpc.health.v1.Health/Check", bytes.NewReader(emptyMessage))
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	r.Header.Set("Content-Type", "application/grpc")
	w := response{header: http.Header{}}
	server.ServeHTTP(&w, r)
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
