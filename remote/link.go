// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
)

// link is how one server is reached. It keeps what the last attempt to connect
// ended with, as the error it was: gRPC hands on only its text, and what a
// user must do depends on it.
type link struct {
	address string

	mu   sync.Mutex
	last attempt
}

// attempt is what became of connecting: no error once a connection is up.
type attempt struct {
	err   error
	stage stage
}

// stage is how far an attempt came.
type stage int

const (
	dialing     stage = iota
	handshaking       // a server is there, and is to prove who it is
	answered          // the server is to be believed; with TLS 1.3 only its first answer says whether we are
)

func (l *link) note(err error, s stage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = attempt{err, s}
}

func (l *link) lastAttempt() attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// transient says whether it may be different at once: nobody was there, or
// somebody who had to go.
func (a *attempt) transient() bool {
	if a.err == nil || a.stage == dialing {
		return true
	}
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, context.DeadlineExceeded, os.ErrDeadlineExceeded} {
		if errors.Is(a.err, e) {
			return true
		}
	}
	return false
}

func (l *link) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil && ctx.Err() != context.Canceled {
		l.note(err, dialing)
	}
	return conn, err
}

// linkCredentials are those of the user, watched.
type linkCredentials struct {
	credentials.TransportCredentials
	link *link
}

func (c *linkCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		if ctx.Err() != context.Canceled {
			c.link.note(err, handshaking)
		}
		return nil, nil, err
	}
	c.link.note(nil, answered)
	return &linkConn{conn, c.link}, info, nil
}

func (c *linkCredentials) Clone() credentials.TransportCredentials {
	return &linkCredentials{c.TransportCredentials.Clone(), c.link}
}

// linkConn notes what the server's first answer says, if it is a refusal.
type linkConn struct {
	net.Conn
	link *link
}

func (c *linkConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.look(err)
	return n, err
}

func (c *linkConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.look(err)
	return n, err
}

func (c *linkConn) look(err error) {
	var explained *auth.Error
	if err != nil && (errors.As(err, &explained) || isAlert(err)) {
		c.link.note(err, answered)
	}
}

// isAlert says whether an error is what the other side said by TLS.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// explain makes of a failed call the error that a user can do something about.
// The context is the caller's.
func (l *link) explain(ctx context.Context, err error) error {
	s := status.Convert(err)
	if e := carriedError(s); e != nil {
		return e
	}
	if ctx.Err() == context.Canceled {
		return ctx.Err()
	}
	e := &session.Error{Code: codeNames[s.Code()], Kind: KindOf(s.Code()), Cause: textError(s.Message())}
	switch s.Code() {
	case codes.Unavailable:
		return l.unavailable(e)
	case codes.DeadlineExceeded:
		e.Kind, e.Cause = session.ErrUnavailable, context.DeadlineExceeded
		e.Problem, e.Remedy = fmt.Sprintf("%s did not answer in time", l.address), "try again, or give it more time"
		if last := l.lastAttempt(); last.err != nil {
			e.Problem = fmt.Sprintf("%s cannot be reached: %v", l.address, last.err)
		}
	case codes.Unimplemented:
		e.Problem, e.Remedy = fmt.Sprintf("what answers at %s does not know this call", l.address),
			"it is no profiler of this kind, or an older one: compare versions, or check the address"
	case codes.PermissionDenied, codes.Unauthenticated:
		e.Problem, e.Remedy = fmt.Sprintf("%s does not permit this call", l.address), "use a certificate that may do this"
	case codes.ResourceExhausted:
		e.Problem, e.Remedy = fmt.Sprintf("%s has no room for this call, or the message is too long", l.address), "try again later, or ask for less"
	default:
		if e.Code == "" {
			e.Code = codeNames[codes.Internal]
		}
		e.Problem, e.Remedy = fmt.Sprintf("the call to %s failed", l.address), "the log of the service there says more"
	}
	return e
}

// unavailable says why no server answered.
func (l *link) unavailable(e *session.Error) error {
	last := l.lastAttempt()
	if last.err != nil {
		e.Cause = last.err
	}
	if last.stage == answered && !last.transient() {
		e.Kind = fs.ErrPermission
	}
	var explained *auth.Error
	switch {
	case errors.As(last.err, &explained) && (explained.Code != "handshake_failed" || !last.transient()): // who is killed in it does not distrust
		e.Code, e.Problem, e.Remedy, e.Cause = explained.Code, explained.Problem, explained.Remedy, explained.Cause
		if !strings.Contains(e.Problem, l.address) { // it knows the name that the server was to have
			e.Problem = l.address + ": " + e.Problem
		}
	case last.err == nil:
		e.Code, e.Problem = "connection_lost", fmt.Sprintf("the connection to %s broke", l.address)
		e.Remedy = "try again; if it never works, the server may want TLS, or be no profiler"
	case last.transient():
		e.Problem, e.Remedy = fmt.Sprintf("%s cannot be reached", l.address), "check that the service runs there, and the address"
	default:
		e.Code, e.Problem = "tls_refused", fmt.Sprintf("there is no secure connection to %s", l.address)
		e.Remedy = "check the certificates of both sides, and that a profiler answers there"
	}
	return e
}
