// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/agent"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/session/sessiontest"
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

// before is an agent before a runner.
func before(t testing.TB, r session.Runner, report func(context.Context) (remote.Report, error)) *agent.Agent {
	t.Helper()
	a, err := agent.New(r, report, agent.Options{Limits: agent.DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func fixture(r session.Runner) sessiontest.Fixture {
	launch := func(t testing.TB, o programs.Options) sessiontest.Target {
		p := programs.Start(t, "split.c", o)
		return sessiontest.Target{PID: p.PID, Stop: p.Stop}
	}
	return sessiontest.Fixture{
		Runner:  r,
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

// on is this host with its sessions.
func on(s *profiler.Sessions) *host.Host {
	return host.New(s, host.Options{Version: "this", Requested: s.Requested, Check: s.Check, Health: func() host.Health { return host.Health(s.Health()) }})
}

// inOneProcess is an agent before this host.
func inOneProcess(t *testing.T) sessiontest.Fixture {
	s := sessions(t)
	return fixture(before(t, on(s), func(context.Context) (remote.Report, error) {
		return remote.Report{Version: "this", Health: remote.Health(s.Health())}, nil
	}))
}

// The contract of session.Runner, and of session.Fleet, in one process.
func TestConformance(t *testing.T) {
	needs(t)
	sessiontest.Run(t, inOneProcess)
}

func TestFleetConformance(t *testing.T) {
	needs(t)
	sessiontest.RunFleet(t, inOneProcess)
}

// gate is before a runner, for whom the policy says.
func gate(t testing.TB, r session.Runner, roles map[string][]string) *access.Gate {
	t.Helper()
	p := access.DefaultPolicy()
	p.Roles, p.Rate = roles, access.Rate{PerSecond: 100_000, Burst: 100_000}
	g, err := access.New(r, &p, slog.New(slog.DiscardHandler))
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

// overTwoHops is client, agent and profiler, each with its gate, and mTLS on
// both ways.
func overTwoHops(t *testing.T) sessiontest.Fixture {
	certs := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(certs, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := sessions(t)
	g := gate(t, on(s), map[string][]string{"agent.serviceradar": {"admin"}})
	profilerAt := listen(t, certs, "profiler", remote.ServerOptions(log), func(server *grpc.Server) {
		remote.NewServer(g, 0).Register(server)
		serviceradar.RegisterServiceRadar(server, g, serviceradar.About{Version: "this", Limits: func() remote.Limits { return remote.Limits{} },
			Health: func() remote.Health { return remote.Health(s.Health()) }})
	})
	client := dialed(t, certs, "agent", profilerAt)
	a := gate(t, before(t, client, client.Report), map[string][]string{"admin.serviceradar": {"admin"}})
	agentAt := listen(t, certs, "agent", remote.AgentOptions(log, nil), func(server *grpc.Server) { remote.NewServer(a, 0).Register(server) })
	return fixture(dialed(t, certs, "admin", agentAt))
}

// The same over the network.
func TestConformanceOverTwoHops(t *testing.T) {
	needs(t)
	sessiontest.Run(t, overTwoHops)
}

func TestFleetConformanceOverTwoHops(t *testing.T) {
	needs(t)
	sessiontest.RunFleet(t, overTwoHops)
}
