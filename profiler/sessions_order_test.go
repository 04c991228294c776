// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// privileged leaves a test out without root, unless all is required.
func privileged(t *testing.T) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("SRPROF_REQUIRE_ALL") != "":
		t.Fatal("needs root")
	default:
		t.Skip("needs root")
	}
}

// disorder plays random events on Sessions, and checks after each that what is
// believed of sessions fits together.
type disorder struct {
	*testing.T
	s       *Sessions
	random  *rand.Rand
	targets []*programs.Process
	known   []session.ID
	mu      sync.Mutex
	final   map[session.ID]session.Session // as watchers saw it
	all     sync.WaitGroup
}

func (d *disorder) target() int { return d.targets[d.random.IntN(len(d.targets))].PID }

func (d *disorder) any() session.ID {
	if len(d.known) == 0 {
		return "none"
	}
	return d.known[len(d.known)-1-d.random.IntN(min(6, len(d.known)))]
}

// busyLoop starts a target that any shell can be.
func busyLoop() (*programs.Process, error) {
	return programs.Launch(exec.Command("sh", "-c", "echo ready; while :; do :; done"), "ready")
}

func (d *disorder) start() {
	spec := session.Spec{PIDs: []int{d.target()}, Frequency: 299, Duration: time.Duration(5+20*d.random.IntN(8)) * time.Millisecond}
	if d.random.IntN(3) == 0 {
		spec.PIDs = append(spec.PIDs, d.target())
	}
	if d.random.IntN(2) == 0 {
		spec.RequestID = fmt.Sprint(d.random.IntN(40))
	}
	spec.Attended = d.random.IntN(4) == 0
	spec.MaxWait = time.Duration(d.random.IntN(3)) * 100 * time.Millisecond
	ctx := d.Context()
	if d.random.IntN(5) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(d.random.IntN(3000))*time.Microsecond)
		defer cancel()
	}
	now, err := d.s.Start(ctx, spec)
	var e *session.Error
	switch {
	case err == nil:
		if !slices.Contains(d.known, now.ID) {
			d.known = append(d.known, now.ID)
			d.all.Go(func() { d.follow(now.ID) })
		}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, session.ErrBusy):
	case errors.As(err, &e) && (e.Code == "no_such_process" || e.Code == "process_exited" || e.Code == "request_id_reused"):
	default:
		d.Errorf("start: %v", err)
	}
}

