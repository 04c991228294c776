// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
)

// certificates are those of one authority, in a directory.
func certificates(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(dir, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func clientCredentials(t testing.TB, s *auth.Security, address string) credentials.TransportCredentials {
	t.Helper()
	creds, err := s.ClientCredentials(address)
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

// listen serves what is registered, over mTLS with the certificates in a
// directory, or in the open if there is none.
func listen(t testing.TB, certDir string, register func(*grpc.Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &auth.Security{Mode: auth.ModeNone}
	if certDir != "" {
		s = auth.Identity(certDir, "profiler")
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	creds, err := s.ServerCredentials(l.Addr().String(), log)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(append(ServerOptions(log), grpc.Creds(creds))...)
	register(server)
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// serveRunner serves a runner over mTLS and is its client.
func serveRunner(t testing.TB, runner session.Runner) *Client {
	t.Helper()
	dir := certificates(t)
	address := listen(t, dir, func(s *grpc.Server) { NewServer(runner, 0).Register(s) })
	return dialed(t, address, clientCredentials(t, auth.Identity(dir, "admin"), address))
}

func dialed(t testing.TB, address string, creds credentials.TransportCredentials) *Client {
	t.Helper()
	c, err := Dial(address, creds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// listener accepts and never says a word.
func listener(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// hangsUp is a server that is killed in each handshake.
func hangsUp(t *testing.T) string {
	l := listener(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0) // what it has not read resets the connection
			c.Close()
		}
	}()
	return l.Addr().String()
}

func TestWhoCannotBeReached(t *testing.T) {
	ours, others := certificates(t), certificates(t)
	nothing := func(*grpc.Server) {}
	secure, open := listen(t, ours, nothing), listen(t, "", nothing)
	silent := listener(t)
	gone := listener(t)
	gone.Close()

	foreign := auth.Identity(others, "admin") // believes our server, but is of another authority
	foreign.TLS.CA = ours + "/root.pem"
	killed := hangsUp(t)
	strict := auth.Identity(ours, "admin")
	strict.ServerName = "elsewhere"
	mtls := auth.Identity(ours, "admin")
	for name, c := range map[string]struct {
		address string
		creds   credentials.TransportCredentials
		code    string
		kind    error
	}{
		"nobody":               {gone.Addr().String(), insecure.NewCredentials(), "unreachable", session.ErrUnavailable},
		"hung up":              {killed, clientCredentials(t, mtls, killed), "unreachable", session.ErrUnavailable},
		"no such service":      {secure, clientCredentials(t, mtls, secure), "not_supported", errors.ErrUnsupported},
		"another authority":    {secure, clientCredentials(t, auth.Identity(others, "admin"), secure), "server_unknown_authority", session.ErrUnavailable},
		"another name":         {secure, clientCredentials(t, strict, secure), "server_wrong_name", session.ErrUnavailable},
		"not believed":         {secure, clientCredentials(t, foreign, secure), "certificate_refused", fs.ErrPermission},
		"in the open":          {secure, clientCredentials(t, &auth.Security{Mode: auth.ModeNone}, secure), "closed_at_once", session.ErrUnavailable},
		"TLS to the open":      {open, clientCredentials(t, mtls, open), "no_tls", session.ErrUnavailable},
		"plain TLS":            {secure, credentials.NewTLS(&tls.Config{RootCAs: x509.NewCertPool()}), "tls_refused", session.ErrUnavailable},
		"plain TLS, anonymous": {secure, credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}), "tls_refused", fs.ErrPermission},
		"silence":              {silent.Addr().String(), insecure.NewCredentials(), "deadline", context.DeadlineExceeded},
		"silence after hello":  {silent.Addr().String(), clientCredentials(t, mtls, silent.Addr().String()), "deadline", context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if c.code == "deadline" { // it will not answer, however long it has
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			client := dialed(t, c.address, c.creds)
			check := func(call string, err error) {
				t.Helper()
				var e *session.Error
				if !errors.As(err, &e) || e.Code != c.code || !errors.Is(err, c.kind) {
					t.Errorf("%s: %#v: %v", call, e, err)
					return
				}
				if !strings.Contains(e.Problem, c.address) || e.Remedy == "" {
					t.Errorf("%s does not say who or what to do: %v", call, err)
				}
				t.Log(err)
			}
			_, err := client.Get(ctx, "x")
			check("Get", err)
			_, err = client.Fetch(ctx, "x", session.Want{})
			check("Fetch", err)
			if c.code != "unreachable" && c.code != "closed_at_once" { // Watch waits for them to come back
				for _, err = range client.Watch(ctx, "x") {
				}
				check("Watch", err)
			}
		})
	}
}

func TestBadAddress(t *testing.T) {
	for _, address := range []string{"", "host", "host:1:2"} {
		if _, err := Dial(address, insecure.NewCredentials()); !errors.Is(err, session.ErrInvalid) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// Who gives up is told just that.
func TestCanceledCall(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	client := dialed(t, listener(t).Addr().String(), insecure.NewCredentials())
	if _, err := client.Get(ctx, "x"); err != context.Canceled {
		t.Error(err)
	}
	for _, err := range client.Watch(ctx, "x") {
		if err != context.Canceled {
			t.Error(err)
		}
	}
	if _, err := client.Fetch(ctx, "x", session.Want{}); err != context.Canceled {
		t.Error(err)
	}
}
