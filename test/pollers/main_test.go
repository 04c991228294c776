// SPDX-License-Identifier: Apache-2.0

// Package pollers_test runs the real serviceradar-profiler-poller before real
// agents and profilers, as a program: who may do what, what its signals do, and
// what it says of itself.
package pollers_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
)

func TestMain(m *testing.M) {
	os.Exit(daemons.Main(m, "the poller", "serviceradar-profiler", "serviceradar-profiler-agent", "serviceradar-profiler-poller"))
}

// object is JSON to be.
type object map[string]any

func text(t testing.TB, o object) string {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// often is a rate that tests do not reach.
var often = object{"per_second": 100_000, "burst": 100_000}

// site is a poller with one host behind it.
type site struct {
	certs                   string
	profiler, agent, poller *daemons.Program
	config                  object // of the poller
}

// newSite starts them. More are further keys of the poller's configuration, and
// a host's named web1.
func newSite(t testing.TB, more object) *site {
	t.Helper()
	s := &site{certs: t.TempDir()}
	if _, err := auth.WriteTryoutCertificates(s.certs, auth.Tryout{KeepKey: true}); err != nil {
		t.Fatal(err)
	}
	s.profiler = daemons.Start(t, daemons.Path("serviceradar-profiler"), text(t, object{"listen_addr": "127.0.0.1:0", "security": auth.Identity(s.certs, "profiler"),
		"access": object{"roles": object{"agent.serviceradar": []string{"admin"}}, "rate": often}}), nil)
	s.agent = s.agentBefore(t, s.profiler.Address)
	s.config = object{"listen_addr": "127.0.0.1:0", "data_dir": filepath.Join(t.TempDir(), "data"), "security": auth.Identity(s.certs, "poller"),
		"agents": object{"web1": object{"address": s.agent.Address, "labels": object{"service": "shop"}}},
		"access": object{"roles": object{"admin.serviceradar": []string{"admin"}}, "rate": often}}
	for key, value := range more {
		s.config[key] = value
	}
	s.poller = daemons.Start(t, daemons.Path("serviceradar-profiler-poller"), text(t, s.config), nil)
	s.ready(t)
	return s
}

func (s *site) agentBefore(t testing.TB, profiler string) *daemons.Program {
	t.Helper()
	a := daemons.Start(t, daemons.Path("serviceradar-profiler-agent"), text(t, object{"listen_addr": "127.0.0.1:0", "profiler_address": profiler, "security": auth.Identity(s.certs, "agent"),
		"access": object{"roles": object{"poller.serviceradar": []string{"poller"}}, "permissions": object{"poller": []string{"profiling:*"}}, "rate": often}}), nil)
	a.WaitFor("the profiler is")
	return a
}

// client asks a service as somebody.
func (s *site) client(t testing.TB, identity, address string) *remote.Client {
	t.Helper()
	creds, err := auth.Identity(s.certs, identity).ClientCredentials(address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.Dial(address, creds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ready waits until all hosts of the poller are.
func (s *site) ready(t testing.TB) {
	t.Helper()
	c := s.client(t, "admin", s.poller.Address)
	daemons.Until(t, "the hosts are ready", func() bool {
		hosts, err := c.Hosts(t.Context(), session.Hosts{})
		for _, h := range hosts {
			if h.State != session.HostReady {
				return false
			}
		}
		return err == nil
	})
}

// rewrite changes the poller's configuration, which it reads when it is told to.
func (s *site) rewrite(t testing.TB, change object) {
	t.Helper()
	for key, value := range change {
		s.config[key] = value
	}
	if err := os.WriteFile(s.poller.Config(), []byte(text(t, s.config)), 0o600); err != nil {
		t.Fatal(err)
	}
}
