// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Children of a user that the role may not have sampled are no way around it.
func TestChildrenOfOthers(t *testing.T) {
	path := split(t)
	g, _ := gate(t, &access.Policy{Roles: map[string][]string{"ops": {"operator"}},
		Scope: access.Scope{Allow: map[string][]access.Rule{"operator": {{Users: []string{"root"}}}}}}, nil)
	ops := as{g, named("ops")}
	parent := target(t, "ready", exec.Command("sh", "-c", "setpriv --reuid 20002 --clear-groups "+path+" & wait"))
	if _, err := ops.Start(t.Context(), spec(parent.PID)); err != nil {
		t.Errorf("without its children: %v", err)
	}
	s := spec(parent.PID)
	s.Children = true
	_, err := ops.Start(t.Context(), s)
	refused(t, "with its children", err, "target_not_allowed")
}

// A target that comes to run as somebody else is left out from then on: a
// program with the mark that sudo has, executed by it or by a child.
func TestTargetBecomesAnother(t *testing.T) {
	path := split(t)
	other := filepath.Join(filepath.Dir(path), "other")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chown(other, 20002, 20002), os.Chmod(other, os.ModeSetuid|0o755)); err != nil {
		t.Fatal(err)
	}
	g, log := gate(t, &access.Policy{Roles: map[string][]string{"ops": {"operator"}},
		Scope: access.Scope{Allow: map[string][]access.Rule{"operator": {{Users: []string{"20001"}}}}}}, nil)
	ops := as{g, named("ops")}
	for name, script := range map[string]string{
		"itself":  "exec " + other,
		"a child": other + " & i=0; while :; do i=$((i+1)); done",
	} {
		t.Run(name, func(t *testing.T) {
			flag := filepath.Join(t.TempDir(), "go")
			if err := os.Chmod(filepath.Dir(filepath.Dir(flag)), 0o755); err != nil {
				t.Fatal(err)
			}
			p := target(t, "ready", user(20001, "/bin/sh", "-c", "echo ready; i=0; while [ ! -e "+flag+" ]; do i=$((i+1)); done; "+script))
			s := spec(p.PID)
			s.Children, s.Duration = true, 2*time.Minute // far more than it takes
			started, err := ops.Start(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			sampled(t, ops, started.ID)
			if err := os.WriteFile(flag, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			line := log.waitFor(t, map[string]any{"answer": "revoked", "peer": "ops", "code": "target_not_allowed"})
			if of, ok := line["target"].(map[string]any); !ok || of["name"] != "other" || !strings.Contains(of["user"].(string), "20002") {
				t.Errorf("%v", line)
			}
			log.Reset()
			last := started
			if name == "a child" { // then the session goes on without it
				time.Sleep(200 * time.Millisecond)
				if last, err = ops.Cancel(t.Context(), started.ID); err != nil {
					t.Fatal(err)
				}
			}
			for !last.State.Final() {
				last = changed(t, ops, started.ID)
			}
			if name == "itself" && last.EndedBy != "permission ended" {
				t.Errorf("ended by %q", last.EndedBy)
			}
			text := fetched(t, ops, started.ID, "folded")
			if strings.Contains(text, "hot_a") || strings.Contains(text, "other") || !strings.Contains(text, "sh") {
				t.Errorf("what must not be in there is:\n%s", text)
			}
			if meta := fetched(t, ops, started.ID, "text"); !strings.Contains(meta, "was left out from some moment on") {
				t.Errorf("no warning in\n%s", meta)
			}
		})
	}
}

// sampled waits until a session has some samples.
func sampled(t testing.TB, r session.Runner, id session.ID) {
	t.Helper()
	for now, err := range r.Watch(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if now.Progress.Samples > 10 {
			return
		}
	}
	t.Fatal("it ended before it had samples")
}

// What was allowed when it was asked for is not, when its turn comes: by new
// rules, and because the process became another's.
func TestQueuedSessionIsAskedAgain(t *testing.T) {
	path := split(t)
	open := &access.Policy{Roles: map[string][]string{"root": {"admin"}, "ops": {"operator"}}}
	for name, c := range map[string]struct {
		code   string
		change func(t *testing.T, g *access.Gate, pid int)
	}{
		"no role any more": {"no_role", func(t *testing.T, g *access.Gate, _ int) {
			if err := g.SetPolicy(&access.Policy{Roles: map[string][]string{"root": {"admin"}}}); err != nil {
				t.Fatal(err)
			}
		}},
		"out of scope by now": {"target_not_allowed", func(t *testing.T, g *access.Gate, _ int) {
			p := *open
			p.Scope.Never = []access.Rule{{Users: []string{"20001"}}}
			if err := g.SetPolicy(&p); err != nil {
				t.Fatal(err)
			}
		}},
		"nothing changed": {"", func(*testing.T, *access.Gate, int) {}},
	} {
		t.Run(name, func(t *testing.T) {
			g, log := gate(t, open, func(l *profiler.Limits) { l.MaxConcurrentSessions = 1 })
			root, ops := as{g, named("root")}, as{g, named("ops")}
			first, err := root.Start(t.Context(), spec(target(t, "ready", exec.Command(path)).PID))
			if err != nil {
				t.Fatal(err)
			}
			p := target(t, "ready", user(20001, path))
			queued, err := ops.Start(t.Context(), spec(p.PID))
			if err != nil || queued.State != session.StatePending {
				t.Fatalf("%+v, %v", queued, err)
			}
			c.change(t, g, p.PID)
			if _, err := root.Cancel(t.Context(), first.ID); err != nil {
				t.Fatal(err)
			}
			now := started(t, root, queued.ID)
			if c.code == "" {
				if now.State != session.StateRunning {
					t.Errorf("%+v", now)
				}
				return
			}
			if now.State != session.StateFailed || now.Err == nil || now.Err.Code != c.code {
				t.Errorf("%+v", now)
			}
			log.waitFor(t, map[string]any{"answer": "revoked", "peer": "ops", "code": c.code})
			log.waitFor(t, map[string]any{"answer": "ended", "peer": "ops", "state": "failed", "code": c.code})
		})
	}
}

// changed waits until the state of a session is another one than at first.
func changed(t testing.TB, r session.Runner, id session.ID) session.Session {
	t.Helper()
	var first, last session.Session
	for now, err := range r.Watch(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if first.ID == "" {
			first = now
		}
		if last = now; now.State != first.State {
			break
		}
	}
	return last
}

// started waits until a session is not pending any more.
func started(t testing.TB, r session.Runner, id session.ID) session.Session {
	t.Helper()
	var last session.Session
	for now, err := range r.Watch(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if last = now; now.State != session.StatePending {
			break
		}
	}
	return last
}

// The PID that was allowed is given to another process while its session waits:
// that one is not sampled, though its PID was.
func TestPIDIsReused(t *testing.T) {
	const lastPID = "/proc/sys/kernel/ns_last_pid" // the next process gets the next PID
	path := split(t)
	g, _ := gate(t, &access.Policy{Roles: map[string][]string{"root": {"admin"}, "ops": {"operator"}},
		Scope: access.Scope{Allow: map[string][]access.Rule{"operator": {{Users: []string{"20001"}}}}}},
		func(l *profiler.Limits) { l.MaxConcurrentSessions = 1 })
	root, ops := as{g, named("root")}, as{g, named("ops")}
	first, err := root.Start(t.Context(), spec(target(t, "ready", exec.Command(path)).PID))
	if err != nil {
		t.Fatal(err)
	}
	p := target(t, "ready", user(20001, path))
	queued, err := ops.Start(t.Context(), spec(p.PID))
	if err != nil || queued.State != session.StatePending {
		t.Fatalf("%+v, %v", queued, err)
	}
	time.Sleep(20 * time.Millisecond) // processes that start within 10 ms have one start time
	p.Stop()
	for n := 0; ; n++ {
		if err := os.WriteFile(lastPID, []byte(strconv.Itoa(p.PID-1)), 0); err != nil {
			t.Skipf("PIDs cannot be chosen here: %v", err)
		}
		c := exec.Command(path)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Kill(); c.Wait() })
		if c.Process.Pid == p.PID {
			break
		}
		if n == 200 {
			t.Skip("others were faster each time")
		}
	}
	if _, err := root.Cancel(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if now := started(t, root, queued.ID); now.State != session.StateFailed || now.Err.Code != "process_exited" || now.Progress.Samples > 0 {
		t.Errorf("%+v, %v", now, now.Err)
	}
}
