// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/remote"
)

// healthNames are the names under which clients ask for health: "" is asked by
// agents, and "AgentService" by pollers, of whatever is at an agent's address.
var healthNames = []string{"", "profiler.ProfilerService", "monitoring.AgentService", "AgentService", remote.SessionService}

// healthServer is grpc.health.v1.
type healthServer struct {
	health.UnimplementedHealthServer
	names  []string               // of the services that are known
	serves func(name string) bool // must answer at once
}

// ofAgents are the names by which an agent itself is meant, whose other checks
// work without a profiler.
var ofAgents = []string{"", "AgentService", "monitoring.AgentService"}

// serves says whether one of the services can be used: each is as healthy as the
// others, but an agent is more than its profiler.
func (a *About) serves(name string) bool {
	if a.Serving != nil && (slices.Contains(ofAgents, name) || !a.Serving()) {
		return a.Serving()
	}
	return a.Health().Healthy
}

func (h *healthServer) now(name string) health.HealthCheckResponse_ServingStatus {
	if h.serves(name) {
		return health.HealthCheckResponse_SERVING
	}
	return health.HealthCheckResponse_NOT_SERVING
}

// Check tells of one service.
func (h *healthServer) Check(_ context.Context, in *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	if !slices.Contains(h.names, in.GetService()) {
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	return &health.HealthCheckResponse{Status: h.now(in.GetService())}, nil
}

// List tells of all services.
func (h *healthServer) List(context.Context, *health.HealthListRequest) (*health.HealthListResponse, error) {
	all := &health.HealthListResponse{Statuses: map[string]*health.HealthCheckResponse{}}
	for _, name := range h.names {
		all.Statuses[name] = &health.HealthCheckResponse{Status: h.now(name)}
	}
	return all, nil
}

// watchEvery is how late Watch may tell of a change. It is asked about only
// while somebody watches.
const watchEvery = time.Second

// Watch tells of one service now and whenever it changes.
func (h *healthServer) Watch(in *health.HealthCheckRequest, out grpc.ServerStreamingServer[health.HealthCheckResponse]) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	told := health.HealthCheckResponse_UNKNOWN
	for {
		now := health.HealthCheckResponse_SERVICE_UNKNOWN
		if slices.Contains(h.names, in.GetService()) {
			now = h.now(in.GetService())
		}
		if now != told {
			if err := out.Send(&health.HealthCheckResponse{Status: now}); err != nil {
				return err
			}
			told = now
		}
		select {
		case <-out.Context().Done():
			return status.FromContextError(out.Context().Err()).Err()
		case <-tick.C:
		}
	}
}
