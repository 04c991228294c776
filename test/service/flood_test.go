// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/proto/profiler"
	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
)

// elsewhere is a client that comes from another address of the loopback
// interface than the one that misbehaves.
func (s *service) elsewhere(t *testing.T) *grpc.ClientConn {
	t.Helper()
	creds, err := auth.Identity(s.dir, "admin").ClientCredentials(s.address)
	if err != nil {
		t.Fatal(err)
	}
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := grpc.NewClient("passthrough:///"+s.address, grpc.WithTransportCredentials(creds), grpc.WithAuthority("localhost"),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return from.DialContext(ctx, "tcp", a) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// serves makes sure that a call is answered.
func serves(t *testing.T, c *grpc.ClientConn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	defer cancel()
	if _, err := sessionv1.NewSessionServiceClient(c).List(ctx, &sessionv1.ListRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Errorf("others are not served: %v", err)
	}
}

// files is how many descriptors the service has.
func (s *service) files(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/" + pidOf(s) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// settles waits until the service has no more descriptors than before.
func (s *service) settles(t *testing.T, before int) {
	t.Helper()
	var now int
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if now = s.files(t); now <= before {
			return
		}
	}
	t.Errorf("%d descriptors stay open, there were %d", now, before)
}

// A flood of connections that say nothing: those beyond the limit are closed
// at once, others are served meanwhile, and in the end nothing is left of it.
func TestFloodOfConnections(t *testing.T) {
	s := start(t, "", nil)
	other := s.elsewhere(t)
	serves(t, other)
	before := s.files(t)
	var flood []net.Conn
	closed := 0
	for range 400 {
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		flood = append(flood, c)
	}
	s.waitFor(t, "too many connections")
	serves(t, other)
	if now := s.files(t); now > before+250 {
		t.Errorf("%d descriptors, %d before", now, before)
	}
	for _, c := range flood { // half of them were closed, and all are once the time for a handshake is over
		if err := c.SetReadDeadline(time.Now().Add(hangs)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			closed++
		}
	}
	if closed != len(flood) {
		t.Errorf("%d of %d were closed", closed, len(flood))
	}
	serves(t, s.client(t, "admin").ClientConn)
	s.settles(t, before+2) // the connections of both clients
}

// Connections that stop in the middle are closed: in the handshake, after it,
// and with something that is no HTTP/2.
func TestHalfOpenConnections(t *testing.T) {
	s := start(t, "", nil)
	creds, err := auth.Identity(s.dir, "admin").ClientCredentials(s.address)
	if err != nil {
		t.Fatal(err)
	}
	over := func(t *testing.T) net.Conn {
		raw, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := creds.ClientHandshake(t.Context(), "localhost", raw)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, open := range map[string]func(t *testing.T) net.Conn{
		"nothing": func(t *testing.T) net.Conn {
			c, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		"the beginning of a handshake": func(t *testing.T) net.Conn {
			c, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte{22, 3, 1, 1, 0, 1, 0}); err != nil {
				t.Fatal(err)
			}
			return c
		},
		"a handshake, and nothing": over,
		"no HTTP/2": func(t *testing.T) net.Conn {
			c := over(t)
			if _, err := fmt.Fprint(c, "GET / HTTP/1.1\r\n\r\n"+strings.Repeat("x", 1000)); err != nil {
				t.Fatal(err)
			}
			return c
		},
		"HTTP/2 with a frame that is too large": func(t *testing.T) net.Conn {
			c := over(t)
			if _, err := fmt.Fprint(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\x00\x00\x00\x00\x00"); err != nil {
				t.Fatal(err)
			}
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t)
			defer c.Close()
			if err := c.SetReadDeadline(time.Now().Add(hangs)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.As(err, new(*tls.AlertError)) && !strings.Contains(err.Error(), "closed the connection") {
				t.Errorf("it stays open: %v", err)
			}
			serves(t, s.client(t, "admin").ClientConn)
		})
	}
}

// Streams that are begun and never go on, on one connection: others are served.
func TestHalfOpenStreams(t *testing.T) {
	s := start(t, "", nil)
	c := s.client(t, "admin").ClientConn
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	defer cancel()
	for range 60 { // with two streams each: more wait at the client
		stream, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, sessionv1.SessionService_Watch_FullMethodName)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.SendMsg(&sessionv1.WatchRequest{Id: "x"}); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if _, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, sessionv1.SessionService_Start_FullMethodName); err != nil {
			t.Fatal(err)
		}
	}
	serves(t, s.elsewhere(t))
	cancel()
	serves(t, c)
}

