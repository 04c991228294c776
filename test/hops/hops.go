// SPDX-License-Identifier: Apache-2.0

// Package hops puts real runners one before the other in a test's own process:
// the sessions of a profiler, their gate, and mTLS between them and whoever
// stands before them.
package hops

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

// Needs skips a test where the real profiler cannot run.
func Needs(t testing.TB) {
	t.Helper()
	if _, missing := exec.LookPath("gcc"); os.Geteuid() != 0 || missing != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal("needs root and gcc")
		}
		t.Skip("needs root and gcc")
	}
}

// Sessions are those of a real profiler, with the suite's small limits.
func Sessions(t testing.TB) *profiler.Sessions {
	t.Helper()
	l := profiler.DefaultLimits()
	l.GracePeriodSeconds, l.SpoolDir = 0, t.TempDir()
	l.MaxConcurrentSessions, l.MaxQueuedSessions, l.MaxSessionDurationSeconds, l.MaxFrequencyHz = 2, 1, 20, 499
	r := profiler.NewRecorder(32<<20, 8<<20)
	t.Cleanup(r.Close)
	s, err := profiler.NewSessions(r, l)
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

// Host is this host with its sessions.
func Host(s *profiler.Sessions) *host.Host {
	return host.New(s, host.Options{Version: "this", Requested: s.Requested, Check: s.Check, Health: func() host.Health { return host.Health(s.Health()) }})
}

// Fixture is what the suites want of a runner with such sessions.
func Fixture(r session.Runner) sessiontest.Fixture {
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

// Policy gives one peer roles, and lets him ask as often as he likes.
func Policy(who string, roles ...string) *access.Policy {
	p := access.DefaultPolicy()
	p.Roles, p.Rate = map[string][]string{}, access.Rate{PerSecond: 100_000, Burst: 100_000}
	if len(roles) > 0 {
		p.Roles[who] = roles
	}
	return &p
}

// Gate is before a runner, for one peer.
func Gate(t testing.TB, r session.Runner, who string, roles ...string) *access.Gate {
	t.Helper()
	g, err := access.New(r, Policy(who, roles...), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Serve serves over mTLS, as name of the certificates, and returns where.
func Serve(t testing.TB, certs, name string, options []grpc.ServerOption, register func(*grpc.Server)) (address string) {
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

// Dial is a client, as name of the certificates.
func Dial(t testing.TB, certs, name, address string) *remote.Client {
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

// Agent is an agent before a runner.
func Agent(t testing.TB, r session.Runner, report func(context.Context) (remote.Report, error)) *agent.Agent {
	t.Helper()
	a, err := agent.New(r, report, agent.Options{Limits: agent.DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// AgentAndProfiler are an agent before a profiler, which runs the given sessions,
// or is another runner, as healthy as health says; mTLS is on the way to both. One
// peer may do everything at the agent, which listens at the address.
func AgentAndProfiler(t testing.TB, certs string, r session.Runner, health func() remote.Health, who string) (address string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	profilerAt := Serve(t, certs, "profiler", remote.ServerOptions(log), func(server *grpc.Server) {
		remote.NewServer(r, 0).Register(server)
		serviceradar.RegisterServiceRadar(server, r, serviceradar.About{Version: "this", Limits: func() remote.Limits { return remote.Limits{} }, Health: health})
	})
	client := Dial(t, certs, "agent", profilerAt)
	a := Gate(t, Agent(t, client, client.Report), who, "admin")
	return Serve(t, certs, "agent", remote.AgentOptions(log, nil), func(server *grpc.Server) { remote.NewServer(a, 0).Register(server) })
}

// Real is AgentAndProfiler with sessions of a real profiler, behind a gate.
func Real(t testing.TB, certs, who string) (address string) {
	t.Helper()
	s := Sessions(t)
	return AgentAndProfiler(t, certs, Gate(t, Host(s), "agent.serviceradar", "admin"), func() remote.Health { return remote.Health(s.Health()) }, who)
}
