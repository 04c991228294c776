// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

// mutual is mode mtls: each handshake with what the files say by then, and
// with sentences for what goes wrong in it.
type mutual struct {
	keys       *keyring
	serverName string // for clients
	log        *refusals
}

// ClientHandshake makes sure of the server, and shows it our certificate.
//
// In TLS 1.3 the client is done before the server has looked at its
// certificate. So the server's answer to that is the first thing that is read.
func (m *mutual) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, peer, name := m.keys.config(), authority, authority
	if m.serverName != "" { // then gRPC's authority is that, too
		config, peer, name = config.Clone(), raw.RemoteAddr().String(), m.serverName
		config.ServerName = name
	}
	c, info, err := credentials.NewTLS(config).ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, explainServer(peer, name, m.keys.files.CA, err)
	}
	return &answer{Conn: c, explain: func(err error) error { return explainRefusal(peer, m.keys.files.Cert, err) }}, info, nil
}

// ServerHandshake makes sure of the client.
func (m *mutual) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	held := &heldOpen{Conn: raw, hold: true}
	c, info, err := credentials.NewTLS(m.keys.config()).ServerHandshake(held)
	held.hold = false
	if err != nil {
		err = explainClient(err)
		m.log.refused(raw, err)
		linger(raw)
		raw.Close() // what is left to say was said
		return nil, nil, err
	}
	return c, info, nil
}

// Info tells gRPC which name the server has.
func (m *mutual) Info() credentials.ProtocolInfo {
	return credentials.NewTLS(&tls.Config{ServerName: m.serverName}).Info()
}

// Clone copies, as gRPC wants; the files stay in common.
func (m *mutual) Clone() credentials.TransportCredentials {
	n := *m
	return &n
}

// OverrideServerName is of gRPC's interface.
func (m *mutual) OverrideServerName(name string) error {
	m.serverName = name
	return nil
}

// heldOpen is not closed by a handshake that fails: the client is still to
// read why.
type heldOpen struct {
	net.Conn
	hold bool
}

func (h *heldOpen) Close() error {
	if h.hold {
		return nil
	}
	return h.Conn.Close()
}

// linger lets the client read why it was refused: to close while it is still
// sending would reset the connection, and throw the reason away.
func linger(c net.Conn) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.SetReadDeadline(time.Now().Add(lingering)) != nil {
		return
	}
	io.Copy(io.Discard, io.LimitReader(c, 64<<10)) // until the client hangs up, or has had its time
}

const lingering = 500 * time.Millisecond

// answer explains why there is no answer on a connection that a client made.
type answer struct {
	net.Conn
	explain func(error) error
	begun   atomic.Bool
}

func (a *answer) Read(b []byte) (int, error) {
	n, err := a.Conn.Read(b)
	if err != nil && !a.begun.Load() {
		err = a.explain(err)
	}
	if n > 0 {
		a.begun.Store(true)
	}
	return n, err
}

// Write looks for the reason, where the other side has hung up: to be unable
// to go on writing is none.
func (a *answer) Write(b []byte) (int, error) {
	n, err := a.Conn.Write(b)
	if err == nil || a.begun.Load() || a.Conn.SetReadDeadline(time.Now().Add(lingering)) != nil {
		return n, err
	}
	if _, said := a.Conn.Read(make([]byte, 1)); said != nil {
		err = a.explain(said)
	}
	return n, err
}

// refusals logs who was refused, at most once a second: whoever is refused
// must not fill our disk.
type refusals struct {
	log *slog.Logger

	mu     sync.Mutex
	last   time.Time
	silent int
}

func newRefusals(log *slog.Logger) *refusals { return &refusals{log: log} }

func (r *refusals) refused(c net.Conn, why error) {
	if r == nil || r.log == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.last) < time.Second {
		r.silent++
		return
	}
	r.log.Warn("connection refused", "peer", c.RemoteAddr().String(), "error", why.Error(), "more_since_last", r.silent)
	r.last, r.silent = time.Now(), 0
}
