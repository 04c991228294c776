// SPDX-License-Identifier: Apache-2.0

// Package remote is sessions over gRPC. [Client] is a session.Runner whose
// sessions run elsewhere, [Server] serves any session.Runner to such clients;
// a profile travels between them in checked chunks and goes on where a
// connection broke. What is for somebody else than us goes on to him as it is
// ([Next]).
//
// Messages and codes of gRPC stay inside: what goes in and comes out is of
// package session, also its errors.
package remote

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

const (
	// callTimeout bounds calls whose context has no deadline, but not the
	// streams, which last as long as they have something to tell.
	callTimeout = 15 * time.Second
	// headerTimeout bounds the wait for the first byte of a profile, which may
	// have to be put into another format first.
	headerTimeout = time.Minute
	// callTries bounds how often a call is made: a service that is started
	// again is back within the second or so that they take together.
	callTries = 4
	// resumeFor is long enough for a network to come back. An attended session
	// waits 5 s for its watcher.
	resumeFor = 15 * time.Second

	firstBackoff, maxBackoff = 50 * time.Millisecond, time.Second

	// window is how much of one profile may lie here unread. It is fixed: gRPC's
	// own measuring would let it grow to 16 MiB.
	window = 512 << 10
	// maxMessage bounds one message: a list of sessions with all their targets.
	maxMessage = 16 << 20
	// maxStreamMessage bounds one message of a stream: a chunk, or a session.
	maxStreamMessage = MaxChunkSize + 64<<10

	// pingEvery and pingTimeout bound how long a network can swallow what is
	// sent, unnoticed: our servers let clients ping that often.
	pingEvery, pingTimeout = 30 * time.Second, 10 * time.Second
)

// Client is a session.Fleet whose sessions run behind one address. It may be
// used by many goroutines at once.
type Client struct {
	link  *link
	conn  *grpc.ClientConn
	stub  sessionv1.SessionServiceClient
	fleet sessionv1.FleetServiceClient
	// resumeFor bounds for how long a stream that broke is tried to be resumed.
	resumeFor time.Duration
}

var _ session.Fleet = (*Client)(nil)

// Dial is the client of the service at an address, host:port. It does not
// connect: the first call does.
func Dial(address string, creds credentials.TransportCredentials, more ...grpc.DialOption) (*Client, error) {
	l, conn, err := connect(address, creds, more)
	if err != nil {
		return nil, err
	}
	return &Client{link: l, conn: conn, stub: sessionv1.NewSessionServiceClient(conn), fleet: sessionv1.NewFleetServiceClient(conn), resumeFor: resumeFor}, nil
}

// Connection is one to a service of any kind, whose failures are known better
// than gRPC tells them.
type Connection struct {
	*grpc.ClientConn
	link *link
}

// Connect is the connection to an address, host:port, made as a Client's is. It
// does not connect: the first call does.
func Connect(address string, creds credentials.TransportCredentials, more ...grpc.DialOption) (*Connection, error) {
	l, conn, err := connect(address, creds, more)
	if err != nil {
		return nil, err
	}
	return &Connection{conn, l}, nil
}

// Address is where it leads.
func (c *Connection) Address() string { return c.link.address }

// Failure is what the last attempt to connect ended with; nil once there is a
// connection.
func (c *Connection) Failure() error { return c.link.lastAttempt().err }

// Connection is the client's own. It is closed with the client.
func (c *Client) Connection() *Connection { return &Connection{c.conn, c.link} }

// connect makes a connection whose failures are noted.
func connect(address string, creds credentials.TransportCredentials, more []grpc.DialOption) (*link, *grpc.ClientConn, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, nil, &session.Error{Code: "bad_address", Kind: session.ErrInvalid, Cause: err,
			Problem: fmt.Sprintf("%q is not the address of a service", address), Remedy: "write host:port; profilers listen on port 50084"}
	}
	l := &link{address: address}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(&linkCredentials{creds, l}),
		grpc.WithContextDialer(l.dial), // resolves the name too, and knows no proxy: hosts are near
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(4 * window),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstBackoff, Multiplier: 2, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithMaxHeaderListSize(64 << 10),
		grpc.WithDisableRetry(), // calls are repeated here, where it is known which may be
		grpc.WithDisableServiceConfig(),
	}, more...)
	conn, err := grpc.NewClient("passthrough:///"+address, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("make the client of %s: %w", address, err)
	}
	return l, conn, nil
}

// Close ends the connection, and with it all calls.
func (c *Client) Close() error { return c.conn.Close() }

