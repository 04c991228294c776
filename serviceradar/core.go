// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// What real pollers send to core in one message and what in a stream.
const (
	maxUnaryServices = 5
	maxUnaryBytes    = 1 << 20
	serviceOverhead  = 200 // as they reckon it, for each service
	maxSlice         = 3 << 20
)

// CoreClient reports to ServiceRadar's core.
type CoreClient struct {
	conn *remote.Connection
	stub monitoring.PollerServiceClient
}

// StatusReport is what a poller found out in one poll.
type StatusReport struct {
	PollerID, Partition, SourceIP string
	Time                          time.Time
	Services                      []ServiceStatus
}

// ServiceStatus is one service in a report.
type ServiceStatus struct {
	Name         string `json:"service_name"`
	Type         string `json:"service_type"`
	Available    bool   `json:"available"`
	Message      []byte `json:"message"`
	ResponseTime int64  `json:"response_time"` // nanoseconds
	AgentID      string `json:"agent_id"`
	Source       string `json:"source"`
}

// Where a service's status comes from, in core's words.
const (
	SourceStatus  = "getStatus"
	SourceResults = "results"
)

// DialCore is the client of the core at an address, host:port. It does not
// connect: the first report does.
func DialCore(address string, creds credentials.TransportCredentials, more ...grpc.DialOption) (*CoreClient, error) {
	conn, err := remote.Connect(address, creds, append([]grpc.DialOption{grpc.WithKeepaliveParams(realKeepalive)}, more...)...)
	if err != nil {
		return nil, err
	}
	return &CoreClient{conn: conn, stub: monitoring.NewPollerServiceClient(conn)}, nil
}

// Close ends the connection, and with it a report on its way.
func (c *CoreClient) Close() error { return c.conn.Close() }

// Report returns when core says that it has the report. A report that it will
// never take is an error of kind session.ErrInvalid; what else goes wrong may be
// different next time. It may have the report although there was an error, and
// is to be told again: to core that is a later status.
//
// That core knows this poller at all it does not say: it answers the same to
// those that are not among its known_pollers, and throws their reports away.
func (c *CoreClient) Report(ctx context.Context, r *StatusReport) error {
	for _, part := range r.parts() {
		send := c.unary
		if part.streamed() {
			send = c.stream
		}
		if err := send(ctx, part); err != nil {
			return c.explain(ctx, err)
		}
	}
	return nil
}

func (c *CoreClient) unary(ctx context.Context, r *StatusReport) error {
	in := &monitoring.PollerStatusRequest{PollerId: remote.Text(r.PollerID), Timestamp: r.Time.Unix(), Partition: remote.Text(r.Partition), SourceIp: remote.Text(r.SourceIP)}
	for i := range r.Services {
		in.Services = append(in.Services, r.service(&r.Services[i]))
	}
	answer, err := c.stub.ReportStatus(ctx, in)
	if err == nil && !answer.GetReceived() {
		err = errNotReceived
	}
	return err
}

var errNotReceived = errors.New("core says that it did not receive the report")

// stream sends one service a message. A large one is cut into slices, which
// core puts together by name and type.
func (c *CoreClient) stream(ctx context.Context, r *StatusReport) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, err := c.stub.StreamStatus(ctx)
	if err != nil {
		return err
	}
	if err := r.send(out); err != nil && !errors.Is(err, io.EOF) { // then the answer says why
		return err
	}
	answer, err := out.CloseAndRecv()
	if err == nil && !answer.GetReceived() {
		err = errNotReceived
	}
	return err
}

func (r *StatusReport) send(out grpc.ClientStreamingClient[monitoring.PollerStatusChunk, monitoring.PollerStatusResponse]) error {
	total, sent := 0, 0
	for i := range r.Services {
		total += inSlices(len(r.Services[i].Message))
	}
	for i := range r.Services {
		s := r.service(&r.Services[i])
		left := s.GetMessage()
		if len(left) > maxSlice {
			s.Source = "" // slices have none with real pollers
		}
		for n := inSlices(len(left)); n > 0; n-- {
			s.Message = left[:min(len(left), maxSlice)]
			left = left[len(s.Message):]
			err := out.Send(&monitoring.PollerStatusChunk{
				Services: []*monitoring.ServiceStatus{s}, PollerId: remote.Text(r.PollerID), AgentId: s.GetAgentId(), Timestamp: r.Time.Unix(),
				Partition: remote.Text(r.Partition), SourceIp: remote.Text(r.SourceIP), IsFinal: sent == total-1, ChunkIndex: int32(sent), TotalChunks: int32(total),
			})
			if err != nil {
				return err
			}
			sent++
		}
	}
	return nil
}

