// SPDX-License-Identifier: Apache-2.0

package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// calls are those of a fleet, with the permission that each needs.
var calls = []struct {
	name       string
	permission access.Permission
	call       func(context.Context, session.Fleet, string) error
}{
	{"hosts", access.PermissionRead, func(ctx context.Context, f session.Fleet, _ string) error {
		_, err := f.Hosts(ctx, session.Hosts{})
		return err
	}},
	{"processes", access.PermissionStart, func(ctx context.Context, f session.Fleet, name string) error {
		_, err := f.Processes(ctx, "", session.Selector{Name: name}, 0)
		return err
	}},
	{"match", access.PermissionStart, func(ctx context.Context, f session.Fleet, name string) error {
		_, err := f.Match(ctx, byName(name))
		return err
	}},
	{"start", access.PermissionStart, func(ctx context.Context, f session.Fleet, name string) error {
		_, err := f.Start(ctx, byName(name))
		return err
	}},
}

func byName(name string) session.Spec {
	return session.Spec{Select: session.Selector{Name: name}, Duration: 20 * time.Second, Frequency: 99}
}

// as20001 starts a program that works all the time, by that name, as user 20001.
func as20001(t *testing.T, path, name string) int {
	t.Helper()
	to := filepath.Join(filepath.Dir(path), name)
	if err := os.Link(path, to); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return target(t, "ready", user(20001, to)).PID
}

// Each call by each role, both ways.
func TestRolesOfFleetCalls(t *testing.T) {
	g, log := gate(t, &access.Policy{
		Roles:       map[string][]string{"root": {"admin"}, "ops": {"operator"}, "look": {"viewer"}, "starter": {"starter"}, "stopper": {"stopper"}},
		Permissions: map[string][]access.Permission{"starter": {access.PermissionStart}, "stopper": {access.PermissionCancel, access.PermissionDelegate}},
		Rate:        access.Rate{PerSecond: 1e6, Burst: 1e6},
	}, nil)
	name := fmt.Sprintf("r%d", os.Getpid())
	as20001(t, split(t), name)
	for who, has := range map[string][]access.Permission{
		"root": {access.PermissionStart, access.PermissionRead}, "ops": {access.PermissionStart, access.PermissionRead},
		"look": {access.PermissionRead}, "starter": {access.PermissionStart}, "stopper": nil, "nobody": nil,
	} {
		for _, c := range calls {
			err := c.call(t.Context(), as{g, named(who)}, name)
			if slices.Contains(has, c.permission) {
				if err != nil {
					t.Errorf("%s: %s: %v", who, c.name, err)
				}
				log.waitFor(t, map[string]any{"answer": "allowed", "call": c.name, "peer": who})
				continue
			}
			code := "not_permitted"
			if who == "nobody" {
				code = "no_role"
			}
			refused(t, who+": "+c.name, err, code)
			if !errors.Is(err, session.ErrForbidden) {
				t.Errorf("%s: %s: %v is of another kind", who, c.name, err)
			}
			log.waitFor(t, map[string]any{"answer": "refused", "call": c.name, "peer": who, "code": code})
		}
	}
	for _, c := range calls {
		refused(t, c.name+" by who is not known", c.call(t.Context(), g, name), "peer_unknown")
	}
}

