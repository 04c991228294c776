// SPDX-License-Identifier: Apache-2.0

package poller_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
)

func contextOf(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// core stands for ServiceRadar's: it keeps what it is told, and puts streams
// together by name and type, whichever agent they are of.
type core struct {
	*server
	monitoring.UnimplementedPollerServiceServer

	mu      sync.Mutex
	reports []report
	refuse  func() error // each report; nil: none
}

// report is one call.
type report struct {
	unary    *monitoring.PollerStatusRequest // or
	chunks   []*monitoring.PollerStatusChunk
	services []*monitoring.ServiceStatus // as core has them afterwards
}

func (r *report) timestamp() int64 {
	if r.unary != nil {
		return r.unary.GetTimestamp()
	}
	return r.chunks[0].GetTimestamp()
}

func newCore(t testing.TB, certs string) *core {
	t.Helper()
	c := &core{}
	c.server = serve(t, certs, "agent", func(g *grpc.Server) { monitoring.RegisterPollerServiceServer(g, c) })
	return c
}

func (c *core) ReportStatus(_ context.Context, in *monitoring.PollerStatusRequest) (*monitoring.PollerStatusResponse, error) {
	return c.keep(report{unary: in, services: in.GetServices()})
}

func (c *core) keep(r report) (*monitoring.PollerStatusResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		if err := c.refuse(); err != nil {
			return nil, err
		}
	}
	c.reports = append(c.reports, r)
	return &monitoring.PollerStatusResponse{Received: true}, nil
}

func (c *core) StreamStatus(in grpc.ClientStreamingServer[monitoring.PollerStatusChunk, monitoring.PollerStatusResponse]) error {
	var r report
	at := map[string]*monitoring.ServiceStatus{}
	for {
		chunk, err := in.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		r.chunks = append(r.chunks, chunk)
		for _, s := range chunk.GetServices() {
			key := s.GetServiceName() + ":" + s.GetServiceType()
			if had := at[key]; had != nil {
				had.Message = append(had.Message, s.GetMessage()...)
				continue
			}
			whole := &monitoring.ServiceStatus{ServiceName: s.GetServiceName(), Available: s.GetAvailable(), Message: slices.Clone(s.GetMessage()), ServiceType: s.GetServiceType(),
				ResponseTime: s.GetResponseTime(), AgentId: s.GetAgentId(), PollerId: s.GetPollerId(), Partition: s.GetPartition(), Source: s.GetSource()}
			at[key] = whole
			r.services = append(r.services, whole)
		}
		if chunk.GetIsFinal() {
			break
		}
	}
	answer, err := c.keep(r)
	if err != nil {
		return err
	}
	return in.SendAndClose(answer)
}

// all are the reports so far.
func (c *core) all() []report {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.reports)
}

func (c *core) refuseWith(refuse func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = refuse
}

// find is the n-th status of a service that core got, from 0; nil if it did not
// come yet.
func (c *core) find(agent, name string, n int) *monitoring.ServiceStatus {
	for _, r := range c.all() {
		for _, s := range r.services {
			if s.GetServiceName() == name && (agent == "" || s.GetAgentId() == agent) {
				if n == 0 {
					return s
				}
				n--
			}
		}
	}
	return nil
}

// waitFor waits for that.
func (c *core) waitFor(t testing.TB, agent, name string, n int) *monitoring.ServiceStatus {
	t.Helper()
	var s *monitoring.ServiceStatus
	until(t, fmt.Sprintf("core gets %s of %s, number %d", name, agent, n), func() bool {
		s = c.find(agent, name, n)
		return s != nil
	})
	return s
}

// data is what is in a service's envelope.
func data(t testing.TB, s *monitoring.ServiceStatus) json.RawMessage {
	t.Helper()
	var e struct{ Data json.RawMessage }
	if err := json.Unmarshal(s.GetMessage(), &e); err != nil {
		t.Fatalf("no envelope: %v: %.300s", err, s.GetMessage())
	}
	return e.Data
}

// agent stands for a real one, or for one of ours as far as its answers go.
type agent struct {
	*server
	monitoring.UnimplementedAgentServiceServer
	health.UnimplementedHealthServer

	status  func(context.Context, *monitoring.StatusRequest) (*monitoring.StatusResponse, error)
	results func(context.Context, *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error)
	stream  func(*monitoring.ResultsRequest, grpc.ServerStreamingServer[monitoring.ResultsChunk]) error
	healthy func(context.Context) error

	mu       sync.Mutex
	asked    []*monitoring.StatusRequest
	fetched  []*monitoring.ResultsRequest
	streamed []*monitoring.ResultsRequest
	health   []string
}

