// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/auth"
	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// authority is a root that makes certificates for clients of any kind.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// theirs reads the authority of a service.
func theirs(t *testing.T, dir string) *authority {
	t.Helper()
	cert, err := x509.ParseCertificate(readPEM(t, filepath.Join(dir, "root.pem")))
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParseECPrivateKey(readPEM(t, filepath.Join(dir, "root-key.pem")))
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func readPEM(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s is not PEM", file)
	}
	return block.Bytes
}

// certificate is one of an administrator, changed.
func (a *authority) certificate(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "admin.serviceradar"}, DNSNames: []string{"admin.serviceradar"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// startWithKey starts a service whose authority can make more certificates.
func startWithKey(t *testing.T, access string) *service {
	t.Helper()
	return start(t, "", func(s *service) {
		if _, err := auth.WriteTryoutCertificates(s.dir, auth.Tryout{Overwrite: true, KeepKey: true}); err != nil {
			t.Fatal(err)
		}
		s.setAccess(t, access)
	})
}

// Who cannot prove who he is may nothing at all, though he says that he is the
// administrator; each kind of connection at each call, beside one that may.
func TestConnectionsAtCalls(t *testing.T) {
	s := startWithKey(t, `{"roles": {"admin.serviceradar": ["admin"]}, "rate": {"per_second": 1000, "burst": 1000}}`)
	ours, others := theirs(t, s.dir), theirs(t, startWithKey(t, `{}`).dir)
	p := target(t)
	id := s.finished(t, p.PID)
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	shows := func(c tls.Certificate, change func(*tls.Config)) credentials.TransportCredentials {
		config := &tls.Config{RootCAs: pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }}
		if change != nil {
			change(config)
		}
		return credentials.NewTLS(config)
	}
	for _, c := range []struct {
		name  string
		creds credentials.TransportCredentials
		may   bool
	}{
		{"the administrator", shows(ours.certificate(t, nil), nil), true},
		{"no certificate", shows(tls.Certificate{}, nil), false},
		{"another authority", shows(others.certificate(t, nil), nil), false},
		{"expired", shows(ours.certificate(t, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Minute)
		}), nil), false},
		{"not yet valid", shows(ours.certificate(t, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		}), nil), false},
		{"made for servers", shows(ours.certificate(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), nil), false},
		{"TLS 1.2", shows(ours.certificate(t, nil), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), false},
		{"plaintext", insecure.NewCredentials(), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(c.creds))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for _, of := range calls {
				ctx, cancel := context.WithTimeout(t.Context(), hangs)
				err := of.call(ctx, conn, id, int32(p.PID))
				cancel()
				if c.may && err != nil || !c.may && status.Code(err) != codes.Unavailable {
					t.Errorf("%s: %v", of.name, err)
				}
			}
		})
	}
}

// What identities roles are given to: names in the certificate, by their kind.
func TestIdentitiesOverTLS(t *testing.T) {
	s := startWithKey(t, `{"roles": {"spiffe://example.org/ops/*": ["viewer"], "dns:ops.example": ["viewer"], "cn:operations": ["viewer"], "local": ["admin"]}}`)
	ours := theirs(t, s.dir)
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		may    bool
	}{
		"SPIFFE ID": {func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/ops/1"}}
		}, true},
		"another SPIFFE ID": {func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.org", Path: "/opsx/1"}}
		}, false},
		"DNS name":             {func(c *x509.Certificate) { c.DNSNames = []string{"ops.example"} }, true},
		"DNS name as CN":       {func(c *x509.Certificate) { c.Subject.CommonName = "ops.example" }, false},
		"CN":                   {func(c *x509.Certificate) { c.Subject.CommonName = "operations" }, true},
		"CN as DNS name":       {func(c *x509.Certificate) { c.DNSNames = []string{"operations"} }, false},
		"CN like a SPIFFE ID":  {func(c *x509.Certificate) { c.Subject.CommonName = "spiffe://example.org/ops/1" }, false},
		"CN like a local one":  {func(c *x509.Certificate) { c.Subject.CommonName = "local" }, false},
		"CN with a line break": {func(c *x509.Certificate) { c.Subject.CommonName = "x\n{\"message\":\"access\",\"answer\":\"forged\"}" }, false},
	} {
		pair := ours.certificate(t, c.change)
		pool := x509.NewCertPool()
		pool.AddCert(ours.cert)
		conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}})))
		if err != nil {
			t.Fatal(err)
		}
		err = calls[2].call(t.Context(), conn, "", 0)
		if c.may && err != nil || !c.may && status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
		conn.Close()
	}
	if s.audited(map[string]any{"answer": "forged"}) {
		t.Error("a certificate's name became a line of the audit")
	}
}

