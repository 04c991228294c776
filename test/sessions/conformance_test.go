// SPDX-License-Identifier: Apache-2.0

package sessions_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/poller"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session/sessiontest"
	"github.com/carverauto/serviceradar-profiler/store/files"
	"github.com/carverauto/serviceradar-profiler/store/sqlite"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/hops"
)

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
	hops.Needs(t)
	certs, log := daemons.Certificates(t), slog.New(slog.DiscardHandler)
	agentAt := hops.Real(t, certs, "poller.serviceradar")
	p := before(t, small(), poller.HostConfig{Name: "here", Address: agentAt, Fleet: hops.Dial(t, certs, "poller", agentAt)})
	gate, err := access.NewFleet(p, hops.Policy("admin.serviceradar", "admin"), log)
	if err != nil {
		t.Fatal(err)
	}
	pollerAt := hops.Serve(t, certs, "poller", remote.ServerOptions(log), func(server *grpc.Server) { remote.NewServer(gate, 0).Register(server) })
	return hops.Fixture(hops.Dial(t, certs, "admin", pollerAt))
}

// The contract of session.Runner, through a poller.
func TestConformance(t *testing.T) { sessiontest.Run(t, overThreeHops) }

// That of session.Fleet.
func TestFleetConformance(t *testing.T) { sessiontest.RunFleet(t, overThreeHops) }
