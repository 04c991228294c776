// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/remote"
)

func TestHealth(t *testing.T) {
	conn, unhealthy := serve(t, example(), remote.Limits{})
	client := health.NewHealthClient(conn)
	names := []string{"", "profiler.ProfilerService", "monitoring.AgentService", "AgentService", "serviceradar.session.v1.SessionService"}
	check := func(want health.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, name := range names {
			out, err := client.Check(t.Context(), &health.HealthCheckRequest{Service: name})
			if err != nil || out.GetStatus() != want {
				t.Errorf("%q: %v, %v, want %v", name, out, err, want)
			}
		}
		all, err := client.List(t.Context(), &health.HealthListRequest{})
		if err != nil || len(all.GetStatuses()) != len(names) || all.GetStatuses()["AgentService"].GetStatus() != want {
			t.Errorf("%v, %v", all, err)
		}
	}
	check(health.HealthCheckResponse_SERVING)
	if _, err := client.Check(t.Context(), &health.HealthCheckRequest{Service: "poller"}); status.Code(err) != codes.NotFound {
		t.Errorf("%v", err)
	}

	watch, err := client.Watch(t.Context(), &health.HealthCheckRequest{Service: "AgentService"})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := client.Watch(t.Context(), &health.HealthCheckRequest{Service: "poller"})
	if err != nil {
		t.Fatal(err)
	}
	next := func(w grpc.ServerStreamingClient[health.HealthCheckResponse], want health.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if out, err := w.Recv(); err != nil || out.GetStatus() != want {
			t.Errorf("%v, %v, want %v", out, err, want)
		}
	}
	next(watch, health.HealthCheckResponse_SERVING)
	next(stranger, health.HealthCheckResponse_SERVICE_UNKNOWN)
	unhealthy.Store(true)
	next(watch, health.HealthCheckResponse_NOT_SERVING)
	check(health.HealthCheckResponse_NOT_SERVING)
}

// Both versions of reflection, because clients know one or the other.
func TestReflection(t *testing.T) {
	conn, _ := serve(t, example(), remote.Limits{})
	var found []string
	v1, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}
	if err := errors.Join(v1.Send(ask), v1.CloseSend()); err != nil {
		t.Fatal(err)
	}
	out, err := v1.Recv()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range out.GetListServicesResponse().GetService() {
		found = append(found, s.GetName())
	}
	for _, want := range []string{"profiler.ProfilerService", "monitoring.AgentService", "grpc.health.v1.Health"} {
		if !slices.Contains(found, want) {
			t.Errorf("%s is not in %v", want, found)
		}
	}
	if _, err := v1.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}

	// the older one in bytes: 4 is file_containing_symbol, and the descriptor in the answer
	alpha, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
		grpc.ForceCodec(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	symbol := bytesField(4, "profiler.ProfilerService")
	if err := errors.Join(alpha.SendMsg(&symbol), alpha.CloseSend()); err != nil {
		t.Fatal(err)
	}
	var described []byte
	if err := alpha.RecvMsg(&described); err != nil {
		t.Fatal(err)
	}
	if _, texts := fieldsOf(t, described); !strings.Contains(texts[4], "GetProfilingResults") {
		t.Errorf("%q", described)
	}
}

// A poller has the health that ServiceRadar's own has: as a whole, and by its
// name.
func TestHealthOfAPoller(t *testing.T) {
	var sick atomic.Bool
	s := grpc.NewServer()
	RegisterPoller(s, "PollerService", func() bool { return !sick.Load() })
	client := health.NewHealthClient(dial(t, s))
	for _, want := range []health.HealthCheckResponse_ServingStatus{health.HealthCheckResponse_SERVING, health.HealthCheckResponse_NOT_SERVING} {
		for _, name := range []string{"", "PollerService", "serviceradar.session.v1.SessionService", "serviceradar.session.v1.FleetService"} {
			if out, err := client.Check(t.Context(), &health.HealthCheckRequest{Service: name}); err != nil || out.GetStatus() != want {
				t.Errorf("%q: %v, %v, want %v", name, out, err, want)
			}
		}
		sick.Store(true)
	}
	if _, err := client.Check(t.Context(), &health.HealthCheckRequest{Service: "AgentService"}); status.Code(err) != codes.NotFound {
		t.Errorf("a poller takes itself for an agent: %v", err)
	}
}

// Clients may compress what they send, as with ServiceRadar's own services, and
// then are answered so. What is too large is refused once it is unpacked.
func TestCompressed(t *testing.T) {
	server := grpc.NewServer(remote.ServerOptions(slog.New(slog.DiscardHandler))...)
	RegisterPoller(server, "p", func() bool { return true })
	client := health.NewHealthClient(dial(t, server))
	if r, err := client.Check(t.Context(), &health.HealthCheckRequest{Service: "p"}, grpc.UseCompressor("gzip")); err != nil || r.GetStatus() != health.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", r, err)
	}
	_, err := client.Check(t.Context(), &health.HealthCheckRequest{Service: strings.Repeat("p", 1<<20)}, grpc.UseCompressor("gzip"))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v", err)
	}
}