// Start is repeated when the connection breaks, and leads to one session all
// the same: by its request ID, or because what asks for the same within seconds
// is taken for a repetition.
func (c *Client) Start(ctx context.Context, spec session.Spec) (session.Session, error) {
	if err := sendable(&spec); err != nil {
		return session.Session{}, err
	}
	return call(ctx, c, c.stub.Start, &sessionv1.StartRequest{Spec: specMessage(&spec)})
}

func (c *Client) Get(ctx context.Context, id session.ID) (session.Session, error) {
	return call(ctx, c, c.stub.Get, &sessionv1.GetRequest{Id: Text(string(id))})
}

func (c *Client) Cancel(ctx context.Context, id session.ID) (session.Session, error) {
	return call(ctx, c, c.stub.Cancel, &sessionv1.CancelRequest{Id: Text(string(id))})
}

func (c *Client) List(ctx context.Context, filter session.Filter) ([]session.Session, error) {
	request, err := filterMessage(&filter)
	if err != nil {
		return nil, err
	}
	response, err := repeated(ctx, c, c.stub.List, request)
	if err != nil {
		return nil, err
	}
	var all []session.Session
	for _, m := range response.GetSessions() {
		all = append(all, sessionOf(m))
	}
	return all, nil
}

// method is a call of the service with one answer.
type method[Q, A any] func(context.Context, Q, ...grpc.CallOption) (A, error)

// call makes a call whose answer is one session.
func call[Q any, A interface{ GetSession() *sessionv1.Session }](ctx context.Context, c *Client, m method[Q, A], request Q) (session.Session, error) {
	answer, err := repeated(ctx, c, m, request)
	if err != nil {
		return session.Session{}, err
	}
	return sessionOf(answer.GetSession()), nil
}

// repeated makes a call, and again when the connection broke: all calls of the
// service may be repeated.
func repeated[Q, A any](ctx context.Context, c *Client, m method[Q, A], request Q) (A, error) {
	within := ctx
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	for try, left := 1, false; ; try++ {
		var there peer.Peer // stays empty where the call never left
		answer, err := m(within, request, grpc.Peer(&there))
		if err == nil {
			return answer, nil
		}
		broke := carriedError(status.Convert(err)) == nil
		if try == callTries || !c.link.mayRetry(err) || pause(within, try) != nil {
			undone := !left && (!broke || there.Addr == nil)
			return answer, undoneOnlyIf(undone, broke, c.link.explain(ctx, err))
		}
		left = left || there.Addr != nil
	}
}

// undoneOnlyIf notes in the error of a call whether it was not done, for sure.
// Of what broke, this side alone knows; of what was answered the other side
// does, but not of the tries before.
func undoneOnlyIf(undone, broke bool, err error) error {
	var e *session.Error
	if errors.As(err, &e) {
		e.Undone = undone && (broke || e.Undone)
	}
	return err
}

// mayRetry says whether an error may go away by itself at once: nobody
// answered, and not because we do not trust one another.
func (l *link) mayRetry(err error) bool {
	s := status.Convert(err)
	if s.Code() != codes.Unavailable || carriedError(s) != nil {
		return false
	}
	last := l.lastAttempt()
	return last.transient()
}

// pause waits before the next try, longer each time, and never exactly as long
// as everybody else does.
func pause(ctx context.Context, try int) error {
	wait := min(firstBackoff<<min(try, 10), maxBackoff)
	wait = wait/2 + rand.N(wait/2)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait):
		return nil
	}
}

// Watch goes on by itself after a short break of the connection.
func (c *Client) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		since, try := time.Now(), 0
		for {
			more, err := c.watchOnce(ctx, id, func(s session.Session) bool {
				ok := yield(s, nil)
				since, try = time.Now(), 0
				return ok
			})
			if !more {
				return
			}
			try++
			if !c.link.mayRetry(err) || time.Since(since) > c.resumeFor || pause(ctx, try) != nil {
				yield(session.Session{}, c.link.explain(ctx, err))
				return
			}
		}
	}
}

// watchOnce yields what one stream tells. There is more to tell if it broke.
func (c *Client) watchOnce(ctx context.Context, id session.ID, yield func(session.Session) bool) (more bool, _ error) {
	stream, err := c.stub.Watch(ctx, &sessionv1.WatchRequest{Id: Text(string(id))}, grpc.MaxCallRecvMsgSize(maxStreamMessage))
	if err != nil {
		return true, err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return true, streamError(err)
		}
		s := sessionOf(m.GetSession())
		if !yield(s) || s.State.Final() {
			return false, nil
		}
	}
}