// Certificates of both sides are replaced on disk, with those of another
// authority even, three times, while sessions run and are watched and new
// connections are made: no session is dropped and no watch ends.
func TestRotationUnderLoad(t *testing.T) {
	s := withAccess(t, `{"roles": {"admin.serviceradar": ["admin"]}, "rate": {"per_second": 10000, "burst": 10000}}`)
	creds, err := auth.Identity(s.dir, "admin").ClientCredentials(s.address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.Dial(s.address, creds)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	watched := make(chan error, 3)
	var ids []session.ID
	for range 3 {
		started, err := c.Start(t.Context(), session.Spec{PIDs: []int{target(t).PID}, Duration: 8 * time.Second, Frequency: 199})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, started.ID)
		conn := s.client(t, "admin").ClientConn
		go func() { watched <- watchToEnd(t.Context(), conn, started.ID) }()
	}
	serials := map[string]bool{}
	for range 3 {
		serials[s.shown(t)] = true
		if _, err := auth.WriteTryoutCertificates(s.dir, auth.Tryout{Overwrite: true}); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(hangs); serials[s.shown(t)]; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the new certificate is not shown")
			}
		}
		if _, err := c.Get(t.Context(), ids[0]); err != nil {
			t.Errorf("on the connection of before: %v", err)
		}
	}
	for range 3 {
		if err := <-watched; err != nil {
			t.Error(err)
		}
	}
	for _, id := range ids {
		content, err := c.Fetch(t.Context(), id, session.Want{})
		if err != nil || content.Session.State != session.StateSucceeded || content.Session.Progress.Samples == 0 {
			t.Fatalf("%+v, %v", content, err)
		}
		content.Body.Close()
	}
}

// watchToEnd watches with plain gRPC, which does not connect again when it is
// cut off.
func watchToEnd(ctx context.Context, c *grpc.ClientConn, id session.ID) error {
	stream, err := sessionv1.NewSessionServiceClient(c).Watch(ctx, &sessionv1.WatchRequest{Id: string(id)})
	if err != nil {
		return err
	}
	for last := sessionv1.State_STATE_UNSPECIFIED; ; {
		now, err := stream.Recv()
		if errors.Is(err, io.EOF) && last == sessionv1.State_STATE_SUCCEEDED {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after state %v: %w", last, err)
		}
		last = now.GetSession().GetState()
	}
}

// shown is the serial number of the certificate that a new connection sees.
// While files are being replaced there may be none for a moment.
func (s *service) shown(t *testing.T) string {
	t.Helper()
	for end := time.Now().Add(hangs); ; time.Sleep(20 * time.Millisecond) {
		creds, err := auth.Identity(s.dir, "admin").ClientCredentials(s.address)
		if err == nil {
			var c *grpc.ClientConn
			if c, err = grpc.NewClient(s.address, grpc.WithTransportCredentials(creds)); err == nil {
				var p peer.Peer
				_, err = health.NewHealthClient(c).Check(t.Context(), &health.HealthCheckRequest{}, grpc.Peer(&p))
				c.Close()
				if info, ok := p.AuthInfo.(credentials.TLSInfo); err == nil && ok {
					return info.State.PeerCertificates[0].SerialNumber.String()
				}
			}
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// SIGHUP changes rules and limits while a session runs; what is wrong changes
// nothing; what cannot change is told.
func TestReload(t *testing.T) {
	s := withAccess(t, `{"roles": {"admin.serviceradar": ["admin"]}}`)
	admin, agent := s.client(t, "admin"), s.client(t, "agent")
	p := target(t)
	running := admin.begin(t, p.PID, 20)
	if !running.GetSuccess() {
		t.Fatal(running.GetMessage())
	}
	list := func(c *client) error { return calls[2].call(t.Context(), c.ClientConn, "", 0) }
	if err := list(agent); status.Code(err) != codes.PermissionDenied {
		t.Errorf("before: %v", err)
	}

	s.setAccess(t, `{"roles": {"admin.serviceradar": ["admin"], "agent.serviceradar": ["viewer"]}}`)
	s.edit(t, func(all map[string]json.RawMessage) {
		all["profiler"] = json.RawMessage(`{"max_session_duration_seconds": 30}`)
		all["listen_addr"] = json.RawMessage(`"127.0.0.1:1"`)
	})
	s.hup(t, "the configuration was read again")
	s.waitFor(t, "this change needs a restart")
	if err := list(agent); err != nil {
		t.Errorf("a new role is not in force: %v", err)
	}
	if r := admin.begin(t, p.PID, 31); r.GetMessage() != "Duration must be between 1 and 30 seconds" {
		t.Errorf("a new limit is not in force: %v", r)
	}

	for _, broken := range []string{`{"roles": {"agent.serviceradar": ["king"]}}`, `{"role": {}}`, `[]`} {
		s.setAccess(t, broken)
		s.hup(t, "the configuration was not read again")
		if err := list(agent); err != nil {
			t.Errorf("%s took the role away: %v", broken, err)
		}
	}
	s.setAccess(t, `{"roles": {"admin.serviceradar": ["admin"]}}`)
	key := filepath.Join(s.dir, "profiler-key.pem")
	good, err := os.ReadFile(key)
	if err == nil {
		err = os.WriteFile(key, good[:40], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.hup(t, "the certificates were not changed")
	if err := list(agent); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a role that was taken away: %v", err)
	}
	if c := s.client(t, "admin"); list(c) != nil {
		t.Errorf("the certificate of before does not serve on: %v", list(c))
	}
	if text, err := admin.results(t, running.GetSessionId()); err != nil || text != "" {
		t.Errorf("the session that ran: %q, %v", strings.SplitN(text, "\n", 2)[0], err)
	}
}