// Bad requests are refused, each with its code, and cost nothing.
func TestBadRequests(t *testing.T) {
	s := start(t, "", nil)
	c := s.client(t, "admin").ClientConn
	ours := sessionv1.NewSessionServiceClient(c)
	startOf := func(change func(*sessionv1.Spec)) func(context.Context) error {
		return func(ctx context.Context) error {
			spec := specOf(int32(os.Getpid()))
			change(spec)
			_, err := ours.Start(ctx, &sessionv1.StartRequest{Spec: spec})
			return err
		}
	}
	for name, of := range map[string]struct {
		call   func(context.Context) error
		code   codes.Code
		reason string
	}{
		"no spec": {func(ctx context.Context) error {
			_, err := ours.Start(ctx, &sessionv1.StartRequest{})
			return err
		}, codes.InvalidArgument, "no_target"},
		"negative PID":           {startOf(func(s *sessionv1.Spec) { s.Pids = []int32{-1} }), codes.InvalidArgument, "bad_pid"},
		"PID 0":                  {startOf(func(s *sessionv1.Spec) { s.Pids = []int32{0} }), codes.InvalidArgument, "bad_pid"},
		"largest PID":            {startOf(func(s *sessionv1.Spec) { s.Pids = []int32{1<<31 - 1} }), codes.NotFound, "no_such_process"},
		"many PIDs":              {startOf(func(s *sessionv1.Spec) { s.Pids = make([]int32, 100_000) }), codes.InvalidArgument, "too_many_targets"},
		"negative duration":      {startOf(func(s *sessionv1.Spec) { s.Duration = durationpb.New(-time.Second) }), codes.InvalidArgument, "bad_duration"},
		"endless duration":       {startOf(func(s *sessionv1.Spec) { s.Duration = &durationpb.Duration{Seconds: 1<<63 - 1, Nanos: 1<<31 - 1} }), codes.InvalidArgument, "bad_duration"},
		"negative frequency":     {startOf(func(s *sessionv1.Spec) { s.FrequencyHz = -99 }), codes.InvalidArgument, "bad_frequency"},
		"largest frequency":      {startOf(func(s *sessionv1.Spec) { s.FrequencyHz = 1<<31 - 1 }), codes.InvalidArgument, "bad_frequency"},
		"negative wait":          {startOf(func(s *sessionv1.Spec) { s.MaxWait = durationpb.New(-1) }), codes.InvalidArgument, "bad_max_wait"},
		"long request ID":        {startOf(func(s *sessionv1.Spec) { s.RequestId = strings.Repeat("x", 1000) }), codes.InvalidArgument, "bad_text"},
		"request ID of controls": {startOf(func(s *sessionv1.Spec) { s.RequestId = "\x1b[2J" }), codes.InvalidArgument, "bad_text"},
		"requester of controls":  {startOf(func(s *sessionv1.Spec) { s.Requester = "a\nb" }), codes.InvalidArgument, "bad_text"},
		"huge message":           {startOf(func(s *sessionv1.Spec) { s.RequestId = strings.Repeat("x", 2<<20) }), codes.ResourceExhausted, ""},
		"unknown session": {func(ctx context.Context) error {
			_, err := ours.Get(ctx, &sessionv1.GetRequest{Id: "../../etc/passwd"})
			return err
		}, codes.NotFound, "no_such_session"},
		"long session": {func(ctx context.Context) error {
			_, err := ours.Cancel(ctx, &sessionv1.CancelRequest{Id: strings.Repeat("x", 1<<19)})
			return err
		}, codes.NotFound, "no_such_session"},
		"unknown session, watched": {func(ctx context.Context) error {
			stream, err := ours.Watch(ctx, &sessionv1.WatchRequest{Id: "x"})
			return first(stream, err)
		}, codes.NotFound, "no_such_session"},
		"unknown session, fetched": {func(ctx context.Context) error {
			stream, err := ours.Fetch(ctx, &sessionv1.FetchRequest{Id: "x"})
			return first(stream, err)
		}, codes.NotFound, "no_such_session"},
		"negative offset": {func(ctx context.Context) error {
			stream, err := ours.Fetch(ctx, &sessionv1.FetchRequest{Id: "x", Offset: -1})
			return first(stream, err)
		}, codes.InvalidArgument, "bad_offset"},
		"unknown session, by the first interface": {func(ctx context.Context) error {
			stream, err := profiler.NewProfilerServiceClient(c).GetProfilingResults(ctx, &profiler.GetProfilingResultsRequest{SessionId: strings.Repeat("y", 1<<19)})
			return first(stream, err)
		}, codes.NotFound, ""},
		"unknown type of check": {func(ctx context.Context) error {
			_, err := monitoring.NewAgentServiceClient(c).GetResults(ctx, &monitoring.ResultsRequest{ServiceType: strings.Repeat("z", 1<<19)})
			return err
		}, codes.Unimplemented, ""},
		"unknown method": {func(ctx context.Context) error {
			return c.Invoke(ctx, "/serviceradar.session.v1.SessionService/Format", &sessionv1.GetRequest{}, &sessionv1.GetResponse{})
		}, codes.Unimplemented, ""},
		"large header": {func(ctx context.Context) error {
			_, err := ours.List(metadata.AppendToOutgoingContext(ctx, "x", strings.Repeat("x", 64<<10)), &sessionv1.ListRequest{})
			return err
		}, codes.Internal, ""}, // the client does not send it
	} {
		ctx, cancel := context.WithTimeout(t.Context(), hangs)
		err := of.call(ctx)
		cancel()
		if status.Code(err) != of.code || reason(err) != of.reason {
			t.Errorf("%s: %v [%s], want %v [%s]", name, err, reason(err), of.code, of.reason)
		}
		if err != nil && len(err.Error()) > 4<<10 {
			t.Errorf("%s: an answer of %d bytes", name, len(err.Error()))
		}
	}
	serves(t, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, raw := range s.raw {
		if len(raw) > 8<<10 || strings.Contains(raw, "panic") {
			t.Errorf("a line of the log has %d bytes: %.300s", len(raw), raw)
		}
	}
}

// Without certificates everybody is the same peer, with a role of his own.
func TestModeNone(t *testing.T) {
	s := start(t, "", func(s *service) {
		err := os.WriteFile(filepath.Join(s.dir, "profiler.json"),
			[]byte(`{"listen_addr": "127.0.0.1:0", "security": {"mode": "none"}, "access": {"roles": {"local": ["viewer"], "*": ["admin"]}}}`), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	})
	creds, err := (&auth.Security{Mode: "none"}).ClientCredentials(s.address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	serves(t, c)
	_, err = sessionv1.NewSessionServiceClient(c).Start(t.Context(), &sessionv1.StartRequest{Spec: specOf(int32(os.Getpid()))})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("who has no certificate is everybody: %v", err)
	}
	s.hasAudit(t, map[string]any{"answer": "refused", "peer": "local", "call": "start", "code": "not_permitted"})
}
