// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session/sessiontest"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// needs skips what cannot be tried here, or fails where all is to be tried.
func needs(t testing.TB, commands ...string) {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
		skip = t.Fatalf
	}
	if os.Geteuid() != 0 {
		skip("needs root")
	}
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			skip("%v", err)
		}
	}
}

// service is a profiler as the daemon runs it: real sessions, served over mTLS.
type service struct {
	sessions *profiler.Sessions
	server   *grpc.Server
	address  string
	certs    string
}

func newService(t testing.TB, change func(*profiler.Limits)) *service {
	t.Helper()
	needs(t, "gcc")
	limits := profiler.DefaultLimits()
	limits.GracePeriodSeconds = 0
	limits.SpoolDir = t.TempDir()
	change(&limits)
	sessions, err := profiler.NewSessions(profiler.NewRecorder(32<<20, 8<<20), limits)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{sessions: sessions, certs: t.TempDir()}
	if _, err := auth.WriteTryoutCertificates(s.certs, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	creds, err := auth.Identity(s.certs, "profiler").ServerCredentials(s.address, log)
	if err != nil {
		t.Fatal(err)
	}
	s.server = grpc.NewServer(append(remote.ServerOptions(log), grpc.Creds(creds))...)
	remote.NewServer(sessions, limits.ChunkSizeBytes).Register(s.server)
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(l) }()
	t.Cleanup(func() {
		if err := sessions.Close(context.Background()); err != nil {
			t.Error(err)
		}
		s.server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *service) client(t testing.TB) *remote.Client {
	t.Helper()
	creds, err := auth.Identity(s.certs, "admin").ClientCredentials(s.address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.Dial(s.address, creds)
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

func busy(t testing.TB) sessiontest.Target {
	t.Helper()
	p, err := programs.Read("split.c")
	if err != nil {
		t.Fatal(err)
	}
	path, err := p.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return launched(t, "ready", path)
}

func launched(t testing.TB, ready string, command ...string) sessiontest.Target {
	t.Helper()
	p, err := programs.Launch(exec.Command(command[0], command[1:]...), ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return sessiontest.Target{PID: p.PID, Stop: p.Stop}
}

// The contract of session.Runner, over mTLS.
func TestConformance(t *testing.T) {
	sessiontest.Run(t, func(t *testing.T) sessiontest.Fixture {
		s := newService(t, func(l *profiler.Limits) {
			l.MaxConcurrentSessions, l.MaxQueuedSessions, l.MaxSessionDurationSeconds, l.MaxFrequencyHz = 2, 1, 20, 499
		})
		return sessiontest.Fixture{
			Runner: s.client(t),
			Busy:   busy, Hottest: "hot_a",
			Idle:   func(t testing.TB) sessiontest.Target { return launched(t, "", "sleep", "1000") },
			Places: 2, Queue: 1, MaxDuration: 20 * time.Second, MaxFrequency: 499,
		}
	})
}