// A selector that means a process out of scope is refused as a whole, and such a
// process is not told of.
func TestSelectorsInScope(t *testing.T) {
	p := &access.Policy{Roles: map[string][]string{"ops": {"operator"}, "root": {"admin"}},
		Scope: access.Scope{Allow: map[string][]access.Rule{"operator": {{Users: []string{"20001"}}}}}}
	g, log := gate(t, p, nil)
	ops, root := as{g, named("ops")}, as{g, named("root")}
	path := split(t)
	mine, both := fmt.Sprintf("m%d", os.Getpid()), fmt.Sprintf("b%d", os.Getpid())
	a := as20001(t, path, mine)
	b := as20001(t, path, both)
	to := filepath.Join(filepath.Dir(path), both)
	c := target(t, "ready", user(20002, to)).PID

	started, err := ops.Start(t.Context(), byName(mine))
	if err != nil || !slices.Equal(started.Spec.PIDs, []int{a}) {
		t.Errorf("%+v, %v", started, err)
	}
	line := log.waitFor(t, map[string]any{"answer": "allowed", "call": "start", "selector": "name " + mine, "session": string(started.ID)})
	if got, err := json.Marshal(line["targets"]); err != nil || !strings.Contains(string(got), fmt.Sprintf(`"pid":%d`, a)) || !strings.Contains(string(got), `"user":"20001"`) {
		t.Errorf("targets %s, %v", got, err)
	}

	_, err = ops.Start(t.Context(), byName(both))
	refused(t, "one of two is another's", err, "target_not_allowed")
	if err != nil && (!strings.Contains(err.Error(), "name "+both+" is 2 processes") || !strings.Contains(err.Error(), fmt.Sprint(c))) {
		t.Errorf("%v", err)
	}
	log.waitFor(t, map[string]any{"answer": "refused", "call": "start", "selector": "name " + both, "code": "target_not_allowed"})
	matches, err := ops.Match(t.Context(), byName(both))
	if err != nil || len(matches) != 1 || matches[0].Err == nil || matches[0].Err.Code != "target_not_allowed" || len(matches[0].PIDs) != 0 {
		t.Errorf("%+v, %v", matches, err)
	}
	log.waitFor(t, map[string]any{"answer": "refused", "call": "match", "selector": "name " + both, "code": "target_not_allowed"})
	if matches, err := root.Match(t.Context(), byName(both)); err != nil || len(matches) != 1 || len(matches[0].PIDs) != 2 {
		t.Errorf("%+v, %v", matches, err)
	}

	shown := func(who as, s session.Selector, most int) (pids []int) {
		t.Helper()
		all, err := who.Processes(t.Context(), "", s, most)
		if err != nil {
			t.Error(err)
		}
		for _, p := range all {
			pids = append(pids, p.PID)
		}
		slices.Sort(pids)
		return pids
	}
	if got := shown(ops, session.Selector{}, 0); !slices.Contains(got, a) || !slices.Contains(got, b) || slices.Contains(got, c) || slices.Contains(got, os.Getpid()) {
		t.Errorf("%v are shown: %d and %d are to be, %d not", got, a, b, c)
	}
	if got := shown(ops, session.Selector{Name: both}, 0); !slices.Equal(got, []int{b}) {
		t.Errorf("%v are shown, not %d", got, b)
	}
	if got := shown(ops, session.Selector{}, 1); len(got) != 1 {
		t.Errorf("%v are shown", got)
	}
	if got := shown(root, session.Selector{}, 0); !slices.Contains(got, c) || !slices.Contains(got, os.Getpid()) {
		t.Errorf("%v are shown", got)
	}
	log.waitFor(t, map[string]any{"answer": "allowed", "call": "processes", "selector": "name " + both})
}

