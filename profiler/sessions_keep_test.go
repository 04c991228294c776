// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// kept is a runner with a busy target.
func kept(t *testing.T, change func(*Limits)) (*Sessions, func(time.Duration) session.Session) {
	t.Helper()
	privileged(t)
	l := DefaultLimits()
	l.GracePeriodSeconds, l.MaxSessionDurationSeconds, l.SpoolDir = 0, 2*3600, t.TempDir()
	change(&l)
	r := NewRecorder(16<<20, 4<<20)
	t.Cleanup(r.Close)
	s, err := NewSessions(r, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p, err := busyLoop()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	n := 0
	return s, func(d time.Duration) session.Session {
		t.Helper()
		n++
		// Each is another one.
		now, err := s.Start(t.Context(), session.Spec{PIDs: []int{p.PID}, Frequency: 499, Duration: d + time.Duration(n)*time.Microsecond})
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
}

// last is a session at its end.
func last(t *testing.T, s *Sessions, id session.ID) (last session.Session) {
	t.Helper()
	for now, err := range s.Watch(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		last = now
	}
	return last
}

// recorded is a session that has ended, with a profile: however busy the
// machine is, it goes on until there are samples.
func recorded(t *testing.T, s *Sessions, start func(time.Duration) session.Session) session.Session {
	t.Helper()
	id := start(time.Hour).ID
	for now, err := range s.Watch(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if now.Progress.Samples > 0 {
			break
		}
	}
	now, err := s.Cancel(t.Context(), id)
	if err != nil || now.State != session.StateCanceled {
		t.Fatalf("%+v, %v", now, err)
	}
	return now
}

func open(t *testing.T, s *Sessions, id session.ID, format string) *session.Content {
	t.Helper()
	c, err := s.Fetch(t.Context(), id, session.Want{Format: format})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// drained reads the rest of a content, which must be as long as it says.
func drained(t *testing.T, c *session.Content, read int64) {
	t.Helper()
	n, err := io.Copy(io.Discard, c.Body)
	if err != nil || n+read != c.Size {
		t.Errorf("%d bytes and %d of %d: %v", read, n, c.Size, err)
	}
	if err := c.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Body.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := c.Body.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after it was closed: %v", err)
	}
}

func missing(t *testing.T, s *Sessions, id session.ID) {
	t.Helper()
	if _, err := s.Get(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.Fetch(t.Context(), id, session.Want{}); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("fetch: %v", err)
	}
}

// Sessions are forgotten some time after their end, with their profiles; what
// is being read can be read to its end. Then nothing waits for anything.
func TestForgotten(t *testing.T) {
	s, start := kept(t, func(l *Limits) { l.ResultTTLSeconds = 1 })
	now := recorded(t, s, start)
	c := open(t, s, now.ID, "")
	one := make([]byte, 1)
	if _, err := io.ReadFull(c.Body, one); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := s.Get(t.Context(), now.ID); err != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if time.Now().Before(now.Expires) {
		t.Error("it was forgotten too early")
	}
	missing(t, s, now.ID)
	drained(t, c, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.runs) > 0 || len(s.requests) > 0 || s.bytes != 0 || s.expiry.Timer != nil {
		t.Errorf("%d sessions and %d bytes are left, the timer is %v", len(s.runs), s.bytes, s.expiry.Timer)
	}
}

// Of ended sessions only so many are known.
func TestMaxKept(t *testing.T) {
	s, start := kept(t, func(l *Limits) { l.MaxKeptSessions = 2 })
	var all []session.ID
	for range 3 {
		all = append(all, recorded(t, s, start).ID)
	}
	missing(t, s, all[0])
	drained(t, open(t, s, all[1], ""), 0)
	drained(t, open(t, s, all[2], ""), 0)
}

// All profiles together are within the budget: what can be made again goes
// first, then the oldest session.
func TestByteBudget(t *testing.T) {
	s, start := kept(t, func(*Limits) {})
	first := recorded(t, s, start)
	drained(t, open(t, s, first.ID, "html"), 0)
	s.mu.Lock()
	if len(s.extra) != 1 || s.bytes != s.runs[first.ID].contents[0].size+s.extra[0].size {
		t.Errorf("%d bytes are counted, of %d contents", s.bytes, len(s.runs[first.ID].contents))
	}
	s.limits.MaxResultBytes = s.bytes // the page is much larger than a profile
	s.mu.Unlock()

	second := recorded(t, s, start)
	s.mu.Lock()
	if len(s.extra) != 0 || len(s.ended) != 2 {
		t.Error("what can be made again did not make room")
	}
	s.limits.MaxResultBytes = s.bytes
	s.mu.Unlock()
	if _, err := s.Fetch(t.Context(), second.ID, session.Want{Format: "html"}); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("a page that has no room: %v", err)
	}
	reading := open(t, s, first.ID, "")
	drained(t, open(t, s, second.ID, ""), 0)

	third := recorded(t, s, start)
	missing(t, s, first.ID)
	drained(t, reading, 0)
	drained(t, open(t, s, third.ID, ""), 0)
	s.mu.Lock()
	if s.bytes > s.limits.MaxResultBytes {
		t.Errorf("%d bytes are kept, %d may be", s.bytes, s.limits.MaxResultBytes)
	}
	s.limits.MaxResultBytes = 100
	s.mu.Unlock()
	fourth := start(time.Hour)
	for now := range s.Watch(t.Context(), fourth.ID) {
		if now.Progress.Samples > 0 {
			break
		}
	}
	if fourth, err := s.Cancel(t.Context(), fourth.ID); err != nil || fourth.State != session.StateFailed || fourth.Err.Code != "result_limit" || !errors.Is(fourth.Err, session.ErrTooLarge) || fourth.Progress.Samples == 0 {
		t.Errorf("a profile that is too large: %+v", fourth)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes != 0 {
		t.Errorf("%d bytes are counted, none are kept", s.bytes)
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// Where the directory cannot be written profiles are in memory, which is said
// once; where it can, it looks empty.
func TestSpool(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		s, start := kept(t, func(l *Limits) { l.SpoolDir = dir })
		var log lines
		s.Log = slog.New(slog.NewTextHandler(&log, nil))
		for range 2 {
			drained(t, open(t, s, recorded(t, s, start).ID, ""), 0)
		}
		if err := s.Close(t.Context()); err != nil { // the log is written by now
			t.Error(err)
		}
		names, err := os.ReadDir(dir)
		if len(names) > 0 {
			t.Errorf("there are files: %v", names)
		}
		want := 0
		if err != nil {
			want = 1
		}
		if got := log.count("kept in memory"); got != want {
			t.Errorf("%s: %d warnings, want %d", dir, got, want)
		}
		if log.count("session started") != 2 || log.count("session ended") != 2 || log.count("state=canceled") != 2 {
			t.Errorf("the log says\n%s", log.text.String())
		}
	}
}

// stuck is a log whose reader sleeps until it is closed.
type stuck chan struct{}

func (s stuck) Write(b []byte) (int, error) {
	<-s
	return len(b), nil
}

// Who reads the log, and how fast, is no matter of those who ask.
func TestStuckLog(t *testing.T) {
	s, start := kept(t, func(*Limits) {})
	log := make(stuck)
	s.Log = slog.New(slog.NewTextHandler(log, nil))
	now := start(time.Hour)
	if got, err := s.Get(t.Context(), now.ID); err != nil || got.State != session.StateRunning {
		t.Errorf("%+v, %v", got, err)
	}
	if all, err := s.List(t.Context(), session.Filter{}); err != nil || len(all) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if other := start(time.Hour); other.State != session.StateRunning {
		t.Errorf("another session: %+v", other)
	}
	close(log)
}

// A graceful stop: whoever waits or runs is canceled, with the profile up to
// then; that can be fetched until it was, or the grace period is over.
func TestCloseGracefully(t *testing.T) {
	s, start := kept(t, func(l *Limits) { l.MaxConcurrentSessions, l.GracePeriodSeconds = 1, 60 })
	before := settled(t, 0)
	runs, waits := start(time.Minute), start(time.Minute)
	for now := range s.Watch(t.Context(), runs.ID) {
		if now.Progress.Samples > 0 {
			break
		}
	}
	closed := make(chan error)
	go func() { closed <- s.Close(t.Context()) }()
	for _, id := range []session.ID{waits.ID, runs.ID} {
		now := last(t, s, id)
		if now.State != session.StateCanceled || now.Err.Code != "service_stopping" || !errors.Is(now.Err, session.ErrUnavailable) {
			t.Errorf("%+v", now)
		}
	}
	if _, err := s.Start(t.Context(), session.Spec{PIDs: []int{os.Getpid()}, Frequency: 99, Duration: time.Second}); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a session after the end: %v", err)
	}
	if h := s.Health(); h.Healthy || h.Reason == "" {
		t.Errorf("%+v", h)
	}
	if _, err := s.Fetch(t.Context(), waits.ID, session.Want{}); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("fetch of one that never ran: %v", err)
	}
	c := open(t, s, runs.ID, "")
	select {
	case err := <-closed:
		t.Errorf("it did not wait for the profile to be fetched: %v", err)
	default:
	}
	drained(t, c, 0)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	missing(t, s, runs.ID)
	if after := settled(t, before); after > before {
		t.Errorf("%d goroutines before, %d after:\n%s", before, after, stacks())
	}
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

// Nobody comes, and the grace period is over; or who stops it has no patience.
func TestCloseWithoutFetch(t *testing.T) {
	for _, patience := range []time.Duration{time.Hour, 100 * time.Millisecond} {
		s, start := kept(t, func(l *Limits) { l.GracePeriodSeconds = 1 })
		now := recorded(t, s, start)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		from := time.Now()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(from); took < min(patience, time.Second) {
			t.Errorf("it took %v, with patience for %v", took, patience)
		}
		missing(t, s, now.ID)
	}
}

// A fault of ours costs one session, and is told to the one whose it is.
func TestPanic(t *testing.T) {
	s, start := kept(t, func(*Limits) {})
	var log lines
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	sound := s.recorder
	s.recorder = nil
	_, err := s.Start(t.Context(), session.Spec{PIDs: []int{os.Getpid()}, Frequency: 99, Duration: time.Second})
	var e *session.Error
	if !errors.As(err, &e) || e.Code != "internal" || session.KindName(err) != "" {
		t.Errorf("start: %v", err)
	}
	if log.count("level=ERROR msg=panic") != 1 || log.count("sessions_run.go") == 0 {
		t.Errorf("the log says\n%s", log.text.String())
	}
	s.recorder = sound
	if now := recorded(t, s, start); now.Progress.Samples == 0 {
		t.Errorf("the next one: %+v", now)
	}
	if h := s.Health(); !h.Healthy || h.Running != 0 {
		t.Errorf("%+v", h)
	}
}

// A session that is attended for one goes on for another who asks for the same
// and does not watch; nobody at all ends it.
func TestNobodyWatches(t *testing.T) {
	privileged(t)
	t.Parallel()
	s, start := kept(t, func(*Limits) {})
	spec := start(time.Minute).Spec
	spec.Frequency--
	spec.Attended = true
	alone, err := s.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	spec.Frequency--
	shared, err := s.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	spec.Attended = false
	if now, err := s.Start(t.Context(), spec); err != nil || now.ID != shared.ID || now.Spec.Attended {
		t.Errorf("%+v, %v", now, err)
	}
	for {
		now, err := s.Get(t.Context(), alone.ID)
		if err != nil {
			t.Fatal(err)
		}
		if now.State.Final() {
			if now.State != session.StateCanceled || now.Err.Code != "unattended" || now.Ended.Sub(now.Created) < attendedFirst {
				t.Errorf("%+v", now)
			}
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if now, err := s.Get(t.Context(), shared.ID); err != nil || now.State != session.StateRunning {
		t.Errorf("the shared one: %+v, %v", now, err)
	}
}

func TestLimits(t *testing.T) {
	for name, change := range map[string]func(*Limits){
		"":                        func(*Limits) {},
		"max_concurrent_sessions": func(l *Limits) { l.MaxConcurrentSessions = 0 },
		"max_queued_sessions":     func(l *Limits) { l.MaxQueuedSessions = -1 },
		"max_frequency_hz":        func(l *Limits) { l.MaxFrequencyHz = 20_000 },
		"chunk_size_bytes":        func(l *Limits) { l.ChunkSizeBytes = 4 << 20 },
		"max_result_bytes":        func(l *Limits) { l.MaxResultBytes = 1 },
		"spool_dir":               func(l *Limits) { l.SpoolDir = "" },
	} {
		l := DefaultLimits()
		change(&l)
		err := l.Validate()
		if name == "" && err != nil || name != "" && (err == nil || !errors.Is(err, session.ErrInvalid) || !strings.Contains(err.Error(), name)) {
			t.Errorf("%q: %v", name, err)
		}
		if _, second := NewSessions(nil, l); (second == nil) != (err == nil) {
			t.Errorf("%q: %v", name, second)
		}
	}
}
