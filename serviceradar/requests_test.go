// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	legacy "github.com/carverauto/serviceradar-profiler/proto/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
)

// bytesAsTheyAre stands for the codec of messages: it sends any bytes.
type bytesAsTheyAre struct{}

func (bytesAsTheyAre) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (bytesAsTheyAre) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(b)
	return nil
}
func (bytesAsTheyAre) Name() string { return "proto" }

// rpc is a method that can be called, in any service.
type rpc struct {
	path   string
	stream grpc.StreamDesc
}

// allOfIt is a service with all its interfaces, behind a gate, in this process.
func allOfIt(f *testing.F) (*grpc.ClientConn, []rpc, func() string) {
	f.Helper()
	limits := profiler.DefaultLimits()
	limits.MaxConcurrentSessions, limits.MaxQueuedSessions, limits.MaxSessionDurationSeconds = 1, 1, 1
	limits.GracePeriodSeconds, limits.SpoolDir = 0, f.TempDir()
	r := profiler.NewRecorder(1<<20, 1<<20)
	f.Cleanup(r.Close)
	sessions, err := profiler.NewSessions(r, limits)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := sessions.Close(context.Background()); err != nil {
			f.Error(err)
		}
	})
	gate, err := access.New(sessions, &access.Policy{Roles: map[string][]string{"root": {"admin"}}, Rate: access.Rate{PerSecond: 1e6, Burst: 1e6}}, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	var mu sync.Mutex
	var log bytes.Buffer
	root := func(ctx context.Context) context.Context { return auth.WithPeer(ctx, auth.Peer{CommonName: "root"}) }
	server := grpc.NewServer(append(remote.ServerOptions(slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(b)
	}), nil))), grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		return handle(root(ctx), request)
	}), grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		return handle(srv, &withContext{stream, root(stream.Context())})
	}))...)
	remote.NewServer(gate, 0).Register(server)
	RegisterServiceRadar(server, gate, About{Host: "web1", HostIP: "192.0.2.1", Version: "1", Limits: func() remote.Limits { return remote.Limits{MaxSessionDurationSeconds: 1} },
		Health: func() remote.Health { return remote.Health(sessions.Health()) }})
	l := bufconn.Listen(1 << 20)
	go server.Serve(l)
	f.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///in-process", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	var methods []rpc
	for service, info := range server.GetServiceInfo() {
		for _, m := range info.Methods {
			methods = append(methods, rpc{"/" + service + "/" + m.Name, grpc.StreamDesc{ClientStreams: m.IsClientStream, ServerStreams: m.IsServerStream}})
		}
	}
	slices.SortFunc(methods, func(a, b rpc) int { return strings.Compare(a.path, b.path) })
	return conn, methods, func() string {
		mu.Lock()
		defer mu.Unlock()
		said := log.String()
		log.Reset()
		return said
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

type withContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (w *withContext) Context() context.Context { return w.ctx }

// ofSessions is a message of package remote's own service.
func ofSessions(t testing.TB, name, text string) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName("serviceradar.session.v1." + name))
	if err != nil {
		t.Fatal(err)
	}
	m := kind.New().Interface()
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Whatever bytes come as a request, of whatever method: there is an answer, or
// a status that says what is wrong with it, and no fault of ours.
func FuzzRequests(f *testing.F) {
	conn, methods, said := allOfIt(f)
	seeds := map[string]proto.Message{
		"": ofSessions(f, "GetRequest", `id: "x"`),
		"/serviceradar.session.v1.SessionService/Start": ofSessions(f, "StartRequest",
			`spec {pids: 1 pids: -1 children: true duration {nanos: -1} frequency_hz: 99 request_id: "a" requester: "b" attended: true max_wait {seconds: 1}}`),
		"/serviceradar.session.v1.SessionService/List":  ofSessions(f, "ListRequest", `states: 2 states: 99 pid: -1`),
		"/serviceradar.session.v1.SessionService/Fetch": ofSessions(f, "FetchRequest", `id: "x" format: "folded" offset: -1 digest: "00"`),
		"/profiler.ProfilerService/StartProfiling":      &legacy.StartProfilingRequest{ProcessId: -1, DurationSeconds: 1 << 30, Frequency: 99},
		"/monitoring.AgentService/GetResults":           &monitoring.ResultsRequest{ServiceType: "grpc", Details: `{"session_id": "x"}`, LastSequence: "y"},
		"/monitoring.AgentService/StreamResults":        &monitoring.ResultsRequest{ServiceType: "profiler", Details: `{"pid": 1}`},
	}
	for _, path := range slices.Sorted(maps.Keys(seeds)) {
		b, err := proto.Marshal(seeds[path])
		if err != nil {
			f.Fatal(err)
		}
		for i, m := range methods {
			if path == "" || path == m.path {
				f.Add(byte(i), b)
			}
		}
	}
	f.Add(byte(0), []byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, which byte, request []byte) {
		m := methods[int(which)%len(methods)]
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := exchange(ctx, conn, &m, request)
		switch s := status.Convert(err); s.Code() {
		case codes.OK, codes.InvalidArgument, codes.NotFound, codes.ResourceExhausted, codes.FailedPrecondition, codes.Unimplemented, codes.PermissionDenied, codes.Canceled:
		case codes.Internal:
			if !strings.Contains(s.Message(), "unmarshal") { // gRPC's own answer
				t.Errorf("%s: %v", m.path, err)
			}
		default:
			t.Errorf("%s: %v", m.path, err)
		}
		if log := said(); log != "" {
			t.Errorf("%s: %v; the log has %s", m.path, err, log)
		}
	})
}

// exchange sends one message and takes what comes back: of a stream the first
// message, because some never end.
func exchange(ctx context.Context, conn *grpc.ClientConn, m *rpc, request []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &m.stream, m.path, grpc.ForceCodec(bytesAsTheyAre{}))
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&request); err != nil && err != io.EOF {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	var answer []byte
	if err := stream.RecvMsg(&answer); err != nil && err != io.EOF {
		return err
	}
	return nil
}
