// SPDX-License-Identifier: Apache-2.0

package profiler_test

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session/sessiontest"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// built is where programs are that several tests use.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "profiler"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(built); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// split is a program whose hottest function is hot_a.
var split = sync.OnceValues(func() (string, error) {
	p, err := programs.Read("split.c")
	if err != nil {
		return "", err
	}
	return p.Build(built)
})

func busy(t testing.TB) sessiontest.Target {
	t.Helper()
	path, err := split()
	if err != nil {
		t.Fatal(err)
	}
	return target(t, "ready", path)
}

func target(t testing.TB, ready string, command ...string) sessiontest.Target {
	t.Helper()
	p, err := programs.Launch(exec.Command(command[0], command[1:]...), ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return sessiontest.Target{PID: p.PID, Stop: p.Stop}
}

// sessions makes a runner with limits changed, which is closed after the test.
func sessions(t testing.TB, change func(*profiler.Limits)) *profiler.Sessions {
	t.Helper()
	l := profiler.DefaultLimits()
	l.GracePeriodSeconds = 0
	l.SpoolDir = t.TempDir()
	if change != nil {
		change(&l)
	}
	s, err := profiler.NewSessions(recorder(t), l)
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

// The contract of session.Runner.
func TestSessions(t *testing.T) {
	needs(t, "gcc")
	sessiontest.Run(t, func(t *testing.T) sessiontest.Fixture {
		return sessiontest.Fixture{
			Runner: sessions(t, func(l *profiler.Limits) {
				l.MaxConcurrentSessions, l.MaxQueuedSessions, l.MaxSessionDurationSeconds, l.MaxFrequencyHz = 2, 1, 20, 499
			}),
			Busy: busy, Hottest: "hot_a",
			Idle:   func(t testing.TB) sessiontest.Target { return target(t, "", "sleep", "1000") },
			Places: 2, Queue: 1, MaxDuration: 20 * time.Second, MaxFrequency: 499,
		}
	})
}