// inSlices is in how many messages a service's status is sent.
func inSlices(size int) int { return max(1, (size+maxSlice-1)/maxSlice) }

func (r *StatusReport) service(s *ServiceStatus) *monitoring.ServiceStatus {
	return &monitoring.ServiceStatus{
		ServiceName: remote.Text(s.Name), Available: s.Available, Message: s.Message, ServiceType: remote.Text(s.Type), ResponseTime: s.ResponseTime,
		AgentId: remote.Text(s.AgentID), PollerId: remote.Text(r.PollerID), Partition: remote.Text(r.Partition), Source: s.Source,
	}
}

func (r *StatusReport) size() int {
	n := 0
	for i := range r.Services {
		n += len(r.Services[i].Message) + serviceOverhead
	}
	return n
}

type serviceKey struct{ name, kind string }

func (r *StatusReport) unique() bool {
	seen := map[serviceKey]bool{}
	for i := range r.Services {
		key := serviceKey{r.Services[i].Name, r.Services[i].Type}
		if seen[key] {
			return false
		}
		seen[key] = true
	}
	return true
}

// streamed says whether a report goes in a stream, as real pollers decide it;
// but what has one name and type several times never does: core would take them
// for slices of one message, whichever agent they are of.
func (r *StatusReport) streamed() bool {
	return r.size() > maxUnaryBytes || len(r.Services) > maxUnaryServices && r.unique()
}

// parts are the reports that one is sent as: mostly itself. What is too large
// for one message and has services of one name and type twice is divided,
// whichever way takes fewer calls. Core shows the services of the last part, so
// none is made smaller than it has to be; and of one service the newest comes
// last.
func (r *StatusReport) parts() []*StatusReport {
	if r.size() <= maxUnaryBytes || r.unique() {
		return []*StatusReport{r}
	}
	once, pieces := r.once(), r.pieces()
	if len(pieces) < len(once) {
		return pieces
	}
	return once
}

func (r *StatusReport) without() *StatusReport {
	return &StatusReport{PollerID: r.PollerID, Partition: r.Partition, SourceIP: r.SourceIP, Time: r.Time}
}

// once divides a report so that each part has a name and type once, and can be
// streamed: for few agents with large messages. The last part is the largest.
func (r *StatusReport) once() []*StatusReport {
	var parts []*StatusReport // the last one first, and so are their services
	next := map[serviceKey]int{}
	for i := len(r.Services) - 1; i >= 0; i-- {
		s := r.Services[i]
		key := serviceKey{s.Name, s.Type}
		n := next[key]
		next[key]++
		if n == len(parts) {
			parts = append(parts, r.without())
		}
		parts[n].Services = append(parts[n].Services, s)
	}
	slices.Reverse(parts)
	for _, p := range parts {
		slices.Reverse(p.Services)
	}
	return parts
}

// pieces divides a report into parts for one message each, all about as large:
// for many agents. What is too large for that by itself is one that is streamed.
func (r *StatusReport) pieces() []*StatusReport {
	all := r.size()
	enough := all / ((all + maxUnaryBytes - 1) / maxUnaryBytes)
	var parts []*StatusReport
	size := 0
	for _, s := range r.Services {
		more := len(s.Message) + serviceOverhead
		if len(parts) == 0 || size >= enough || size+more > maxUnaryBytes {
			parts, size = append(parts, r.without()), 0
		}
		last := parts[len(parts)-1]
		last.Services = append(last.Services, s)
		size += more
	}
	return parts
}

// explain says what is wrong between a poller and core.
func (c *CoreClient) explain(ctx context.Context, err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return &session.Error{Code: "core_refused", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("the core at %s does not take the report", c.conn.Address()), Cause: err}
	}
	e := &session.Error{Code: "core_unavailable", Kind: session.ErrUnavailable, Cause: errors.New(s.Message()),
		Problem: fmt.Sprintf("the core at %s cannot be reached", c.conn.Address()), Remedy: "see whether core runs there, and core_address"}
	switch s.Code() {
	case codes.Canceled:
		if ctx.Err() != nil {
			return ctx.Err()
		}
	case codes.Unavailable:
		if failure := c.conn.Failure(); failure != nil {
			e.Cause = failure
		}
	case codes.DeadlineExceeded:
		e.Problem, e.Remedy = fmt.Sprintf("the core at %s does not answer in time", c.conn.Address()), "its log says more"
	default:
		e.Code, e.Problem, e.Remedy = "core_refused", fmt.Sprintf("the core at %s does not take the report", c.conn.Address()), "its log says more"
		if s.Code() == codes.InvalidArgument || s.Code() == codes.ResourceExhausted && strings.Contains(s.Message(), "larger than max") {
			e.Kind = session.ErrInvalid
		}
	}
	return e
}
