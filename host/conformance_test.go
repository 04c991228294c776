// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session/sessiontest"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// fixture is this host with real sessions.
func fixture(t *testing.T) sessiontest.Fixture {
	t.Helper()
	if _, missing := exec.LookPath("gcc"); os.Geteuid() != 0 || missing != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal("needs root and gcc")
		}
		t.Skip("needs root and gcc")
	}
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
	launch := func(t testing.TB, o programs.Options) sessiontest.Target {
		p := programs.Start(t, "split.c", o)
		return sessiontest.Target{PID: p.PID, Stop: p.Stop}
	}
	return sessiontest.Fixture{
		Runner: host.New(s, host.Options{Version: "this", Requested: s.Requested, Check: s.Check, Health: func() host.Health { return host.Health(s.Health()) }}),
		Busy:   func(t testing.TB) sessiontest.Target { return launch(t, programs.Options{}) },
		Named:  func(t testing.TB, name string) sessiontest.Target { return launch(t, programs.Options{As: name}) },
		Idle: func(t testing.TB) sessiontest.Target {
			p, err := programs.Launch(exec.Command("sleep", "1000"), "")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Stop)
			return sessiontest.Target{PID: p.PID, Stop: p.Stop}
		},
		Hottest: "hot_a",
		Places:  2, Queue: 1, MaxDuration: 20 * time.Second, MaxFrequency: 499,
	}
}

// The contract of session.Runner, and of session.Fleet, in one process.
func TestConformance(t *testing.T) { sessiontest.Run(t, fixture) }

func TestFleetConformance(t *testing.T) { sessiontest.RunFleet(t, fixture) }
