// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/remote"
)

const (
	// maxCheckMessage is what ServiceRadar's pollers take of an agent in one
	// message: agents rely on it when they cut.
	maxCheckMessage = 4 << 20
	// maxStreamed bounds what the chunks of one answer are together. Real
	// pollers have no such bound.
	maxStreamed = 64 << 20
	// checkTries is how often a check is asked for. Between the tries real
	// pollers wait 1 s and 2 s.
	checkTries     = 3
	firstCheckWait = time.Second
)

// realKeepalive is for what ServiceRadar's own servers answer: they hang up on
// who pings more often.
var realKeepalive = keepalive.ClientParameters{Time: 120 * time.Second, Timeout: 20 * time.Second}

// AgentClient asks an agent of ServiceRadar, or one of ours, for its checks, as
// a poller does. Its errors have gRPC's own words, because pollers hand these on
// to core; errors.Is finds their kinds.
type AgentClient struct {
	conn *remote.Connection
	stub monitoring.AgentServiceClient
	own  bool          // the connection
	wait time.Duration // before the second try
}

// CheckRequest is one check of a poller's configuration. The agent passes
// Details on to whoever knows what to do with it.
type CheckRequest struct {
	Name, Type   string
	AgentID      string // by which the poller knows the agent, which may call itself something else
	PollerID     string
	Details      string
	Port         int32  // of checks of type port
	LastSequence string // of the results that came last
}

// CheckAnswer is what an agent says to a check.
type CheckAnswer struct {
	Available    bool
	Message      []byte // JSON, mostly
	AgentID      string
	ResponseTime int64 // nanoseconds

	// Of results alone.
	Sequence string // of these
	New      bool   // there is something since LastSequence
}

// DialAgent is the client of the agent at an address, host:port. It does not
// connect: the first call does.
func DialAgent(address string, creds credentials.TransportCredentials, more ...grpc.DialOption) (*AgentClient, error) {
	conn, err := remote.Connect(address, creds, append([]grpc.DialOption{grpc.WithKeepaliveParams(realKeepalive)}, more...)...)
	if err != nil {
		return nil, err
	}
	return &AgentClient{conn: conn, stub: monitoring.NewAgentServiceClient(conn), own: true, wait: firstCheckWait}, nil
}

// AgentOf asks the agent at the address of a client for its checks, over the
// same connection.
func AgentOf(c *remote.Client) *AgentClient {
	conn := c.Connection()
	return &AgentClient{conn: conn, stub: monitoring.NewAgentServiceClient(conn), wait: firstCheckWait}
}

// Close ends the connection, unless it is a Client's.
func (a *AgentClient) Close() error {
	if !a.own {
		return nil
	}
	return a.conn.Close()
}

// Health asks whether the agent serves.
func (a *AgentClient) Health(ctx context.Context) error {
	answer, err := health.NewHealthClient(a.conn).Check(ctx, &health.HealthCheckRequest{Service: "AgentService"})
	if err != nil {
		return saidByGRPC(err)
	}
	if s := answer.GetStatus(); s != health.HealthCheckResponse_SERVING {
		return fmt.Errorf("the agent says that it is %v", s)
	}
	return nil
}

// Status asks how a service is.
func (a *AgentClient) Status(ctx context.Context, c *CheckRequest) (*CheckAnswer, error) {
	in := &monitoring.StatusRequest{
		ServiceName: remote.Text(c.Name), ServiceType: remote.Text(c.Type), AgentId: remote.Text(c.AgentID), PollerId: remote.Text(c.PollerID), Details: remote.Text(c.Details), Port: c.Port,
	}
	out, err := tried(ctx, a, a.stub.GetStatus, in)
	if err != nil {
		return nil, err
	}
	return &CheckAnswer{Available: out.GetAvailable(), Message: out.GetMessage(), AgentID: out.GetAgentId(), ResponseTime: out.GetResponseTime()}, nil
}

func (c *CheckRequest) forResults() *monitoring.ResultsRequest {
	return &monitoring.ResultsRequest{
		ServiceName: remote.Text(c.Name), ServiceType: remote.Text(c.Type), AgentId: remote.Text(c.AgentID), PollerId: remote.Text(c.PollerID), Details: remote.Text(c.Details), LastSequence: remote.Text(c.LastSequence),
	}
}

// Results asks for the results of a service, in one message.
func (a *AgentClient) Results(ctx context.Context, c *CheckRequest) (*CheckAnswer, error) {
	out, err := tried(ctx, a, a.stub.GetResults, c.forResults())
	if err != nil {
		return nil, err
	}
	return &CheckAnswer{Available: out.GetAvailable(), Message: out.GetData(), AgentID: out.GetAgentId(), ResponseTime: out.GetResponseTime(),
		Sequence: out.GetCurrentSequence(), New: out.GetHasNewData()}, nil
}

// StreamResults asks for them in chunks, and puts these together.
func (a *AgentClient) StreamResults(ctx context.Context, c *CheckRequest) (*CheckAnswer, error) {
	ctx, cancel := context.WithCancel(ctx) // what comes after the last chunk is not waited for
	defer cancel()
	began := time.Now()
	stream, err := a.stub.StreamResults(ctx, c.forResults(), grpc.MaxCallRecvMsgSize(maxCheckMessage))
	if err != nil {
		return nil, saidByGRPC(err)
	}
	j := union{keepsObject: c.Type == "sweep"}
	for {
		chunk, err := stream.Recv()
		if err != nil {
			return nil, broken(err)
		}
		if err := j.add(chunk.GetData()); err != nil {
			return nil, err
		}
		if !chunk.GetIsFinal() {
			continue
		}
		message, err := j.message()
		if err != nil {
			return nil, err
		}
		return &CheckAnswer{Available: true, Message: message, AgentID: c.AgentID, ResponseTime: time.Since(began).Nanoseconds(),
			Sequence: chunk.GetCurrentSequence(), New: !j.nothing()}, nil
	}
}

// tried makes a call, and again where that may help. Real pollers repeat
// whatever failed; what will fail in the same way again is not repeated here,
// and whoever waits for the error has it 3 s earlier.
func tried[Q, A any](ctx context.Context, a *AgentClient, m func(context.Context, Q, ...grpc.CallOption) (A, error), request Q) (A, error) {
	for try := 1; ; try++ {
		answer, err := m(ctx, request, grpc.MaxCallRecvMsgSize(maxCheckMessage))
		if err == nil || try == checkTries || final(status.Code(err)) {
			return answer, saidByGRPC(err)
		}
		select {
		case <-ctx.Done():
			return answer, saidByGRPC(err)
		case <-time.After(a.wait << (try - 1)):
		}
	}
}

func final(code codes.Code) bool {
	switch code {
	case codes.Unimplemented, codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}

// said is an error in gRPC's words.
type said struct {
	error
	kind error
}

// Unwrap lets errors.Is find the kind.
func (s said) Unwrap() []error { return []error{s.error, s.kind} }

func saidByGRPC(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); !ok {
		return err
	}
	var already said
	if errors.As(err, &already) {
		return err
	}
	return said{err, remote.KindOf(status.Code(err))}
}
