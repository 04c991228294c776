// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/session"
)

// maxForwarded bounds one message from the next agent. Its own limit is 4 MiB
// unless somebody raised it.
const maxForwarded = 64 << 20

// Next is the agent behind an agent: to it goes each call that is not for us,
// and its answer goes back, as they are: messages byte by byte, metadata,
// deadline, cancellation, status and its details. Nothing is repeated: whoever
// calls does that.
type Next struct {
	// Answered is told of each call that was handed on: its method, and gRPC's
	// code of the answer. Set it before the first.
	Answered func(method, code string)

	link *link
	conn *grpc.ClientConn
}

// DialNext is the agent at an address, host:port. It does not connect: the
// first call does.
func DialNext(address string, creds credentials.TransportCredentials, more ...grpc.DialOption) (*Next, error) {
	l, conn, err := connect(address, creds, append([]grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newPassCodec()), grpc.MaxCallRecvMsgSize(maxForwarded), grpc.MaxCallSendMsgSize(maxForwarded)),
		// Real agents hang up on who pings more often.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 120 * time.Second, Timeout: 20 * time.Second}),
	}, more...))
	if err != nil {
		return nil, err
	}
	return &Next{Answered: func(string, string) {}, link: l, conn: conn}, nil
}

// Close ends the connection, and with it all calls.
func (n *Next) Close() error { return n.conn.Close() }

// AgentOptions are ServerOptions for a server with RegisterAgent: it takes
// messages as large as real agents do, and hands on what it does not know.
func AgentOptions(log *slog.Logger, next *Next) []grpc.ServerOption {
	options := append(ServerOptions(log), grpc.MaxRecvMsgSize(4<<20), grpc.ForceServerCodecV2(newPassCodec()))
	if next != nil {
		options = append(options, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return next.Forward(stream, nil) }))
	}
	return options
}

// Invoke hands on a call with one request and one answer.
func (n *Next) Invoke(ctx context.Context, method string, in *Raw) (any, error) {
	var (
		out             Raw
		header, trailer metadata.MD
	)
	err := n.conn.Invoke(outgoing(ctx), method, in, &out, grpc.Header(&header), grpc.Trailer(&trailer))
	n.Answered(method, status.Code(err).String())
	// Headers that cannot be set any more are those of a client that has gone.
	_ = errors.Join(grpc.SetHeader(ctx, carried(header)), grpc.SetTrailer(ctx, carried(trailer)))
	if err != nil {
		return nil, n.explain(err)
	}
	return &out, nil
}

// Forward hands on a call of any kind. Its first request may have been read
// already.
func (n *Next) Forward(stream grpc.ServerStream, first *Raw) (err error) {
	method, ok := grpc.MethodFromServerStream(stream)
	if !ok {
		return status.Error(codes.Internal, "a call without a method")
	}
	defer func() { n.Answered(method, status.Code(err).String()) }()
	ctx, cancel := context.WithCancel(outgoing(stream.Context()))
	defer cancel()
	out, err := n.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return n.explain(err)
	}
	go func() {
		if err := requests(stream, out, first); err != nil {
			cancel() // the client has gone, and so must the call
		}
	}()
	return n.answers(stream, out)
}

// requests hands on what the client sends, to its end.
func requests(from grpc.ServerStream, to grpc.ClientStream, first *Raw) error {
	for m := first; ; m = nil {
		if m == nil {
			m = new(Raw)
			if err := from.RecvMsg(m); errors.Is(err, io.EOF) {
				return to.CloseSend()
			} else if err != nil {
				return err
			}
		}
		if err := to.SendMsg(m); err != nil {
			return nil // the next agent has answered already: what, its own side of the stream says
		}
	}
}

// answers hands on what the next agent sends, and how it ends.
func (n *Next) answers(to grpc.ServerStream, from grpc.ClientStream) error {
	header, err := from.Header()
	if err == nil && header != nil {
		if err := to.SendHeader(carried(header)); err != nil {
			return err
		}
	}
	for {
		var m Raw
		if err := from.RecvMsg(&m); err != nil {
			to.SetTrailer(carried(from.Trailer()))
			if errors.Is(err, io.EOF) {
				return nil
			}
			return n.explain(err)
		}
		if err := to.SendMsg(&m); err != nil {
			return err
		}
	}
}

// explain leaves alone what the next agent said, and says what gRPC only hints
// at where there is none.
func (n *Next) explain(err error) error {
	last := n.link.lastAttempt()
	s := status.Convert(err)
	if last.err == nil || s.Code() != codes.Unavailable && s.Code() != codes.DeadlineExceeded {
		return err
	}
	e := &session.Error{Code: "next_agent_unavailable", Kind: session.ErrUnavailable, Cause: last.err,
		Problem: fmt.Sprintf("the next agent at %s cannot be reached", n.link.address),
		Remedy:  "check that it runs, and next_agent_address and next_agent_security in the agent's configuration"}
	explained := statusOf(e)
	if s.Code() == codes.DeadlineExceeded {
		return status.Error(codes.DeadlineExceeded, explained.Message())
	}
	return explained.Err()
}

// outgoing is a context for the call that is handed on: the same deadline and
// cancellation, and the client's metadata.
func outgoing(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	return metadata.NewOutgoingContext(ctx, carried(md))
}

// carried leaves out what belongs to a connection and not to a call.
func carried(md metadata.MD) metadata.MD {
	out := metadata.MD{}
	for key, values := range md {
		switch {
		case strings.HasPrefix(key, ":"), key == "content-type", key == "user-agent", key == "te", key == "host",
			key == "grpc-encoding", key == "grpc-accept-encoding", key == "grpc-timeout", key == "grpc-message-type", key == "grpc-status", key == "grpc-message":
		default:
			out[key] = values
		}
	}
	return out
}
