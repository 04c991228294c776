// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	legacy "github.com/carverauto/serviceradar-profiler/proto/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// station is ServiceRadar's interfaces before sessions of this host.
type station struct {
	*profiler.Sessions
	conn *grpc.ClientConn
}

func newStation(t *testing.T, change func(*profiler.Limits)) *station {
	t.Helper()
	_, missing := exec.LookPath("gcc")
	if os.Geteuid() != 0 || missing != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal("needs root and gcc")
		}
		t.Skip("needs root and gcc")
	}
	l := profiler.DefaultLimits()
	l.GracePeriodSeconds, l.SpoolDir = 0, t.TempDir()
	if change != nil {
		change(&l)
	}
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
	server := grpc.NewServer()
	RegisterServiceRadar(server, sessions, About{
		Host: "web1", HostIP: "192.0.2.7", Version: "1.2.3",
		Limits: func() remote.Limits {
			return remote.Limits{MaxConcurrentSessions: l.MaxConcurrentSessions, MaxQueuedSessions: l.MaxQueuedSessions, ChunkSizeBytes: l.ChunkSizeBytes}
		},
		Health: func() remote.Health { return remote.Health(sessions.Health()) },
	})
	return &station{sessions, dial(t, server)}
}

// ended waits until a session is over, as long as the test may take.
func (h *station) ended(t *testing.T, id string) session.Session {
	t.Helper()
	var last session.Session
	for s, err := range h.Watch(t.Context(), session.ID(id)) {
		if err != nil {
			t.Fatal(err)
		}
		last = s
	}
	return last
}

// sampled waits until a session has a hundred samples.
func (h *station) sampled(t *testing.T, id string) {
	t.Helper()
	for s, err := range h.Watch(t.Context(), session.ID(id)) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Progress.Samples >= 100 {
			return
		}
	}
	t.Fatal("the session ended too early")
}

