// SPDX-License-Identifier: Apache-2.0

package pollers_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

func codeOf(err error) string {
	var e *session.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// SIGHUP changes hosts, labels, limits and access; sessions go on.
func TestReload(t *testing.T) {
	s := newSite(t, nil)
	admin := s.client(t, "admin", s.poller.Address)
	target := programs.Start(t, "shared.c", programs.Options{})
	spec := session.Spec{Hosts: session.Hosts{Names: []string{"web1"}}, PIDs: []int{target.PID}, Duration: 5 * time.Minute, Frequency: 99}
	running, err := admin.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	second := s.agentBefore(t, s.profiler.Address)
	reloads := 0
	reload := func(change object) {
		t.Helper()
		s.rewrite(t, change)
		reloads++
		s.poller.Signal(syscall.SIGHUP)
		daemons.Until(t, "the configuration is read again", func() bool {
			return strings.Count(s.poller.Tail(1000), `"the configuration was `) == reloads
		})
	}
	agents := s.config["agents"]
	reload(object{"limits": object{"max_frequency_hz": 50}, "agents": object{"web1": object{"address": s.agent.Address, "labels": object{"service": "bank"}}, "web2": object{"address": second.Address}}})
	s.ready(t)
	hosts, err := admin.Hosts(t.Context(), session.Hosts{All: true})
	if err != nil || len(hosts) != 2 || hosts[0].Labels["service"] != "bank" || hosts[1].Name != "web2" {
		t.Errorf("%+v, %v", hosts, err)
	}
	if now, err := admin.Get(t.Context(), running.ID); err != nil || now.State != session.StateRunning {
		t.Errorf("the session is %s, %v", now.State, err)
	}
	other := spec
	other.RequestID = string(session.NewID())
	if _, err := admin.Start(t.Context(), other); codeOf(err) != "frequency_limit" {
		t.Errorf("%v", err)
	}

	// What is wrong changes nothing, and what cannot be changed is told.
	reload(object{"agents": object{}})
	if hosts, err := admin.Hosts(t.Context(), session.Hosts{All: true}); err != nil || len(hosts) != 2 {
		t.Errorf("%+v, %v", hosts, err)
	}
	reload(object{"agents": agents, "data_dir": "/elsewhere", "access": object{"roles": object{"admin.serviceradar": []string{"viewer"}}, "rate": often}})
	s.poller.WaitFor("this change needs a restart")
	if _, err := admin.Cancel(t.Context(), running.ID); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a viewer cancels: %v", err)
	}
	// Who asked for it may not have it any more.
	daemons.Until(t, "the session ends", func() bool {
		now, err := admin.Get(t.Context(), running.ID)
		if err != nil || now.State.Final() && (now.State != session.StateCanceled || codeOf(now.Err) != "permission_ended") {
			t.Fatalf("%+v, %v", now, err)
		}
		return now.State.Final()
	})
	for _, answer := range []string{"revoked", "ended"} {
		if !strings.Contains(s.poller.Tail(1000), `"answer":"`+answer+`","call":"start","peer":"admin.serviceradar"`) {
			t.Errorf("the audit lacks that it was %s", answer)
		}
	}
	if hosts, err := admin.Hosts(t.Context(), session.Hosts{All: true}); err != nil || len(hosts) != 1 {
		t.Errorf("%+v, %v", hosts, err)
	}
}

// A session goes on while the poller is away, and is collected when it is back.
func TestStopAndStart(t *testing.T) {
	s := newSite(t, nil)
	admin := s.client(t, "admin", s.poller.Address)
	target := programs.Start(t, "shared.c", programs.Options{})
	begun, err := admin.Start(t.Context(), session.Spec{Hosts: session.Hosts{Names: []string{"web1"}}, PIDs: []int{target.PID}, Duration: 2 * time.Second, Frequency: 99})
	if err != nil {
		t.Fatal(err)
	}
	if code := s.poller.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.poller.Start()
	admin = s.client(t, "admin", s.poller.Address)
	daemons.Until(t, "the session has succeeded", func() bool {
		now, err := admin.Get(t.Context(), begun.ID)
		if err != nil || now.State == session.StateFailed {
			t.Fatalf("%+v, %v", now, err)
		}
		return now.State == session.StateSucceeded
	})
	content, err := admin.Fetch(t.Context(), begun.ID, session.Want{Format: "folded"})
	if err != nil {
		t.Fatal(err)
	}
	defer content.Body.Close()
	folded, err := io.ReadAll(content.Body)
	if err != nil || !strings.Contains(string(folded), "library_work") {
		t.Errorf("%v: %s", err, folded)
	}
}

// A second poller on the same directory says who has it, and changes nothing.
func TestOneDirectory(t *testing.T) {
	s := newSite(t, nil)
	out, err := exec.Command(daemons.Path("serviceradar-profiler-poller"), "--config", s.poller.Config()).CombinedOutput()
	want := fmt.Sprintf("serviceradar-profiler-poller: %s is in use by process %d (serviceradar-profiler-poller); end that program, or give this one a data_dir of its own [data_dir_in_use]\n",
		s.config["data_dir"], s.poller.PID())
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), want) {
		t.Errorf("%v: %s", err, out)
	}
	s.ready(t)
}

// It has no privilege, though root started it.
func TestNoPrivilege(t *testing.T) {
	s := newSite(t, nil)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.poller.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if !strings.Contains(string(b), set+":\t0000000000000000\n") {
			t.Errorf("%s is not empty:\n%s", set, b)
		}
	}
}

func TestMetrics(t *testing.T) {
	s := newSite(t, object{"metrics": object{"listen_addr": "127.0.0.1:0"}})
	admin := s.client(t, "admin", s.poller.Address)
	target := programs.Start(t, "shared.c", programs.Options{})
	begun, err := admin.Start(t.Context(), session.Spec{Hosts: session.Hosts{Names: []string{"web1"}}, PIDs: []int{target.PID}, Duration: time.Second, Frequency: 99})
	if err != nil {
		t.Fatal(err)
	}
	for now, err := range admin.Watch(t.Context(), begun.ID) {
		if err != nil {
			t.Fatal(err)
		}
		begun = now
	}
	if begun.State != session.StateSucceeded {
		t.Fatalf("%+v", begun)
	}
	want := map[string]float64{`srprof_hosts{state="ready"}`: 1, `srprof_sessions_started_total`: 1, `srprof_sessions_ended_total{code="ok",state="succeeded"}`: 1,
		`srprof_session_dispatch_seconds_count`: 1, `srprof_host_runs{state="succeeded"}`: 1, "srprof_collected_bytes_total": float64(begun.Hosts[0].Size),
		`srprof_store_errors_total`: 0, `srprof_reports_waiting`: 0, `srprof_results`: 1, `srprof_healthy`: 1, `srprof_calls_total{call="start",code="ok"}`: 1}
	daemons.Until(t, "the metrics tell of the session", func() bool {
		got := s.poller.Metrics()
		for name, v := range want {
			if g, ok := got[name]; !ok || g != v {
				return false
			}
		}
		return true
	})
}
