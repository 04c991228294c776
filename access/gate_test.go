// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/session/sessiontest"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// audit is the log, to look into.
type audit struct {
	sync.Mutex
	bytes.Buffer
}

func (a *audit) Write(b []byte) (int, error) {
	a.Lock()
	defer a.Unlock()
	return a.Buffer.Write(b)
}

// lines are those that have all of some fields.
func (a *audit) lines(t testing.TB, fields map[string]any) []map[string]any {
	t.Helper()
	a.Lock()
	defer a.Unlock()
	var all []map[string]any
next:
	for line := range bytes.Lines(a.Bytes()) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("a line of the audit is no JSON: %v: %s", err, line)
		}
		for k, v := range fields {
			if m[k] != v {
				continue next
			}
		}
		all = append(all, m)
	}
	return all
}

func (a *audit) waitFor(t testing.TB, fields map[string]any) map[string]any {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if found := a.lines(t, fields); len(found) > 0 {
			return found[0]
		}
	}
	t.Fatalf("the audit has no line with %v:\n%s", fields, a.String())
	return nil
}

// as is a runner as one peer sees it.
type as struct {
	session.Runner
	who auth.Peer
}

func (a as) ctx(ctx context.Context) context.Context { return auth.WithPeer(ctx, a.who) }

func (a as) Start(ctx context.Context, s session.Spec) (session.Session, error) {
	return a.Runner.Start(a.ctx(ctx), s)
}
func (a as) Get(ctx context.Context, id session.ID) (session.Session, error) {
	return a.Runner.Get(a.ctx(ctx), id)
}
func (a as) List(ctx context.Context, f session.Filter) ([]session.Session, error) {
	return a.Runner.List(a.ctx(ctx), f)
}
func (a as) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return a.Runner.Watch(a.ctx(ctx), id)
}
func (a as) Fetch(ctx context.Context, id session.ID, w session.Want) (*session.Content, error) {
	return a.Runner.Fetch(a.ctx(ctx), id, w)
}
func (a as) Cancel(ctx context.Context, id session.ID) (session.Session, error) {
	return a.Runner.Cancel(a.ctx(ctx), id)
}

// fleet is the gate as a fleet, as the same peer sees it.
func (a as) fleet() session.Fleet { return a.Runner.(session.Fleet) }

func (a as) Hosts(ctx context.Context, h session.Hosts) ([]session.Host, error) {
	return a.fleet().Hosts(a.ctx(ctx), h)
}
func (a as) Processes(ctx context.Context, host string, s session.Selector, most int) ([]session.Process, error) {
	return a.fleet().Processes(a.ctx(ctx), host, s, most)
}
func (a as) Match(ctx context.Context, s session.Spec) ([]session.Match, error) {
	return a.fleet().Match(a.ctx(ctx), s)
}

func named(name string) auth.Peer {
	return auth.Peer{CommonName: name, Serial: "2a", Address: "192.0.2.1:7"}
}

