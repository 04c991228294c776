// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// checkLoopback refuses to go without certificates to where others can reach.
func checkLoopback(verb, address string) error {
	if OnLoopback(address) {
		return nil
	}
	return notLoopback(fmt.Sprintf("security mode none may not %s %q, which is not on the loopback interface", verb, address), "use mode mtls, or 127.0.0.1")
}

func notLoopback(problem, remedy string) error {
	return &Error{Code: "insecure_not_loopback", Problem: problem, Remedy: remedy}
}

// plain is mode none. It looks at each connection, whatever names led to it.
type plain struct {
	credentials.TransportCredentials
	log *refusals
}

func newPlain(log *slog.Logger) credentials.TransportCredentials {
	return &plain{insecure.NewCredentials(), newRefusals(log)}
}

// ServerHandshake takes connections that came over the loopback interface.
func (p *plain) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if !isLoopback(c.LocalAddr()) || !isLoopback(c.RemoteAddr()) {
		err := notLoopback(fmt.Sprintf("%v connects to %v without certificates", c.RemoteAddr(), c.LocalAddr()), "only the loopback interface may")
		p.log.refused(c, err)
		return nil, nil, err
	}
	c, _, err := p.TransportCredentials.ServerHandshake(c)
	return c, localInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}, err
}

// ClientHandshake goes on where the loopback interface was dialed.
func (p *plain) ClientHandshake(ctx context.Context, authority string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if !isLoopback(c.RemoteAddr()) {
		return nil, nil, notLoopback(fmt.Sprintf("security mode none may not connect to %v, which is not on the loopback interface", c.RemoteAddr()), "use mode mtls")
	}
	c, info, err := p.TransportCredentials.ClientHandshake(ctx, authority, c)
	if err != nil {
		return nil, nil, err
	}
	return &answer{Conn: c, explain: func(err error) error { return explainClosed(authority, err) }}, info, nil
}

// Clone copies, as gRPC wants.
func (p *plain) Clone() credentials.TransportCredentials {
	return &plain{p.TransportCredentials.Clone(), p.log}
}

// explainClosed says what a server that wants TLS does with one who does not
// speak it: it hangs up.
func explainClosed(peer string, err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	return &Error{Code: "closed_at_once", Problem: peer + " closed the connection at once", Cause: err,
		Remedy: "if it wants certificates, do not go without (mode mtls)"}
}

func isLoopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}