// newAgent is one that answers as a real one of 17 August 2025 does, where
// change says nothing else.
func newAgent(t testing.TB, certs string, change func(*agent)) *agent {
	t.Helper()
	a := &agent{status: realStatus, results: realResults, stream: realStream}
	if change != nil {
		change(a)
	}
	a.server = serve(t, certs, "agent", func(g *grpc.Server) {
		monitoring.RegisterAgentServiceServer(g, a)
		health.RegisterHealthServer(g, a)
	}, grpc.MaxSendMsgSize(64<<20))
	return a
}

func (a *agent) Check(ctx context.Context, in *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	a.mu.Lock()
	a.health = append(a.health, in.GetService())
	a.mu.Unlock()
	if a.healthy != nil {
		if err := a.healthy(ctx); err != nil {
			return nil, err
		}
	}
	if in.GetService() != "" && in.GetService() != "AgentService" {
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
}

func (a *agent) GetStatus(ctx context.Context, in *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	a.mu.Lock()
	a.asked = append(a.asked, in)
	a.mu.Unlock()
	return a.status(ctx, in)
}

func (a *agent) GetResults(ctx context.Context, in *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
	a.mu.Lock()
	a.fetched = append(a.fetched, in)
	a.mu.Unlock()
	return a.results(ctx, in)
}

func (a *agent) StreamResults(in *monitoring.ResultsRequest, out grpc.ServerStreamingServer[monitoring.ResultsChunk]) error {
	a.mu.Lock()
	a.streamed = append(a.streamed, in)
	a.mu.Unlock()
	return a.stream(in, out)
}

func (a *agent) statusRequests(name string) (all []*monitoring.StatusRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.asked {
		if r.GetServiceName() == name {
			all = append(all, r)
		}
	}
	return all
}

func (a *agent) resultsRequests(name string) (all []*monitoring.ResultsRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range append(slices.Clone(a.fetched), a.streamed...) {
		if r.GetServiceName() == name {
			all = append(all, r)
		}
	}
	return all
}

// realStatus answers what real agents know; of other types they answer nothing
// at all, and say that this is fine.
func realStatus(_ context.Context, in *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	switch in.GetServiceType() {
	case "icmp", "port", "process", "grpc", "sweep", "snmp":
		return &monitoring.StatusResponse{Available: true, Message: []byte(`{"by":"the real agent"}`), ServiceName: in.GetServiceName(), ServiceType: in.GetServiceType(),
			ResponseTime: 42, AgentId: "its-own-id", PollerId: in.GetPollerId()}, nil
	}
	return &monitoring.StatusResponse{}, nil
}

func realResults(_ context.Context, in *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
	if in.GetServiceType() != "grpc" {
		return nil, status.Errorf(codes.Unimplemented, "GetResults not supported for service type '%s'", in.GetServiceType())
	}
	return &monitoring.ResultsResponse{Available: true, Data: []byte(`{"of":"a checker"}`), AgentId: "checker", CurrentSequence: "7", HasNewData: true, ResponseTime: 43}, nil
}

func realStream(in *monitoring.ResultsRequest, out grpc.ServerStreamingServer[monitoring.ResultsChunk]) error {
	if t := in.GetServiceType(); t != "sweep" && t != "grpc" && t != "sync" {
		return status.Errorf(codes.Unimplemented, "StreamResults not supported for service type '%s'", t)
	}
	return chunks(`[{"ip":"192.0.2.1"}]`, `[{"ip":"192.0.2.2"},{"ip":"192.0.2.3"}]`)(in, out)
}

// chunks streams these.
func chunks(all ...string) func(*monitoring.ResultsRequest, grpc.ServerStreamingServer[monitoring.ResultsChunk]) error {
	return func(_ *monitoring.ResultsRequest, out grpc.ServerStreamingServer[monitoring.ResultsChunk]) error {
		for i, text := range all {
			text, unfinished := strings.CutSuffix(text, "…")
			err := out.Send(&monitoring.ResultsChunk{Data: []byte(text), IsFinal: i == len(all)-1 && !unfinished, ChunkIndex: int32(i), TotalChunks: int32(len(all)), CurrentSequence: "8"})
			if err != nil {
				return err
			}
		}
		return nil
	}
}
