// SPDX-License-Identifier: Apache-2.0

package sessions_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/agent"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/poller"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/session/sessiontest"
	"github.com/carverauto/serviceradar-profiler/store/files"
	"github.com/carverauto/serviceradar-profiler/store/sqlite"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// needs skips a test where the real profiler cannot run.
func needs(t *testing.T) {
	t.Helper()
	if _, missing := exec.LookPath("gcc"); os.Geteuid() != 0 || missing != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal("needs root and gcc")
		}
		t.Skip("needs root and gcc")
	}
}

// sessions are those of a real profiler, with the suite's small limits.
func sessions(t *testing.T) *profiler.Sessions {
	t.Helper()
	l := profiler.DefaultLimits()
	l.GracePeriodSeconds, l.SpoolDir = 0, t.TempDir()
	l.MaxConcurrentSessions, l.MaxQueuedSessions, l.MaxSessionDurationSeconds, l.MaxFrequencyHz = 2, 1, 20, 499
	s, err := profiler.NewSessions(profiler.NewRecorder(32<<20, 8<<20), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// policy lets one peer do everything.
func policy(who string) *access.Policy {
	p := access.DefaultPolicy()
	p.Roles, p.Rate = map[string][]string{who: {"admin"}}, access.Rate{PerSecond: 100_000, Burst: 100_000}
	return &p
}

// gate is before a runner, for one peer.
func gate(t testing.TB, r session.Runner, who string) *access.Gate {
	t.Helper()
	g, err := access.New(r, policy(who), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// listen serves over mTLS, as name of the certificates.
func listen(t testing.TB, certs, name string, options []grpc.ServerOption, register func(*grpc.Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	creds, err := auth.Identity(certs, name).ServerCredentials(l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(append(options, grpc.Creds(creds))...)
	register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func dialed(t testing.TB, certs, name, address string) *remote.Client {
	t.Helper()
	creds, err := auth.Identity(certs, name).ClientCredentials(address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.Dial(address, creds)
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

// before is a poller over hosts, with a real store.
func before(t testing.TB, limits poller.Limits, hosts ...poller.HostConfig) *poller.Poller {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "sessions.db"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := files.Open(filepath.Join(dir, "profiles"), files.Limits{MaxBytes: limits.MaxResultBytes})
	if err != nil {
		t.Fatal(err)
	}
	p, err := poller.New(poller.Options{Store: s, Files: f, Hosts: hosts, Limits: limits, Spool: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// small are the suite's limits.
func small() poller.Limits {
	l := poller.DefaultLimits()
	l.MaxSessionsPerHost, l.MaxSessionsPerTarget, l.MaxQueuedSessions = 2, 10, 1
	l.MaxSessionDurationSeconds, l.MaxFrequencyHz = 20, 499
	return l
}

// overThreeHops is client, poller, agent and profiler, each with its gate, and
// mTLS on all ways.
func overThreeHops(t *testing.T) sessiontest.Fixture {
	needs(t)
	certs := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(certs, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := sessions(t)
	here := host.New(s, host.Options{Version: "this", Requested: s.Requested, Check: s.Check, Health: func() host.Health { return host.Health(s.Health()) }})
	g := gate(t, here, "agent.serviceradar")
	profilerAt := listen(t, certs, "profiler", remote.ServerOptions(log), func(server *grpc.Server) {
		remote.NewServer(g, 0).Register(server)
		serviceradar.RegisterServiceRadar(server, g, serviceradar.About{Version: "this", Limits: func() remote.Limits { return remote.Limits{} },
			Health: func() remote.Health { return remote.Health(s.Health()) }})
	})
	client := dialed(t, certs, "agent", profilerAt)
	a, err := agent.New(client, client.Report, agent.Options{Limits: agent.DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	ag := gate(t, a, "poller.serviceradar")
	agentAt := listen(t, certs, "agent", remote.AgentOptions(log, nil), func(server *grpc.Server) { remote.NewServer(ag, 0).Register(server) })
	p := before(t, small(), poller.HostConfig{Name: "here", Address: agentAt, Fleet: dialed(t, certs, "poller", agentAt)})
	pg, err := access.NewFleet(p, policy("admin.serviceradar"), log)
	if err != nil {
		t.Fatal(err)
	}
	pollerAt := listen(t, certs, "poller", remote.ServerOptions(log), func(server *grpc.Server) { remote.NewServer(pg, 0).Register(server) })
	launch := func(t testing.TB, o programs.Options) sessiontest.Target {
		p := programs.Start(t, "split.c", o)
		return sessiontest.Target{PID: p.PID, Stop: p.Stop}
	}
	return sessiontest.Fixture{
		Runner:  dialed(t, certs, "admin", pollerAt),
		Busy:    func(t testing.TB) sessiontest.Target { return launch(t, programs.Options{}) },
		Named:   func(t testing.TB, name string) sessiontest.Target { return launch(t, programs.Options{As: name}) },
		Hottest: "hot_a",
		Idle: func(t testing.TB) sessiontest.Target {
			p, err := programs.Launch(exec.Command("sleep", "1000"), "")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Stop)
			return sessiontest.Target{PID: p.PID, Stop: p.Stop}
		},
		Places: 2, Queue: 1, MaxDuration: 20 * time.Second, MaxFrequency: 499,
	}
}

// The contract of session.Runner, through a poller.
func TestConformance(t *testing.T) { sessiontest.Run(t, overThreeHops) }

// That of session.Fleet.
func TestFleetConformance(t *testing.T) { sessiontest.RunFleet(t, overThreeHops) }
