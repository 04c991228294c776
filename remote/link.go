// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/session"
)

// link is how one server is reached. It keeps what the last attempt to connect
// ended with, as the error it was: gRPC hands on only its text, and what a
// user must do depends on it.
type link struct {
	address string

	mu      sync.Mutex
	failure error // of the last attempt; nil once a connection is up
	tls     bool  // it came of the TLS handshake
}

func (l *link) note(failure error, tls bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure, l.tls = failure, tls
}

func (l *link) last() (failure error, tls bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure, l.tls
}

func (l *link) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil && ctx.Err() != context.Canceled {
		l.note(err, false)
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
			c.link.note(err, true)
		}
		return nil, nil, err
	}
	c.link.note(nil, false)
	return &linkConn{conn, c.link}, info, nil
}

func (c *linkCredentials) Clone() credentials.TransportCredentials {
	return &linkCredentials{c.TransportCredentials.Clone(), c.link}
}

// linkConn notes that the server did not like our certificate: with TLS 1.3
// it says so after the handshake, as far as we can tell.
type linkConn struct {
	net.Conn
	link *link
}

func (c *linkConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && isAlert(err) {
		c.link.note(err, true)
	}
	return n, err
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
	e := &session.Error{Code: codeNames[s.Code()], Kind: kindOfCode(s.Code()), Cause: textError(s.Message())}
	switch s.Code() {
	case codes.Unavailable:
		return l.unavailable(e)
	case codes.DeadlineExceeded:
		e.Kind, e.Cause = session.ErrUnavailable, context.DeadlineExceeded
		e.Problem, e.Remedy = fmt.Sprintf("%s did not answer in time", l.address), "try again, or give it more time"
		if failure, _ := l.last(); failure != nil {
			e.Problem = fmt.Sprintf("%s did not answer in time: %v", l.address, failure)
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
	failure, handshake := l.last()
	switch {
	case failure == nil:
		e.Code, e.Problem, e.Remedy = "connection_lost", fmt.Sprintf("the connection to %s broke", l.address),
			"try again; if it never works, the server may want TLS, or be no profiler"
	case !handshake:
		e.Cause = failure
		e.Problem, e.Remedy = fmt.Sprintf("%s cannot be reached", l.address), "check that the service runs there, and the address"
	default:
		e.Cause = failure
		l.refused(e, failure)
	}
	return e
}

// refused says which side broke off the TLS handshake, and why.
func (l *link) refused(e *session.Error, failure error) {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		record    tls.RecordHeaderError
		timeout   net.Error
	)
	e.Code = "tls_refused"
	e.Problem = fmt.Sprintf("there is no TLS connection to %s", l.address)
	switch {
	case isAlert(failure):
		e.Kind = fs.ErrPermission
		e.Problem = fmt.Sprintf("%s refused our certificate or our TLS", l.address)
		e.Remedy = "use a certificate that is valid and signed by the authority it trusts"
	case errors.As(failure, &authority):
		e.Problem = fmt.Sprintf("the certificate of %s is of an authority that we do not trust", l.address)
		e.Remedy = "use the root certificate that it was made with"
	case errors.As(failure, &name):
		e.Problem = fmt.Sprintf("the certificate of %s is for other names: %s", l.address, namesOf(name.Certificate))
		e.Remedy = "set the server name to one of them"
	case errors.As(failure, &invalid) && invalid.Reason == x509.Expired:
		e.Problem = fmt.Sprintf("the certificate of %s is valid from %s to %s, and not now", l.address,
			invalid.Cert.NotBefore.Format(time.RFC3339), invalid.Cert.NotAfter.Format(time.RFC3339))
		e.Remedy = "renew it, and check both clocks"
	case errors.As(failure, &record):
		e.Problem, e.Remedy = fmt.Sprintf("what answers at %s does not speak TLS", l.address), "check the address, and the mode of its security"
	case errors.As(failure, &timeout):
		e.Code, e.Remedy = "unreachable", "check that the service runs there, and the network between"
	default:
		e.Remedy = "check the certificates of both sides, and that a profiler answers there"
	}
}

func namesOf(c *x509.Certificate) string {
	names := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