// Who may have some processes only has the hottest of these, and is told nothing
// of others.
func TestHottestInScope(t *testing.T) {
	p := &access.Policy{Roles: map[string][]string{"ops": {"operator"}, "few": {"few"}}, Permissions: map[string][]access.Permission{"few": {"profiling:*"}},
		Scope: access.Scope{Allow: map[string][]access.Rule{"operator": {{Users: []string{"20001"}}}, "few": {{Users: []string{"20009"}}}}}}
	g, log := gate(t, p, nil)
	ops, few := as{g, named("ops")}, as{g, named("few")}
	path := split(t)
	for range runtime.NumCPU() { // hotter than anything in scope, as far as there are CPUs
		target(t, "ready", user(20002, path))
	}
	as20001(t, path, fmt.Sprintf("h%d", os.Getpid()))
	hottest := session.Spec{Select: session.Selector{Hottest: true}, Duration: 20 * time.Second, Frequency: 99}
	mine := func(what string, pids []int) {
		t.Helper()
		if len(pids) != 1 {
			t.Errorf("%s: %v", what, pids)
		} else if users, err := process.ReadUsers(pids[0]); err != nil || !slices.Equal(users, []uint32{20001}) {
			t.Errorf("%s: process %d is of %v, %v", what, pids[0], users, err)
		}
	}
	var started session.Session
	for name, call := range map[string]func() ([]int, error){
		"match": func() ([]int, error) {
			m, err := ops.Match(t.Context(), hottest)
			if err != nil || m[0].Err == nil {
				return m[0].PIDs, err
			}
			return nil, m[0].Err
		},
		"processes": func() (pids []int, err error) {
			all, err := ops.Processes(t.Context(), "", hottest.Select, 0)
			for _, p := range all {
				pids = append(pids, p.PID)
			}
			return pids, err
		},
		"start": func() (_ []int, err error) {
			started, err = ops.Start(t.Context(), hottest)
			return started.Spec.PIDs, err
		},
	} {
		var pids []int
		for end := time.Now().Add(2 * time.Minute); len(pids) == 0 && time.Now().Before(end); { // it may have had no CPU just then
			var e *session.Error
			var err error
			if pids, err = call(); err != nil && !(errors.As(err, &e) && e.Code == "host_idle") {
				t.Fatalf("%s: %v", name, err)
			}
		}
		mine(name, pids)
	}
	line := log.waitFor(t, map[string]any{"answer": "allowed", "call": "start", "selector": "the hottest process", "session": string(started.ID)})
	if got, err := json.Marshal(line["targets"]); err != nil || strings.Contains(string(got), `"20002"`) || !strings.Contains(string(got), `"20001"`) {
		t.Errorf("targets %s, %v", got, err)
	}
	for call, err := range map[string]error{
		"start": func() error { _, err := few.Start(t.Context(), hottest); return err }(),
		"match": func() error { m, err := few.Match(t.Context(), hottest); return errors.Join(err, m[0].Err) }(),
	} {
		var e *session.Error
		if !errors.As(err, &e) || e.Code != "host_idle" || !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "20002") {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// several are hosts that have the same sessions: to a gate they are different.
type several []*host.Host

func (s several) Hosts(ctx context.Context, of session.Hosts) (all []session.Host, err error) {
	for _, h := range s {
		these, err := h.Hosts(ctx, session.Hosts{})
		if err != nil {
			return nil, err
		}
		if of.Empty() || of.Mean(these[0].Name, these[0].Labels) {
			all = append(all, these...)
		}
	}
	return all, nil
}

// fleet is a poller in small.
type fleet struct {
	session.Runner
	several
}

func (f fleet) host(of session.Hosts) (*host.Host, error) {
	for _, h := range f.several {
		if these, err := h.Hosts(context.Background(), session.Hosts{}); err == nil && of.Mean(these[0].Name, these[0].Labels) {
			return h, nil
		}
	}
	return nil, session.Invalid("no_such_host", "no host is meant", "name one")
}

func (f fleet) Start(ctx context.Context, s session.Spec) (session.Session, error) {
	h, err := f.host(s.Hosts)
	if err != nil {
		return session.Session{}, err
	}
	s.Hosts = session.Hosts{}
	return h.Start(ctx, s)
}

func (f fleet) Match(ctx context.Context, s session.Spec) ([]session.Match, error) {
	h, err := f.host(s.Hosts)
	if err != nil {
		return nil, err
	}
	s.Hosts = session.Hosts{}
	return h.Match(ctx, s)
}

func (f fleet) Processes(ctx context.Context, name string, s session.Selector, most int) ([]session.Process, error) {
	h, err := f.host(session.Hosts{Names: []string{name}})
	if err != nil {
		return nil, err
	}
	return h.Processes(ctx, "", s, most)
}

// The gate of a poller: who may which host. It looks at no process.
func TestScopeOfHosts(t *testing.T) {
	_, log := gate(t, nil, nil) // for what it needs
	l := profiler.DefaultLimits()
	l.GracePeriodSeconds, l.SpoolDir = 0, t.TempDir()
	sessions, err := profiler.NewSessions(profiler.NewRecorder(32<<20, 8<<20), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sessions.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	hosts := several{}
	for name, env := range map[string]string{"web-1": "prod", "web-2": "test", "db-1": "prod"} {
		hosts = append(hosts, host.New(sessions, host.Options{Name: name, Labels: map[string]string{"env": env}}))
	}
	p := &access.Policy{Roles: map[string][]string{"ops": {"operator"}, "root": {"admin"}, "look": {"viewer"}, "none": {"none"}},
		Permissions: map[string][]access.Permission{"none": {"profiling:*"}}, Rate: access.Rate{PerSecond: 1e6, Burst: 1e6},
		Scope: access.Scope{Hosts: map[string][]access.HostRule{"operator": {{Names: []string{"web-*"}}, {Labels: "env=test"}}, "none": {}}}}
	g, err := access.NewFleet(fleet{sessions, hosts}, p, slog.New(slog.NewJSONHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.SetPolicy(&access.Policy{Scope: access.Scope{Never: []access.Rule{{PIDs: []int{1}}}}}); err == nil {
		t.Error("rules about processes are taken")
	}
	pid := target(t, "ready", user(20001, split(t))).PID
	on := func(names ...string) session.Spec {
		s := spec(pid)
		s.Hosts.Names = names
		return s
	}
	ops, root, look, none := as{g, named("ops")}, as{g, named("root")}, as{g, named("look")}, as{g, named("none")}
	for _, c := range []struct {
		what string
		who  as
		of   session.Spec
		code string
	}{
		{"one in scope", ops, on("web-1"), ""},
		{"two in scope", ops, on("web-1", "web-2"), ""},
		{"one out of scope", ops, on("db-1"), "host_out_of_scope"},
		{"one of two out of scope", ops, on("web-1", "db-1"), "host_out_of_scope"},
		{"all", ops, session.Spec{PIDs: []int{pid}, Duration: time.Second, Frequency: 99, Hosts: session.Hosts{All: true}}, "host_out_of_scope"},
		{"by a label, out of scope", ops, session.Spec{PIDs: []int{pid}, Duration: time.Second, Frequency: 99, Hosts: session.Hosts{Labels: "env=prod"}}, "host_out_of_scope"},
		{"some of them, out of scope", ops, session.Spec{PIDs: []int{pid}, Duration: time.Second, Frequency: 99, Hosts: session.Hosts{Labels: "env=prod", Most: 1}}, "host_out_of_scope"},
		{"none named", ops, on(), "no_host"},
		{"who is not limited", root, on("db-1"), ""},
		{"who may on none", none, on("web-1"), "host_out_of_scope"},
		{"who may not start", look, on("web-1"), "not_permitted"},
	} {
		_, err := c.who.Start(t.Context(), c.of)
		_, dry := c.who.Match(t.Context(), c.of)
		for name, err := range map[string]error{"start": err, "match": dry} {
			if c.code == "" && err != nil {
				t.Errorf("%s: %s: %v", c.what, name, err)
			} else if c.code != "" {
				refused(t, c.what+": "+name, err, c.code)
			}
		}
	}
	line := log.waitFor(t, map[string]any{"answer": "refused", "call": "start", "peer": "ops", "code": "host_out_of_scope", "hosts": "web-1, db-1"})
	if got, err := json.Marshal(line["targets"]); err != nil || string(got) != fmt.Sprintf(`[{"pid":%d}]`, pid) {
		t.Errorf("targets %s, %v: it looked at a process that is another host's", got, err)
	}
	names := func(who as) (names []string) {
		t.Helper()
		all, err := who.Hosts(t.Context(), session.Hosts{})
		if err != nil {
			t.Error(err)
		}
		for _, h := range all {
			names = append(names, h.Name)
		}
		slices.Sort(names)
		return names
	}
	for _, c := range []struct {
		who  as
		want string
	}{{ops, "web-1 web-2"}, {root, "db-1 web-1 web-2"}, {look, "db-1 web-1 web-2"}, {none, ""}} {
		if got := strings.Join(names(c.who), " "); got != c.want {
			t.Errorf("%s sees %q, want %q", c.who.who.Name(), got, c.want)
		}
	}
	if _, err := ops.Processes(t.Context(), "web-1", session.Selector{}, 1); err != nil {
		t.Error(err)
	}
	_, err = ops.Processes(t.Context(), "db-1", session.Selector{}, 1)
	refused(t, "processes of a host out of scope", err, "host_out_of_scope")

	alone := target(t, "ready", user(20001, split(t))).PID
	s := spec(alone)
	s.Hosts.Names = []string{"web-2"}
	started, err := ops.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	less := *p
	less.Scope = access.Scope{Hosts: map[string][]access.HostRule{"operator": {{Names: []string{"web-1"}}}}}
	if err := g.SetPolicy(&less); err != nil {
		t.Fatal(err)
	}
	log.waitFor(t, map[string]any{"answer": "revoked", "peer": "ops", "code": "host_out_of_scope"})
	log.waitFor(t, map[string]any{"answer": "ended", "session": string(started.ID)})
}
