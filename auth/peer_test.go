// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
)

// peers is a service that remembers who called it.
type peers struct {
	healthpb.UnimplementedHealthServer
	seen chan Peer
	errs chan error
}

func (p *peers) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	who, err := PeerOf(ctx)
	p.seen <- who
	p.errs <- err
	return &healthpb.HealthCheckResponse{}, nil
}

// calledBy is whom a server sees when it is called, over a real connection.
func calledBy(t *testing.T, atServer, atClient credentials.TransportCredentials) (Peer, error) {
	t.Helper()
	p := &peers{seen: make(chan Peer, 1), errs: make(chan error, 1)}
	address := serveWith(t, atServer, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, p) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := healthpb.NewHealthClient(dial(t, address, atClient)).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	return <-p.seen, <-p.errs
}

func TestPeerOf(t *testing.T) {
	r := root(t)
	atServer, err := made(t, r, "profiler", nil).ServerCredentials(":1", nil)
	if err != nil {
		t.Fatal(err)
	}
	atClient, err := made(t, r, "agent", func(c *template) {
		u, err := url.Parse("spiffe://example.org/agent")
		if err != nil {
			t.Fatal(err)
		}
		c.URIs = []*url.URL{u}
		c.DNSNames = []string{"agent.example"}
	}).ClientCredentials("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := calledBy(t, atServer, atClient)
	if err != nil || p.Name() != "spiffe://example.org/agent" || p.CommonName != "agent" || p.Local || len(p.Fingerprint) != 64 || p.Serial == "" || !strings.HasPrefix(p.Address, "127.0.0.1:") {
		t.Errorf("%+v, %v", p, err)
	}
	if all := p.Identities(); !slices.Equal(all, []string{"spiffe://example.org/agent", "agent.example", "agent"}) {
		t.Errorf("identities %q", all)
	}

	plain, err := (&Security{Mode: "none"}).ServerCredentials("127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err = calledBy(t, plain, insecure.NewCredentials())
	if err != nil || !p.Local || p.Name() != "local" {
		t.Errorf("without certificates: %+v, %v", p, err)
	}
}

// Nobody is believed whose certificate nobody looked at, whatever the server
// was configured with.
func TestPeersNotVerified(t *testing.T) {
	r := root(t)
	good := made(t, r, "a", nil)
	for name, c := range map[string][2]credentials.TransportCredentials{
		"no TLS":                     {insecure.NewCredentials(), insecure.NewCredentials()},
		"certificate only asked for": {raw(t, made(t, r, "s", nil), nil), raw(t, good, nil)},
	} {
		if p, err := calledBy(t, c[0], c[1]); err == nil || code(err) != "peer_unknown" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for name, ctx := range map[string]context.Context{
		"no connection":  t.Context(),
		"nothing at all": peer.NewContext(t.Context(), &peer.Peer{}),
	} {
		if p, err := PeerOf(ctx); code(err) != "peer_unknown" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestIdentities(t *testing.T) {
	agent := Peer{URIs: []string{"spiffe://example.org/agents/web-1"}, DNSNames: []string{"web-1.example"}, CommonName: "agent"}
	impostor := Peer{CommonName: "local", DNSNames: []string{"*"}}
	uri := Peer{CommonName: "spiffe://example.org/agents/web-1", DNSNames: []string{"cn:agent"}}
	local := Peer{Local: true}
	for _, c := range []struct {
		identity string
		who      *Peer
		want     bool
	}{
		{"spiffe://example.org/agents/web-1", &agent, true},
		{"spiffe://example.org/agents/*", &agent, true},
		{"spiffe://example.org/*", &agent, true},
		{"spiffe://example.org/agent", &agent, false},
		{"spiffe://example.org/agents/web-1/*", &agent, false},
		{"spiffe://example.or/*", &agent, false},
		{"web-1.example", &agent, true},
		{"WEB-1.example", &agent, true},
		{"dns:web-1.example", &agent, true},
		{"cn:web-1.example", &agent, false},
		{"agent", &agent, true},
		{"Agent", &agent, false},
		{"cn:agent", &agent, true},
		{"dns:agent", &agent, false},
		{"*", &agent, true},
		{"local", &agent, false},
		{"", &agent, false},
		{"local", &impostor, false},
		{"cn:local", &impostor, true},
		{"spiffe://example.org/agents/web-1", &uri, false},
		{"cn:agent", &uri, false},
		{"local", &local, true},
		{"*", &local, false},
		{"", &local, false},
		{"", &Peer{}, false},
		{"cn:", &Peer{}, false},
	} {
		if c.who.Is(c.identity) != c.want {
			t.Errorf("%+v is %q: %v", c.who, c.identity, !c.want)
		}
	}
	for identity, good := range map[string]bool{
		"admin.serviceradar": true, "spiffe://a/b": true, "spiffe://a/*": true, "*": true, "local": true, "cn:a": true, "dns:a": true,
		"": false, "cn:": false, " a": false, "a*": false, "*.example": false, "spiffe://a*": false, "spiffe://a/*/b": false, "spiffe:///*": false, "dns:*": false,
	} {
		if err := CheckIdentity(identity); (err == nil) != good {
			t.Errorf("%q: %v", identity, err)
		}
	}
}

func slogTo(l *logged) *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// What careless or hostile clients do.
func insecureVerify(c *tls.Config) { c.InsecureSkipVerify = true }

func noCertificate(c *tls.Config) {
	c.InsecureSkipVerify, c.Certificates, c.GetClientCertificate = true, nil, nil
}

func tls12(c *tls.Config) {
	c.InsecureSkipVerify, c.MinVersion, c.MaxVersion = true, tls.VersionTLS12, tls.VersionTLS12
}