// polled asks for results as an old client does: again while there are none.
func (h *station) polled(t *testing.T, id string) (chunks []*legacy.ProfilingResultsChunk, err error) {
	t.Helper()
	for len(chunks) == 0 && err == nil {
		chunks, err = fetched(t, h.conn, session.ID(id))
		time.Sleep(20 * time.Millisecond)
	}
	return chunks, err
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// What a client of the first profiler does, on a process that runs. The session
// ends when its target does, so that nothing here is a matter of time.
func TestContractOfFirstProfiler(t *testing.T) {
	h := newStation(t, func(l *profiler.Limits) { l.ChunkSizeBytes = 1 << 10 })
	busy := programs.Start(t, "split.c", programs.Options{})
	pid := int32(busy.PID)
	began := start(t, h.conn, pid, 300, 499)
	if !began.GetSuccess() || began.GetMessage() != fmt.Sprintf("Profiling started for PID %d", pid) || !uuid.MatchString(began.GetSessionId()) {
		t.Fatalf("%v", began)
	}
	id := began.GetSessionId()
	for range 2 { // clients repeat calls
		if again := start(t, h.conn, pid, 300, 499); !again.GetSuccess() || again.GetSessionId() != id {
			t.Errorf("%v, want session %s", again, id)
		}
	}
	now := new(legacy.GetStatusResponse)
	if err := h.conn.Invoke(t.Context(), methodStatus, &legacy.GetStatusRequest{}, now); err != nil || !now.GetHealthy() || now.GetActiveSessions() != 1 {
		t.Errorf("%v, %v", now, err)
	}
	if chunks, err := fetched(t, h.conn, session.ID(id)); len(chunks) != 0 || err != nil {
		t.Errorf("of a running session come %d chunks, %v", len(chunks), err)
	}
	h.sampled(t, id)
	busy.Stop()
	chunks, err := h.polled(t, id)
	if err != nil {
		t.Fatal(err)
	}
	text := joined(t, chunks, 1<<10)
	checkText(t, text)
	again, err := fetched(t, h.conn, session.ID(id))
	if err != nil || joined(t, again, 1<<10) != text {
		t.Errorf("the second time it is another text, or %v", err)
	}
	if all, err := h.List(t.Context(), session.Filter{}); err != nil || len(all) != 1 {
		t.Errorf("%d sessions, %v", len(all), err)
	}
}

// checkText wants folded stacks of split.c: no header, root first, counted.
func checkText(t *testing.T, text string) {
	t.Helper()
	lines, err := folded.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var all, right uint64
	for _, l := range lines {
		all += l.Count
		if i := slices.Index(l.Frames, "hot_a"); i > 0 && slices.Contains(l.Frames[:i], "main") {
			right += l.Count
		}
	}
	if strings.Contains(text, "#") || len(lines) != strings.Count(text, "\n") || right < all/3 || right == 0 {
		t.Errorf("%d of %d samples have main;…;hot_a:\n%s", right, all, text)
	}
}

func TestContractWhenThereIsNoProfile(t *testing.T) {
	h := newStation(t, func(l *profiler.Limits) { l.MaxConcurrentSessions, l.MaxQueuedSessions = 2, 0 })
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	pid := int32(gone.Process.Pid)
	if out := start(t, h.conn, pid, 1, 99); out.GetSuccess() || out.GetMessage() != fmt.Sprintf("Process %d not found", pid) || out.GetSessionId() != "" {
		t.Errorf("%v", out)
	}
	asleep, err := programs.Launch(exec.Command("sleep", "1000"), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(asleep.Stop)
	pid = int32(asleep.PID)
	idle, long := start(t, h.conn, pid, 1, 99), start(t, h.conn, pid, 300, 99)
	if !idle.GetSuccess() || !long.GetSuccess() || idle.GetSessionId() == long.GetSessionId() {
		t.Fatalf("%v, %v", idle, long)
	}
	if out := start(t, h.conn, pid, 299, 99); out.GetSuccess() || out.GetSessionId() != "" || !strings.Contains(out.GetMessage(), "try again in") {
		// not if the idle session is over already, because this machine was held up
		if s, err := h.Get(t.Context(), session.ID(idle.GetSessionId())); err != nil || !s.State.Final() {
			t.Errorf("%v", out)
		}
	}
	chunks, err := h.polled(t, idle.GetSessionId())
	if s := status.Convert(err); len(chunks) != 0 || s.Code() != codes.Internal || !strings.HasPrefix(s.Message(), "Profiling failed: ") {
		t.Errorf("%d chunks, %v", len(chunks), err)
	}
	if s := h.ended(t, idle.GetSessionId()); s.Err == nil || status.Convert(err).Message() != "Profiling failed: "+s.Err.Error() {
		t.Errorf("%v, but the session says %v", err, s.Err)
	}
	if chunks, err := fetched(t, h.conn, "00000000-0000-4000-8000-000000000001"); len(chunks) != 0 || status.Code(err) != codes.NotFound {
		t.Errorf("%v", err)
	}
}

// What was sampled until a session was canceled is its profile.
func TestContractOfCanceled(t *testing.T) {
	h := newStation(t, nil)
	busy := programs.Start(t, "split.c", programs.Options{})
	began := start(t, h.conn, int32(busy.PID), 300, 499)
	h.sampled(t, began.GetSessionId())
	if _, err := h.Cancel(t.Context(), session.ID(began.GetSessionId())); err != nil {
		t.Fatal(err)
	}
	chunks, err := h.polled(t, began.GetSessionId())
	if err != nil {
		t.Fatal(err)
	}
	checkText(t, joined(t, chunks, 64<<10))
}

// A checker's life as an agent and a poller of August 2025 make it: health,
// GetStatus with nothing but name and type, and results, each of them up to
// three times, in 30 s and with messages of 4 MiB.
func TestContractOfChecker(t *testing.T) {
	h := newStation(t, nil)
	busy := programs.Start(t, "split.c", programs.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	up := new(health.HealthCheckResponse)
	if err := h.conn.Invoke(ctx, "/grpc.health.v1.Health/Check", &health.HealthCheckRequest{}, up); err != nil || up.GetStatus() != health.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", up, err)
	}
	is := new(monitoring.StatusResponse)
	if err := h.conn.Invoke(ctx, methodCheck, &monitoring.StatusRequest{ServiceName: "ebpf", ServiceType: "grpc"}, is); err != nil {
		t.Fatal(err)
	}
	if o := object(t, is.GetMessage()); !is.GetAvailable() || o["healthy"] != true || o["active_sessions"] != float64(0) {
		t.Errorf("%v", is)
	}

	ask := &monitoring.ResultsRequest{ServiceName: "ebpf", ServiceType: "grpc", AgentId: "a1", PollerId: "p1", Details: "127.0.0.1:50084"}
	none, _ := checkResults(t, h.conn, ask)
	if none.GetHasNewData() || none.GetSweepCompletion().GetStatus() != monitoring.SweepCompletionStatus_NOT_STARTED {
		t.Errorf("%v", none)
	}
	id := start(t, h.conn, int32(busy.PID), 300, 499).GetSessionId()
	running, o := checkResults(t, h.conn, ask)
	if c := running.GetSweepCompletion(); c.GetStatus() != monitoring.SweepCompletionStatus_IN_PROGRESS || c.GetTargetSequence() != id || o["folded"] != nil {
		t.Errorf("%v", running)
	}
	h.sampled(t, id)
	busy.Stop()
	h.ended(t, id)
	var first *monitoring.ResultsResponse
	for range 3 {
		got, o := checkResults(t, h.conn, ask)
		if first == nil {
			first = got
			checkText(t, o["folded"].(string))
		}
		if !bytes.Equal(got.GetData(), first.GetData()) || len(got.GetData()) >= 3<<20 || got.GetCurrentSequence() != id || !got.GetHasNewData() ||
			got.GetSweepCompletion().GetStatus() != monitoring.SweepCompletionStatus_COMPLETED {
			t.Errorf("%v, the first time it was %v", got, first)
		}
	}
	ask.LastSequence = id
	if got, o := checkResults(t, h.conn, ask); got.GetHasNewData() || o["folded"] != nil || got.GetCurrentSequence() != id {
		t.Errorf("%v", got)
	}
}

// A service that stops says so to all who ask, and still hands out results.
func TestContractOfStopping(t *testing.T) {
	h := newStation(t, func(l *profiler.Limits) { l.GracePeriodSeconds = 3600 })
	busy := programs.Start(t, "split.c", programs.Options{})
	id := start(t, h.conn, int32(busy.PID), 300, 499).GetSessionId()
	h.sampled(t, id)
	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan error, 1)
	go func() { closed <- h.Close(ctx) }()
	h.ended(t, id)
	up := new(health.HealthCheckResponse)
	if err := h.conn.Invoke(t.Context(), "/grpc.health.v1.Health/Check", &health.HealthCheckRequest{Service: "AgentService"}, up); err != nil || up.GetStatus() != health.HealthCheckResponse_NOT_SERVING {
		t.Errorf("%v, %v", up, err)
	}
	is := new(monitoring.StatusResponse)
	if err := h.conn.Invoke(t.Context(), methodCheck, &monitoring.StatusRequest{ServiceType: "grpc"}, is); err != nil || is.GetAvailable() || object(t, is.GetMessage())["reason"] == nil {
		t.Errorf("%v, %v", is, err)
	}
	if out := start(t, h.conn, int32(busy.PID), 10, 99); out.GetSuccess() || out.GetMessage() == "" {
		t.Errorf("%v", out)
	}
	chunks, err := fetched(t, h.conn, session.ID(id))
	if err != nil {
		t.Error(err)
	}
	checkText(t, joined(t, chunks, 64<<10))
	cancel()
	if err := <-closed; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
