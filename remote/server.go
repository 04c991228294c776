// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"

	"google.golang.org/grpc"

	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

// What a Server serves, by gRPC's names.
const (
	SessionService = "serviceradar.session.v1.SessionService"
	FleetService   = "serviceradar.session.v1.FleetService"
	MethodFetch    = sessionv1.SessionService_Fetch_FullMethodName
)

// Server serves a Runner to Clients.
type Server struct {
	sessionv1.UnimplementedSessionServiceServer
	runner    session.Runner
	chunkSize int
}

// NewServer serves a runner, and its profiles in chunks of the given size: from
// MinChunkSize to MaxChunkSize, 0 means DefaultChunkSize.
func NewServer(runner session.Runner, chunkSize int) *Server {
	if chunkSize == 0 {
		chunkSize = DefaultChunkSize
	}
	return &Server{runner: runner, chunkSize: min(max(chunkSize, MinChunkSize), MaxChunkSize)}
}

// Register makes the service part of a gRPC server, and that of its hosts, where
// the runner is a session.Fleet.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	sessionv1.RegisterSessionServiceServer(r, s)
	if fleet, ok := s.runner.(session.Fleet); ok {
		sessionv1.RegisterFleetServiceServer(r, &fleetServer{fleet: fleet})
	}
}

func (s *Server) Start(ctx context.Context, m *sessionv1.StartRequest) (*sessionv1.StartResponse, error) {
	started, err := s.runner.Start(ctx, specOf(m.GetSpec()))
	if err != nil {
		return nil, statusOf(err).Err()
	}
	return &sessionv1.StartResponse{Session: sessionMessage(&started)}, nil
}

func (s *Server) Get(ctx context.Context, m *sessionv1.GetRequest) (*sessionv1.GetResponse, error) {
	known, err := s.runner.Get(ctx, session.ID(m.GetId()))
	if err != nil {
		return nil, statusOf(err).Err()
	}
	return &sessionv1.GetResponse{Session: sessionMessage(&known)}, nil
}

func (s *Server) List(ctx context.Context, m *sessionv1.ListRequest) (*sessionv1.ListResponse, error) {
	filter, err := filterOf(m)
	if err != nil {
		return nil, statusOf(err).Err()
	}
	chosen, err := s.runner.List(ctx, filter)
	if err != nil {
		return nil, statusOf(err).Err()
	}
	answer := &sessionv1.ListResponse{}
	for i := range chosen {
		answer.Sessions = append(answer.Sessions, sessionMessage(&chosen[i]))
	}
	return answer, nil
}

func (s *Server) Cancel(ctx context.Context, m *sessionv1.CancelRequest) (*sessionv1.CancelResponse, error) {
	canceled, err := s.runner.Cancel(ctx, session.ID(m.GetId()))
	if err != nil {
		return nil, statusOf(err).Err()
	}
	return &sessionv1.CancelResponse{Session: sessionMessage(&canceled)}, nil
}

func (s *Server) Watch(m *sessionv1.WatchRequest, stream grpc.ServerStreamingServer[sessionv1.WatchResponse]) error {
	for now, err := range s.runner.Watch(stream.Context(), session.ID(m.GetId())) {
		if err != nil {
			return statusOf(err).Err()
		}
		if err := stream.Send(&sessionv1.WatchResponse{Session: sessionMessage(&now)}); err != nil {
			return err // the client is gone
		}
	}
	return nil
}

func (s *Server) Fetch(m *sessionv1.FetchRequest, stream grpc.ServerStreamingServer[sessionv1.FetchResponse]) error {
	id, want := wantOf(m)
	content, err := s.runner.Fetch(stream.Context(), id, want)
	if err != nil {
		return statusOf(err).Err()
	}
	defer content.Body.Close()
	return statusOf(sendContent(content, s.chunkSize, stream.Send)).Err()
}