// follow watches a session to its end.
func (d *disorder) follow(id session.ID) {
	var last session.Session
	for now, err := range d.s.Watch(d.Context(), id) {
		if err != nil {
			if !errors.Is(err, session.ErrNotFound) { // it was forgotten before we came
				d.Errorf("watch: %v", err)
			}
			return
		}
		if last.ID != "" && now.State != last.State && !last.State.May(now.State) {
			d.Errorf("%s went from %s to %s", id, last.State, now.State)
		}
		last = now
	}
	if !last.State.Final() || (last.Err == nil) != (last.State == session.StateSucceeded) || last.Ended.IsZero() || last.Position != 0 {
		d.Errorf("the last news of a session: %+v", last)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.final[id] = last
}

// glance watches for a moment.
func (d *disorder) glance() {
	ctx, cancel := context.WithTimeout(d.Context(), time.Duration(d.random.IntN(4))*time.Millisecond)
	defer cancel()
	for range d.s.Watch(ctx, d.any()) {
	}
}

func (d *disorder) fetch() {
	id, format := d.any(), []string{"", "folded", "text"}[d.random.IntN(3)]
	d.all.Go(func() {
		c, err := d.s.Fetch(d.Context(), id, session.Want{Format: format})
		if err != nil {
			if session.KindName(err) == "" {
				d.Errorf("fetch: %v", err)
			}
			return
		}
		if n, err := io.Copy(io.Discard, c.Body); err != nil || n != c.Size {
			d.Errorf("%d bytes of %d: %v", n, c.Size, err)
		}
		if err := c.Body.Close(); err != nil {
			d.Error(err)
		}
	})
}

func (d *disorder) cancel() {
	id := d.any()
	d.all.Go(func() {
		now, err := d.s.Cancel(d.Context(), id)
		if err != nil && !errors.Is(err, session.ErrNotFound) || err == nil && !now.State.Final() {
			d.Errorf("cancel: %+v, %v", now, err)
		}
	})
}

// exit ends a target, and gives the next sessions another one.
func (d *disorder) exit() {
	p, err := busyLoop()
	if err != nil {
		d.Fatal(err)
	}
	i := d.random.IntN(len(d.targets))
	d.targets[i].Stop()
	d.targets[i] = p
}

// check looks at all that Sessions believes.
func (d *disorder) check() {
	s := d.s
	s.mu.Lock()
	defer s.mu.Unlock()
	placed, waiting := 0, 0
	for id, r := range s.runs {
		over := r.now.State.Final()
		kept := slices.Contains(s.ended, r)
		if r.now.ID != id || over != kept || over == (r.now.Ended.IsZero()) || (r.now.State == session.StateRunning) != (r.recording != nil) {
			d.Errorf("%+v: kept %v, recording %p", r.now, kept, r.recording)
		}
		if r.placed {
			placed++
		}
		if r.now.Position > 0 {
			waiting++
		}
		if r.now.State == session.StatePending && !r.placed && (r.now.Position == 0 || s.queue[r.now.Position-1] != r) || r.placed && (over || r.now.Position > 0) {
			d.Errorf("%+v is not where it seems to be", r.now)
		}
		for _, request := range r.requests {
			if s.requests[request] != r {
				d.Errorf("request %q does not lead to %s", request, id)
			}
		}
		if r.now.State == session.StateSucceeded && len(r.contents) == 0 {
			d.Errorf("%+v has no profile", r.now)
		}
	}
	if placed != s.busy || s.busy > s.limits.MaxConcurrentSessions || waiting != len(s.queue) || waiting > s.limits.MaxQueuedSessions {
		d.Errorf("%d places taken, %d counted; %d wait, %d counted", placed, s.busy, waiting, len(s.queue))
	}
	if waiting > 0 && s.busy < s.limits.MaxConcurrentSessions {
		d.Errorf("%d wait, though only %d places are taken", waiting, s.busy)
	}
	for _, r := range s.requests {
		if s.runs[r.now.ID] != r {
			d.Errorf("a request leads to %s, which is forgotten", r.now.ID)
		}
	}
}

// Whatever comes in whatever order, each session ends once, and nothing is
// left in the end.
func TestRandomOrders(t *testing.T) {
	privileged(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range 3 {
		before := settled(t, 0)
		playDisorder(t, rand.New(rand.NewPCG(seed, uint64(round))))
		if after := settled(t, before); after > before {
			t.Errorf("%d goroutines before, %d after:\n%s", before, after, stacks())
		}
	}
}

func playDisorder(t *testing.T, random *rand.Rand) {
	limits := DefaultLimits()
	limits.MaxConcurrentSessions, limits.MaxQueuedSessions, limits.MaxKeptSessions, limits.GracePeriodSeconds = 3, 3, 12, 0
	limits.SpoolDir = t.TempDir()
	s, err := NewSessions(NewRecorder(16<<20, 4<<20), limits)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(); err != nil {
		t.Fatal(err)
	}
	defer s.recorder.Close()
	d := &disorder{T: t, s: s, random: random, final: map[session.ID]session.Session{}}
	for range 3 {
		p, err := busyLoop()
		if err != nil {
			t.Fatal(err)
		}
		d.targets = append(d.targets, p)
	}
	defer func() {
		for _, p := range d.targets {
			p.Stop()
		}
	}()
	for n := 0; n < 250 || d.ends()["succeeded"] == 0 || d.ends()["canceled"] == 0; n++ {
		switch n := random.IntN(100); {
		case n < 40:
			d.start()
		case n < 50:
			d.cancel()
		case n < 70:
			d.fetch()
		case n < 80:
			d.glance()
		case n < 83:
			d.exit()
		default:
			time.Sleep(time.Duration(random.IntN(15)) * time.Millisecond)
		}
		d.check()
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	d.all.Wait()
	d.check()
	if len(s.runs)+len(s.requests)+len(s.ended)+len(s.queue)+len(s.extra)+s.busy != 0 || s.bytes != 0 {
		t.Errorf("after Close there are %d sessions, %d requests, %d contents of %d bytes", len(s.runs), len(s.requests), len(s.extra), s.bytes)
	}
	t.Logf("%d sessions: %v", len(d.known), d.ends())
}

// ends are the ways in which sessions have ended.
func (d *disorder) ends() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	ends := map[string]int{}
	for _, last := range d.final {
		how := string(last.State)
		if last.Err != nil {
			how = last.Err.Code
		}
		ends[how]++
	}
	return ends
}

// settled is the number of goroutines, once there are no more than wanted or it
// has not changed for a while.
func settled(t *testing.T, want int) int {
	t.Helper()
	n, same := runtime.NumGoroutine(), 0
	for same < 100 && n > want {
		time.Sleep(5 * time.Millisecond)
		if now := runtime.NumGoroutine(); now != n {
			n, same = now, 0
		} else {
			same++
		}
	}
	return n
}

func stacks() string {
	b := make([]byte, 1<<20)
	return strings.TrimSpace(string(b[:runtime.Stack(b, true)]))
}
