// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/agents"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// The disk of the poller is full while a session runs and another one waits:
// new ones are refused, with the reason, those go on, and end truly once there
// is room again.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, func(c object) {
		small(t, c["data_dir"].(string))
		c["limits"].(object)["max_sessions_per_host"] = 1
	})
	target := programs.Start(t, "split.c", programs.Options{})
	made := 0
	spec := func(d time.Duration) session.Spec {
		d += time.Duration(made) * time.Millisecond // so that none of them is the same as another one
		made++
		return session.Spec{PIDs: []int{target.PID}, Duration: d, Frequency: 199, Hosts: on("web-01"), RequestID: string(session.NewID())}
	}
	ids := []session.ID{f.start(spec(4 * time.Second)).ID, f.start(spec(time.Second)).ID}
	health := f.health()
	if got := health(); got != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("at first, its health is %v", got)
	}
	filler := filepath.Join(f.data, "filler")
	fill(t, filler)
	refused := session.Spec{}
	daemons.Until(t, "a start is refused", func() bool { // the store may have some room of its own left
		refused = spec(time.Second)
		one, err := f.client.Start(t.Context(), refused)
		if err == nil {
			ids = append(ids, one.ID)
			return false
		}
		var e *session.Error
		if !errors.As(err, &e) || e.Code != "disk_full" || e.Remedy == "" {
			t.Fatalf("a start on a full disk: %v", err)
		}
		return true
	})
	daemons.Until(t, "its health is bad", func() bool { return health() == grpc_health_v1.HealthCheckResponse_NOT_SERVING })
	daemons.Until(t, "the host has sampled what it was to", func() bool {
		return len(f.hosts[0].profiler.All(func(l *daemons.Line) bool { return l.Message == "session ended" })) > 0
	})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	ids = append(ids, f.start(refused).ID)
	for _, id := range ids {
		f.endsAs("there when the disk was full", id, well)
	}
	daemons.Until(t, "its health is good", func() bool { return health() == grpc_health_v1.HealthCheckResponse_SERVING })
	f.balance(len(ids))
}

// A poller is killed, and started again, while its disk is full.
func TestDiskIsFullAndThePollerKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, func(c object) { small(t, c["data_dir"].(string)) })
	target := programs.Start(t, "split.c", programs.Options{})
	one := f.start(session.Spec{PIDs: []int{target.PID}, Duration: 3 * time.Second, Hosts: on("web-01")})
	filler := filepath.Join(f.data, "filler")
	fill(t, filler)
	f.poller.Kill()
	f.poller.Begin() // it may, or may not, be able to open what it has
	daemons.Until(t, "it runs, or says why not", func() bool {
		_, ok := f.poller.Find(func(l *daemons.Line) bool { return l.Message == "listening" })
		return ok || !f.poller.Running()
	})
	if !f.poller.Running() {
		t.Logf("on a full disk it does not start:\n%s", f.poller.Tail(3))
	}
	f.poller.Kill()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	f.poller.Start()
	f.endsAs("running when the disk was full", one.ID, well)
	f.balance(1)
}

// There is no room for a profile that is on its way, and then there is: it waits
// at its host meanwhile, and says so.
func TestDiskIsFullWhileCollecting(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0)
	at := s.node("large")
	s.simulate(at, agents.Options{Stacks: 100_000})
	f := s.fleet(1, func(c object) { small(t, c["data_dir"].(string)) })
	one := f.start(session.Spec{PIDs: []int{1}, Duration: 100 * time.Millisecond, Hosts: on(at.name)})
	f.await(one.ID, "there is no room", func(s *session.Session) bool {
		return strings.Contains(s.Hosts[0].Waiting, "there is no room on the disk")
	})
	if err := unix.Mount("srprof-test", f.data, "tmpfs", unix.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	last := f.ended(one.ID)
	f.endsAsOneOf(&last, nil)
	f.balance(1)
}

// small puts a small disk of its own at a directory.
func small(t testing.TB, dir string) {
	t.Helper()
	if err := unix.Mount("srprof-test", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fill writes a file until the disk is full.
func fill(t testing.TB, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	if closed := file.Close(); closed != nil || !errors.Is(err, unix.ENOSPC) {
		t.Fatal(errors.Join(err, closed))
	}
}

// health asks the poller how it is, as a service manager does.
func (f *fleet) health() func() grpc_health_v1.HealthCheckResponse_ServingStatus {
	f.t.Helper()
	creds, err := auth.Identity(f.certs, "admin").ClientCredentials(f.pollerAddress())
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := grpc.NewClient(f.pollerAddress(), grpc.WithTransportCredentials(creds), grpc.WithContextDialer(f.hub.dial))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return func() grpc_health_v1.HealthCheckResponse_ServingStatus {
		ctx, cancel := context.WithTimeout(f.t.Context(), daemons.Hangs)
		defer cancel()
		got, err := grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			f.t.Fatal(err)
		}
		return got.Status
	}
}

// Profiles have less room than they need: the oldest make room for later ones,
// and one that is larger than all the room fails, and says so.
func TestResultsAreFull(t *testing.T) {
	t.Parallel()
	s := newSite(t, 0)
	large, larger := s.node("large"), s.node("larger")
	s.simulate(large, agents.Options{Stacks: 40_000})
	s.simulate(larger, agents.Options{Stacks: 80_000})
	f := s.fleet(2, func(c object) {
		c["limits"].(object)["max_result_bytes"] = 3 << 19 // one of the large ones
		c["limits"].(object)["host_result_ttl_seconds"] = 3
	})
	run := func(at *node) session.Session {
		return f.ended(f.start(session.Spec{PIDs: []int{1}, Duration: 100 * time.Millisecond, Hosts: on(at.name)}).ID)
	}
	first := run(large)
	if size := first.Hosts[0].Size; first.State != session.StateSucceeded || size < 3<<18 || size > 3<<19 {
		t.Fatalf("the first session %s, with %d bytes: the limit is not between one and two of them", first.State, size)
	}
	second := run(large)
	f.endsAsOneOf(&second, nil)
	if _, err := f.client.Get(t.Context(), first.ID); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("the first session made no room: %v", err)
	}
	if last := run(larger); last.State != session.StateFailed || last.Err.Code != "results_full" {
		t.Errorf("a profile that is larger than all the room: %s, %v", last.State, last.Err)
	}
}