// gate is a gate before real sessions.
func gate(t testing.TB, p *access.Policy, change func(*profiler.Limits)) (*access.Gate, *audit) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("gcc"); err != nil && os.Getenv("SRPROF_REQUIRE_ALL") == "" {
		t.Skip("needs gcc")
	}
	l := profiler.DefaultLimits()
	l.GracePeriodSeconds, l.SpoolDir = 0, t.TempDir()
	if change != nil {
		change(&l)
	}
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
	log := &audit{}
	here := host.New(s, host.Options{Requested: s.Requested, Check: s.Check, Health: func() host.Health { return host.Health(s.Health()) }})
	g, err := access.New(here, p, slog.New(slog.NewJSONHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return g, log
}

func spec(pid int) session.Spec {
	return session.Spec{PIDs: []int{pid}, Duration: 20 * time.Second, Frequency: 199}
}

func target(t testing.TB, ready string, c *exec.Cmd) *programs.Process {
	t.Helper()
	p, err := programs.Launch(c, ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// user makes a command run as a user.
func user(uid uint32, name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return c
}

// split is a program that works all the time, where any user may run it.
func split(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "access")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p, err := programs.Read("split.c")
	if err != nil {
		t.Fatal(err)
	}
	path, err := p.Build(dir)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func refused(t testing.TB, what string, err error, code string) {
	t.Helper()
	var e *session.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

// A gate changes nothing for who may do everything.
func TestGateKeepsTheContract(t *testing.T) { sessiontest.Run(t, behindGate) }

func TestGateKeepsTheContractOfFleets(t *testing.T) { sessiontest.RunFleet(t, behindGate) }

func behindGate(t *testing.T) sessiontest.Fixture {
	p := &access.Policy{Roles: map[string][]string{"root": {"admin"}}, Rate: access.Rate{PerSecond: 1e6, Burst: 1e6}}
	g, _ := gate(t, p, func(l *profiler.Limits) {
		l.MaxConcurrentSessions, l.MaxQueuedSessions, l.MaxSessionDurationSeconds, l.MaxFrequencyHz = 2, 1, 20, 499
	})
	of := func(p *programs.Process) sessiontest.Target { return sessiontest.Target{PID: p.PID, Stop: p.Stop} }
	return sessiontest.Fixture{
		Runner: as{g, named("root")},
		Busy: func(t testing.TB) sessiontest.Target {
			return of(target(t, "ready", exec.Command(split(t))))
		},
		Named: func(t testing.TB, name string) sessiontest.Target {
			return of(programs.Start(t, "split.c", programs.Options{As: name}))
		},
		Idle:    func(t testing.TB) sessiontest.Target { return of(target(t, "", exec.Command("sleep", "1000"))) },
		Hottest: "hot_a", Places: 2, Queue: 1, MaxDuration: 20 * time.Second, MaxFrequency: 499,
	}
}

// The life of a session in the audit: who, for whom, what of whom, the answers.
func TestAudit(t *testing.T) {
	g, log := gate(t, &access.Policy{Roles: map[string][]string{"ops": {"operator"}, "bot": {"admin"}, "look": {"viewer"}}}, nil)
	path := split(t)
	p := target(t, "ready", user(20001, path))
	ops, bot, look, nobody := as{g, named("ops")}, as{g, named("bot")}, as{g, named("look")}, as{g, named("nobody\n\"answer\":\"allowed\"")}

	s := spec(p.PID)
	s.Requester = "alice"
	_, err := ops.Start(t.Context(), s)
	refused(t, "on behalf of somebody else", err, "requester_not_allowed")
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("its kind is not permission: %v", err)
	}
	log.waitFor(t, map[string]any{"answer": "refused", "call": "start", "peer": "ops", "on_behalf_of": "alice", "code": "requester_not_allowed"})
	started, err := bot.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	line := log.waitFor(t, map[string]any{"msg": "access", "answer": "allowed", "call": "start", "peer": "bot", "certificate_serial": "2a",
		"peer_address": "192.0.2.1:7", "on_behalf_of": "alice", "session": string(started.ID), "frequency_hz": 199.0})
	if got, err := json.Marshal(line["targets"]); err != nil || !strings.Contains(string(got), `"name":"split"`) || !strings.Contains(string(got), `"user":"20001"`) {
		t.Errorf("targets %s, %v", got, err)
	}
	_, err = look.Cancel(t.Context(), started.ID)
	refused(t, "a viewer cancels", err, "not_permitted")
	log.waitFor(t, map[string]any{"answer": "refused", "call": "cancel", "peer": "look", "code": "not_permitted", "session": string(started.ID)})
	_, err = look.Start(t.Context(), s)
	refused(t, "a viewer starts", err, "not_permitted")
	line = log.waitFor(t, map[string]any{"answer": "refused", "call": "start", "peer": "look", "on_behalf_of": "alice", "code": "not_permitted", "frequency_hz": 199.0})
	if got, err := json.Marshal(line["targets"]); err != nil || string(got) != fmt.Sprintf(`[{"pid":%d}]`, p.PID) {
		t.Errorf("what was refused is not told, or was looked at: targets %s, %v", got, err)
	}
	if got, err := look.Get(t.Context(), started.ID); err != nil || got.Spec.Requester != "alice" {
		t.Errorf("a viewer reads: %+v, %v", got, err)
	}
	_, err = nobody.Get(t.Context(), started.ID)
	refused(t, "who has no role", err, "no_role")
	if _, err = g.Get(t.Context(), started.ID); true {
		refused(t, "who is not known", err, "peer_unknown")
	}
	if _, err := ops.Cancel(t.Context(), started.ID); err != nil {
		t.Error(err)
	}
	log.waitFor(t, map[string]any{"answer": "allowed", "call": "cancel", "peer": "ops", "session": string(started.ID)})
	log.waitFor(t, map[string]any{"answer": "ended", "peer": "bot", "on_behalf_of": "alice", "session": string(started.ID), "state": "canceled", "code": "canceled"})
	_, err = ops.Get(t.Context(), "no such one")
	refused(t, "what is not known", err, "no_such_session")
	log.waitFor(t, map[string]any{"answer": "allowed", "call": "get", "session": "no such one", "code": "no_such_session"})
	log.lines(t, nil) // each is one, whatever a certificate is called
}

// Oneself by any of one's names is no other.
func TestRequesterIsOneself(t *testing.T) {
	g, _ := gate(t, &access.Policy{Roles: map[string][]string{"ops": {"operator"}}}, nil)
	p := target(t, "ready", exec.Command(split(t)))
	who := auth.Peer{CommonName: "ops", DNSNames: []string{"ops.example"}}
	for requester, code := range map[string]string{"": "", "ops": "", "ops.example": "", "cn:ops": "", "*": "requester_not_allowed", "local": "requester_not_allowed", "root": "requester_not_allowed"} {
		s := spec(p.PID)
		s.Requester = requester
		if _, err := (as{g, who}).Start(t.Context(), s); code == "" && err != nil || code != "" && err == nil {
			t.Errorf("%q: %v", requester, err)
		} else if code != "" {
			refused(t, requester, err, code)
		}
	}
}

func TestRateLimit(t *testing.T) {
	g, log := gate(t, &access.Policy{Roles: map[string][]string{"a": {"viewer"}, "b": {"viewer"}}, Rate: access.Rate{PerSecond: 0.001, Burst: 3}}, nil)
	a, b := as{g, named("a")}, as{g, named("b")}
	for range 3 {
		if _, err := a.List(t.Context(), session.Filter{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 50 {
		_, err := a.List(t.Context(), session.Filter{})
		var e *session.Error
		if !errors.As(err, &e) || e.Code != "rate_limited" || e.RetryAfter < time.Minute || !errors.Is(err, session.ErrBusy) {
			t.Fatalf("%v", err)
		}
	}
	if _, err := b.List(t.Context(), session.Filter{}); err != nil {
		t.Errorf("another one pays for it: %v", err)
	}
	if n := len(log.lines(t, map[string]any{"code": "rate_limited"})); n == 0 || n > 5 {
		t.Errorf("%d lines of 50 refusals", n)
	}
}

func fetched(t testing.TB, r session.Runner, id session.ID, format string) string {
	t.Helper()
	c, err := r.Fetch(t.Context(), id, session.Want{Format: format})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Body.Close()
	b, err := io.ReadAll(c.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
