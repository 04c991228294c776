// SPDX-License-Identifier: Apache-2.0

package poller_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/checks"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
)

// tlsAgent is a real agent with a TLS of its own kind.
func tlsAgent(t *testing.T, certs string, change func(*tls.Config)) *agent {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(certs, "agent.pem"), filepath.Join(certs, "agent-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(certs, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	c := &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}}
	change(c)
	a := &agent{status: realStatus, results: realResults, stream: realStream}
	// The later of two options counts.
	a.server = serve(t, certs, "agent", func(g *grpc.Server) { monitoring.RegisterAgentServiceServer(g, a) }, grpc.Creds(credentials.NewTLS(c)))
	return a
}

// The poller calls with TLS 1.3 and its certificate, takes any certificate of its
// authority for an agent's if it has the one name, and tells core of what it does
// not trust as of what is not there. O27.
func TestTLS(t *testing.T) {
	t.Parallel()
	certs, others := certificates(t), certificates(t)
	same := func(*tls.Config) {}
	named := func(name string) *auth.Security {
		s := auth.Identity(certs, "poller")
		s.ServerName = name
		return s
	}
	load := func(dir, name string) func(*tls.Config) {
		return func(c *tls.Config) {
			pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem"))
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = []tls.Certificate{pair}
		}
	}
	for _, c := range []struct {
		name     string
		security *auth.Security // nil: the poller's
		change   func(*tls.Config)
		trusted  bool
	}{
		{"as it is", nil, same, true},
		{"the name of all, though others are dialed", named("agent.serviceradar"), same, true},
		{"another component's certificate", nil, load(certs, "profiler"), true},
		{"a name that it does not have", named("web1.example"), same, false},
		{"TLS 1.2", nil, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, false},
		{"a certificate of others", nil, load(others, "agent"), false},
		{"a caller of others", auth.Identity(others, "poller"), load(others, "agent"), false},
		{"no client certificate asked for", nil, func(c *tls.Config) { c.ClientAuth = tls.NoClientCert }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := tlsAgent(t, certs, c.change)
			coreCerts := certs
			if c.security != nil && strings.HasPrefix(c.security.CertDir, others) {
				coreCerts = others
			}
			core := newCore(t, coreCerts)
			if c.security != nil && c.security.ServerName == "web1.example" {
				core.stop(t) // it has that name neither
				verifyUntrusted(t, core, a, certs, c.security)
				return
			}
			poll(t, pollerOptions{certs: certs, security: c.security, config: configured(core, never, map[string]*agent{"web1": a}, checks.Check{Type: "icmp", Name: "ping"})})
			s := core.waitFor(t, "", "ping", 0)
			if s.GetAvailable() != c.trusted || !c.trusted && object(t, data(t, s))["error"] != "Service check failed" {
				t.Errorf("%v", s)
			}
			if asked := len(a.statusRequests("ping")) > 0; asked != c.trusted {
				t.Errorf("it was asked: %v", asked)
			}
		})
	}
}

// verifyUntrusted is for where core is not trusted either: all is kept.
func verifyUntrusted(t *testing.T, core *core, a *agent, certs string, security *auth.Security) {
	t.Helper()
	core.start(t)
	log := &logged{}
	c, _ := poll(t, pollerOptions{certs: certs, security: security, log: log.logger(), config: configured(core, never, map[string]*agent{"web1": a}, checks.Check{Type: "icmp", Name: "ping"})})
	until(t, "core was tried", func() bool { return c.State().Err != nil })
	if s := c.State(); s.Queued != 1 || len(core.all()) != 0 || len(a.statusRequests("ping")) != 0 || !log.has("web1.example") {
		t.Errorf("%+v", s)
	}
}

// What a former poller of the same process remembers, the next one goes on with.
func TestReload(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core, a := newCore(t, certs), newAgent(t, certs, nil)
	config := configured(core, never, map[string]*agent{"web1": a}, checks.Check{Type: "grpc", Name: "results", ResultsInterval: span(never)}, checks.Check{Type: "icmp", Name: "ping"})
	options := pollerOptions{certs: certs, dir: t.TempDir(), config: config}
	former, end := poll(t, options)
	core.waitFor(t, "", "results", 0)
	end()
	options.former = former
	options.config.Agents = map[string]checks.Agent{"web1": config.Agents["web1"], "web2": config.Agents["web1"]}
	poll(t, options)
	core.waitFor(t, "", "results", 1) // of web2
	core.waitFor(t, "", "ping", 2)
	if r := a.resultsRequests("results"); len(r) != 2 || r[1].GetAgentId() != "web2" {
		t.Errorf("%v", r)
	}
}

// What was fetched and not reported when a poller's checks end, or was being
// fetched, the next ones ask for again.
func TestReloadLosesNothing(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	var waits atomic.Bool
	waits.Store(true)
	quick := newAgent(t, certs, nil)
	slow := newAgent(t, certs, func(a *agent) {
		a.results = func(ctx context.Context, in *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			if waits.Load() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return realResults(ctx, in)
		}
	})
	options := pollerOptions{certs: certs, dir: t.TempDir(), config: configured(core, never, map[string]*agent{"quick": quick, "slow": slow}, checks.Check{Type: "grpc", Name: "results", ResultsInterval: span(never)})}
	former, end := poll(t, options)
	until(t, "both are asked", func() bool {
		return len(quick.resultsRequests("results")) == 1 && len(slow.resultsRequests("results")) == 1
	})
	end()
	again := []*agent{quick, slow}
	if core.find("", "results", 0) != nil { // on a slow machine the report goes without the slow one
		again = []*agent{slow}
	}
	waits.Store(false)
	options.former = former
	poll(t, options)
	core.waitFor(t, "", "results", 1)
	until(t, "what was not reported is asked for again", func() bool {
		return !slices.ContainsFunc(again, func(a *agent) bool { return len(a.resultsRequests("results")) < 2 })
	})
	for _, a := range again {
		if r := a.resultsRequests("results"); len(r) != 2 || r[1].GetLastSequence() != "" {
			t.Errorf("%v", r)
		}
	}
	if r := quick.resultsRequests("results"); len(again) == 1 && len(r) != 1 {
		t.Errorf("what was reported is asked for again: %v", r)
	}
}
