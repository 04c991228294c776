// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// arrived is what the next agent saw of a call.
type arrived struct {
	method   string
	metadata metadata.MD
	deadline time.Time
	messages [][]byte
	ended    error // why its context was over, once it was
}

// nextAgent is a gRPC server that knows of no message what it means: it sees
// bytes, and answers with bytes.
type nextAgent struct {
	*grpc.Server
	address string
	calls   chan *arrived
	// answer may send and return what it likes; the request was read to its end.
	answer func(c *arrived, out grpc.ServerStream) error
}

func newNextAgent(t testing.TB, address string) *nextAgent {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	n := &nextAgent{address: l.Addr().String(), calls: make(chan *arrived, 10)}
	n.Server = grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.MaxRecvMsgSize(16<<20), grpc.UnknownServiceHandler(n.handle))
	done := make(chan error, 1)
	go func() { done <- n.Serve(l) }()
	t.Cleanup(func() {
		n.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	return n
}

func (n *nextAgent) handle(_ any, stream grpc.ServerStream) error {
	c := new(arrived)
	c.method, _ = grpc.MethodFromServerStream(stream)
	c.metadata, _ = metadata.FromIncomingContext(stream.Context())
	c.deadline, _ = stream.Context().Deadline()
	var err error
	for err == nil {
		var m []byte
		if err = stream.RecvMsg(&m); err == nil {
			c.messages = append(c.messages, m)
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	err = n.answer(c, stream)
	n.calls <- c
	return err
}

// front is an agent before another one, with one session of its own.
func front(t testing.TB, next *remote.Next) *grpc.ClientConn {
	t.Helper()
	server := grpc.NewServer(remote.AgentOptions(slog.New(slog.DiscardHandler), next)...)
	RegisterAgent(server, example(), About{Host: "web1", HostIP: "192.0.2.7", Version: "1.2.3", AgentID: "ours", Limits: func() remote.Limits { return remote.Limits{} },
		Health:   func() remote.Health { return remote.Health{Healthy: true} },
		Profiler: func() remote.ProfilerStatus { return remote.ProfilerStatus{Address: "127.0.0.1:50084", State: "ready"} },
		Serving:  func() bool { return true }}, next)
	return dial(t, server)
}

func toNext(t testing.TB, address string) *remote.Next {
	t.Helper()
	next, err := remote.DialNext(address, insecure.NewCredentials())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := next.Close(); err != nil {
			t.Error(err)
		}
	})
	return next
}

// unknownFields are valid fields that no version of the messages has.
func unknownFields(r *rand.Rand) []byte {
	var b []byte
	for range r.IntN(6) {
		field := 1000 + r.Uint64N(1<<20)
		if r.IntN(2) == 0 {
			b = append(b, number(field, r.Uint64())...)
		} else {
			b = append(b, bytesField(field, string(noise(r, r.IntN(3000))))...)
		}
	}
	return b
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Each method and message goes on byte by byte, and its answers come back so;
// with metadata both ways, deadline, and the details of an error.
func TestForwardedAsItIs(t *testing.T) {
	agent := newNextAgent(t, "127.0.0.1:0")
	next := toNext(t, agent.address)
	answered := make(chan string, 1)
	next.Answered = func(method, code string) { answered <- method + " " + code }
	conn := front(t, next)
	r := rand.New(rand.NewPCG(7, 7))
	check := func(serviceType string) []byte {
		return slices.Concat(unknownFields(r), bytesField(2, serviceType), bytesField(1, "a name"), unknownFields(r))
	}
	one := &grpc.StreamDesc{}
	answers := &grpc.StreamDesc{ServerStreams: true}
	both := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	for i, c := range []struct {
		method   string
		desc     *grpc.StreamDesc
		requests [][]byte
		answers  int
		fails    bool
	}{
		{methodCheck, one, [][]byte{check("icmp")}, 1, false},
		{methodCheck, one, [][]byte{check("grpc")}, 1, true},
		{methodCheck, one, [][]byte{check("")}, 1, false},
		{methodCheck, one, [][]byte{nil}, 1, false},
		{methodCheck, one, [][]byte{append(check("profiler"), bytesField(2, "sweep")...)}, 1, false}, // the last one counts
		{methodCheck, one, [][]byte{[]byte("\xff\xff no message at all")}, 1, false},
		{methodCheckResults, one, [][]byte{check("sync")}, 1, false},
		{methodCheckResults, one, [][]byte{append(check("sweep"), bytesField(5, string(noise(r, 3<<20)))...)}, 1, false},
		{"/monitoring.AgentService/StreamResults", answers, [][]byte{check("sweep")}, 7, false},
		{"/monitoring.AgentService/StreamResults", answers, [][]byte{check("sync")}, 3, true},
		{"/monitoring.AgentService/GetDeviceStatus", one, [][]byte{noise(r, 99)}, 1, false},
		{"/monitoring.AgentService/SweepAll", both, [][]byte{noise(r, 5), nil, noise(r, 500_000)}, 5, false},
		{"/proto.KVService/Watch", both, [][]byte{noise(r, 5), noise(r, 7)}, 9, true},
		{"/proto.KVService/Put", both, nil, 0, false},
	} {
		what := fmt.Sprintf("%d %s", i, c.method)
		var sent [][]byte
		for range c.answers {
			sent = append(sent, noise(r, r.IntN(2<<20)))
		}
		failure := failed(t, r)
		agent.answer = func(_ *arrived, out grpc.ServerStream) error {
			err := out.SetHeader(metadata.Pairs("from-next", "header", "some-bin", "\x00\xff"))
			out.SetTrailer(metadata.Pairs("from-next", "trailer", "from-next", "twice"))
			for _, m := range sent {
				if c.fails && c.desc == one {
					break
				}
				err = errors.Join(err, out.SendMsg(&m))
			}
			if c.fails {
				return failure
			}
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		deadline, _ := ctx.Deadline()
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer x", "mine-bin", string(noise(r, 40)), "twice", "1", "twice", "2")
		got, header, trailer, err := talk(t, conn, ctx, c.desc, c.method, c.requests)
		cancel()
		if told, want := <-answered, c.method+" "+status.Code(err).String(); told != want {
			t.Errorf("%s: it is told of %s, want %s", what, told, want)
		}
		seen := <-agent.calls
		mine, _ := metadata.FromOutgoingContext(ctx)
		for key, values := range mine {
			if !slices.Equal(seen.metadata[key], values) {
				t.Errorf("%s: metadata %s is %q, want %q", what, key, seen.metadata[key], values)
			}
		}
		if late := deadline.Sub(seen.deadline).Abs(); late > time.Minute {
			t.Errorf("%s: the deadline is %v off", what, late)
		}
		if seen.method != c.method || !slices.EqualFunc(seen.messages, c.requests, bytes.Equal) {
			t.Errorf("%s: %s arrived with %d messages, other ones than were sent", what, seen.method, len(seen.messages))
		}
		if c.fails && c.desc == one {
			sent = nil
		}
		if !slices.EqualFunc(got, sent, bytes.Equal) {
			t.Errorf("%s: %d answers, other ones than %d", what, len(got), len(sent))
		}
		if len(sent) > 0 && !slices.Equal(header["some-bin"], []string{"\x00\xff"}) || !slices.Equal(trailer["from-next"], []string{"trailer", "twice"}) {
			t.Errorf("%s: header %v, trailer %v", what, header, trailer)
		}
		if c.fails != (err != nil) || c.fails && !proto.Equal(status.Convert(err).Proto(), status.Convert(failure).Proto()) {
			t.Errorf("%s: %v\nwant %v", what, status.Convert(err).Proto(), status.Convert(failure).Proto())
		}
	}
}

// failed is a status with details.
func failed(t *testing.T, r *rand.Rand) error {
	t.Helper()
	s, err := status.New(codes.Code(1+r.IntN(16)), "no: „über“ 100 %\n").WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}, &errdetails.ErrorInfo{Reason: "R", Domain: "elsewhere", Metadata: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// talk makes a call of any kind in bytes.
func talk(t *testing.T, conn *grpc.ClientConn, ctx context.Context, desc *grpc.StreamDesc, method string, requests [][]byte) (got [][]byte, header, trailer metadata.MD, _ error) {
	t.Helper()
	stream, err := conn.NewStream(ctx, desc, method, grpc.ForceCodec(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range requests {
		if err := stream.SendMsg(&m); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		var m []byte
		err := stream.RecvMsg(&m)
		if err != nil {
			header, _ = stream.Header()
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return got, header, stream.Trailer(), err
		}
		if got = append(got, m); !desc.ServerStreams {
			header, err := stream.Header()
			return got, header, stream.Trailer(), err
		}
	}
}

// Who gives up ends the call at the next agent, too; a deadline that is over
// does the same.
func TestForwardedCancellation(t *testing.T) {
	agent := newNextAgent(t, "127.0.0.1:0")
	begun := make(chan struct{}, 1)
	agent.answer = func(c *arrived, out grpc.ServerStream) error {
		begun <- struct{}{}
		<-out.Context().Done()
		c.ended = out.Context().Err()
		return status.FromContextError(c.ended).Err()
	}
	conn := front(t, toNext(t, agent.address))
	ask := bytesField(2, "sweep")
	for _, method := range []string{methodCheck, methodCheckResults, "/monitoring.AgentService/StreamResults", "/proto.KVService/Watch"} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, _, _, err := talk(t, conn, ctx, &grpc.StreamDesc{ServerStreams: true}, method, [][]byte{ask})
			done <- err
		}()
		<-begun
		cancel()
		if err := <-done; status.Code(err) != codes.Canceled {
			t.Errorf("%s: %v", method, err)
		}
		if c := <-agent.calls; c.ended == nil {
			t.Errorf("%s went on at the next agent", method)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, _, _, err := talk(t, conn, ctx, &grpc.StreamDesc{ServerStreams: true}, method, [][]byte{ask})
		cancel()
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%s: %v", method, err)
		}
		select {
		case <-begun: // else the deadline was over before the call came there
			<-agent.calls
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// What is ours stays here, whatever else is in the message.
func TestOursIsNotForwarded(t *testing.T) {
	agent := newNextAgent(t, "127.0.0.1:0")
	agent.answer = func(*arrived, grpc.ServerStream) error { return nil }
	conn := front(t, toNext(t, agent.address))
	r := rand.New(rand.NewPCG(1, 2))
	ask := slices.Concat(unknownFields(r), bytesField(2, "icmp"), bytesField(2, "profiler"), bytesField(4, "p1"), unknownFields(r))
	_, texts := rawCall(t, conn, methodCheck, ask)
	if o := object(t, []byte(texts[2])); o["version"] != "1.2.3" || texts[6] != "ours" || texts[7] != "p1" {
		t.Errorf("%v", texts)
	}
	_, texts = rawCall(t, conn, methodCheckResults, ask)
	if o := object(t, []byte(texts[2])); o["session_id"] != string(idNew) || texts[6] != "ours" {
		t.Errorf("%v", texts)
	}
	chunks, err := streamed(t, conn, &monitoring.ResultsRequest{ServiceType: "profiler"})
	if err != nil || len(chunks) != 1 {
		t.Errorf("%d chunks, %v", len(chunks), err)
	}
	select {
	case c := <-agent.calls:
		t.Errorf("%s was handed on", c.method)
	default:
	}
}

// Without a next agent, other types are answered as a real agent answers what it
// does not know (observed).
func TestWithoutNextAgent(t *testing.T) {
	conn := front(t, nil)
	for _, of := range []string{"grpc", "icmp", "sweep", "", "nonsense"} {
		ask := slices.Concat(bytesField(1, "name"), bytesField(2, of), bytesField(4, "p1"))
		var out []byte
		if err := conn.Invoke(t.Context(), methodCheck, &ask, &out, grpc.ForceCodec(rawCodec{})); err != nil || len(out) != 0 {
			t.Errorf("%q: %x, %v", of, out, err)
		}
		err := conn.Invoke(t.Context(), methodCheckResults, &ask, &out, grpc.ForceCodec(rawCodec{}))
		if s := status.Convert(err); s.Code() != codes.Unimplemented || s.Message() != "GetResults not supported for service type '"+of+"'" {
			t.Errorf("%q: %v", of, err)
		}
		_, err = streamed(t, conn, &monitoring.ResultsRequest{ServiceType: of})
		if s := status.Convert(err); s.Code() != codes.Unimplemented || s.Message() != "StreamResults not supported for service type '"+of+"'" {
			t.Errorf("%q: %v", of, err)
		}
	}
	var out []byte
	err := conn.Invoke(t.Context(), "/monitoring.AgentService/Nonsense", &out, &out, grpc.ForceCodec(rawCodec{}))
	if s := status.Convert(err); s.Code() != codes.Unimplemented || s.Message() != "unknown method Nonsense for service monitoring.AgentService" {
		t.Errorf("%v", err)
	}
}

// A next agent that is not there is said so, within the call's time, and is
// found again when it is back. Checks of ours go on meanwhile.
func TestNextAgentAway(t *testing.T) {
	gone := newNextAgent(t, "127.0.0.1:0")
	gone.Stop()
	next := toNext(t, gone.address)
	answered := make(chan string, 1)
	next.Answered = func(method, code string) {
		select {
		case answered <- method + " " + code:
		default: // the first one is enough
		}
	}
	conn := front(t, next)
	ask := bytesField(2, "icmp")
	var out []byte
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := conn.Invoke(ctx, methodCheck, &ask, &out, grpc.ForceCodec(rawCodec{}))
	var info *errdetails.ErrorInfo
	for _, d := range status.Convert(err).Details() {
		if is, ok := d.(*errdetails.ErrorInfo); ok {
			info = is
		}
	}
	if status.Code(err) != codes.Unavailable || info.GetReason() != "next_agent_unavailable" || info.GetMetadata()["kind"] != session.KindName(session.ErrUnavailable) || !strings.Contains(err.Error(), gone.address) {
		t.Errorf("%v", err)
	}
	if told := <-answered; told != methodCheck+" Unavailable" {
		t.Errorf("it is told of %s", told)
	}
	if _, texts := rawCall(t, conn, methodCheck, bytesField(2, "profiler")); len(texts[2]) == 0 {
		t.Error("ours is not answered")
	}
	back := newNextAgent(t, gone.address)
	back.answer = func(_ *arrived, out grpc.ServerStream) error {
		m := []byte("back")
		return out.SendMsg(&m)
	}
	for string(out) != "back" {
		if err := conn.Invoke(ctx, methodCheck, &ask, &out, grpc.ForceCodec(rawCodec{})); err != nil && ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// The type is found in any message that protobuf reads, as protobuf reads it.
func FuzzServiceType(f *testing.F) {
	f.Add([]byte{})
	f.Add(slices.Concat(bytesField(1, "n"), bytesField(2, "icmp"), number(6, 99), bytesField(2, "profiler")))
	f.Add([]byte("\x12\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m monitoring.StatusRequest
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		if got, known := serviceType(b); !known || got != m.GetServiceType() {
			t.Errorf("%x: %q, %v, want %q", b, got, known, m.GetServiceType())
		}
	})
}
