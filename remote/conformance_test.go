// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/session/sessiontest"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// service is a profiler as the daemon runs it: real sessions, over mTLS.
type service struct {
	address, certs string
}

func newService(t *testing.T, change func(*profiler.Limits)) *service {
	t.Helper()
	if _, missing := exec.LookPath("gcc"); os.Geteuid() != 0 || missing != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal("needs root and gcc")
		}
		t.Skip("needs root and gcc")
	}
	l := profiler.DefaultLimits()
	l.GracePeriodSeconds, l.SpoolDir = 0, t.TempDir()
	change(&l)
	r := profiler.NewRecorder(32<<20, 8<<20)
	t.Cleanup(r.Close)
	sessions, err := profiler.NewSessions(r, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sessions.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s := &service{certs: certificates(t)}
	s.address = listen(t, s.certs, func(g *grpc.Server) {
		NewServer(host.New(sessions, host.Options{Requested: sessions.Requested, Check: sessions.Check,
			Health: func() host.Health { return host.Health(sessions.Health()) }}), l.ChunkSizeBytes).Register(g)
	})
	return s
}

func (s *service) client(t *testing.T) *Client {
	t.Helper()
	return dialed(t, s.address, clientCredentials(t, auth.Identity(s.certs, "admin"), s.address))
}

// The contract of session.Runner, and of session.Fleet, over mTLS.
func TestConformance(t *testing.T) { sessiontest.Run(t, overTLS) }

func TestFleetConformance(t *testing.T) { sessiontest.RunFleet(t, overTLS) }

func overTLS(t *testing.T) sessiontest.Fixture {
	s := newService(t, func(l *profiler.Limits) {
		l.MaxConcurrentSessions, l.MaxQueuedSessions, l.MaxSessionDurationSeconds, l.MaxFrequencyHz = 2, 1, 20, 499
	})
	launch := func(t testing.TB, o programs.Options) sessiontest.Target {
		p := programs.Start(t, "split.c", o)
		return sessiontest.Target{PID: p.PID, Stop: p.Stop}
	}
	return sessiontest.Fixture{
		Runner:  s.client(t),
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

// A client that is killed takes the session along that is attended, and leaves
// the other one alone. What was sampled up to then can be fetched.
func TestKilledWatcher(t *testing.T) {
	s := newService(t, func(*profiler.Limits) {})
	client := s.client(t)
	busy := programs.Start(t, "split.c", programs.Options{})
	begin := func(spec session.Spec) session.ID {
		spec.PIDs = []int{busy.PID}
		began, err := client.Start(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		return began.ID
	}
	// Nobody watches meanwhile, so it is asked for.
	until := func(id session.ID, holds func(session.Session) bool) session.Session {
		for {
			now, err := client.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if holds(now) {
				return now
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	final := func(now session.Session) bool { return now.State.Final() }
	attended := begin(session.Spec{Attended: true, Duration: 5 * time.Minute, Frequency: 99})
	other := begin(session.Spec{Duration: 7 * time.Second, Frequency: 199})
	for _, id := range []session.ID{attended, other} {
		until(id, func(now session.Session) bool { return now.Progress.Samples > 0 })
	}

	watcher := role{Hang: []session.ID{attended, other}, CertDir: s.certs, Address: s.address, Dial: s.address}.start(t)
	watcher.next(t)
	if err := watcher.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	left := until(attended, final)
	if left.State != session.StateCanceled || left.Err == nil || left.Err.Code != "unattended" || !errors.Is(left.Err, session.ErrCanceled) {
		t.Errorf("the attended one: %+v", left)
	}
	content, err := client.Fetch(t.Context(), attended, session.Want{})
	if err != nil {
		t.Fatal(err)
	}
	if err := content.Body.Close(); err != nil || content.Size == 0 {
		t.Errorf("%d bytes, %v", content.Size, err)
	}
	if now := until(other, final); now.State != session.StateSucceeded || now.EndedBy != profile.EndedDuration {
		t.Errorf("the other one: %+v", now)
	}
}

// However far a call came when the connection broke, it is repeated, and one
// session is all that comes of it.
func TestStartOverBrokenConnections(t *testing.T) {
	s := newService(t, func(*profiler.Limits) {})
	busy := programs.Start(t, "split.c", programs.Options{})
	spec := session.Spec{PIDs: []int{busy.PID}, Duration: 10 * time.Second, Frequency: 99, RequestID: "once"}
	var id session.ID
	var cuts int32
	for after := int64(0); after < 4000; after += 400 { // a handshake takes about 2,000 bytes, an answer 200
		cutter := newCutter(t, s.address, after, after+40)
		client := dialed(t, cutter.Addr().String(), clientCredentials(t, auth.Identity(s.certs, "admin"), s.address))
		began, err := client.Start(t.Context(), spec)
		if err != nil {
			t.Fatalf("cut after %d bytes: %v", after, err)
		}
		if id == "" {
			id = began.ID
		}
		if began.ID != id {
			t.Errorf("cut after %d bytes: session %s, not %s", after, began.ID, id)
		}
		cuts += cutter.cut.Load()
	}
	if cuts == 0 {
		t.Error("no connection broke")
	}
	all, err := s.client(t).List(t.Context(), session.Filter{})
	if err != nil || len(all) != 1 {
		t.Errorf("%d sessions, %v", len(all), err)
	}
}
