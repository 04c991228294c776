// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// fleetSession is one on so many hosts: the third failed, the fourth waits.
func fleetSession(hosts int) *session.Session {
	s := &session.Session{ID: "12345678-1", State: session.StateRunning, Spec: session.Spec{Duration: 30 * time.Second, Select: session.Selector{Unit: "shop"}}}
	s.Progress = session.Progress{Elapsed: 12 * time.Second, Samples: 1234}
	for i := range hosts {
		h := session.HostRun{Host: fmt.Sprintf("web-%02d", i), State: session.StateRunning,
			Progress: session.Progress{Elapsed: 12 * time.Second, Samples: 100, Hottest: "hot"}, Targets: []profile.Target{{PID: 1, Name: "shop"}}}
		switch i {
		case 2:
			h.State, h.Err = session.StateFailed, &session.Error{Code: "host_unreachable", Kind: session.ErrUnavailable, Problem: "it is away\x1b[2J"}
		case 3:
			h.State, h.Waiting = session.StatePending, "for a place at the host"
		}
		s.Hosts = append(s.Hosts, h)
	}
	return s
}

// Which hosts of a session failed is said, as far as there is place.
func TestFailedHosts(t *testing.T) {
	s := fleetSession(12)
	s.State = session.StateSucceeded
	var said, table strings.Builder
	WriteFailed(&said, s)
	if want := "srprof: 1 of 12 hosts failed:\n  web-02: it is away?[2J [host_unreachable]\n"; said.String() != want {
		t.Errorf("%q, want %q", &said, want)
	}
	if err := WriteSession(&table, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"host     12 hosts (1 failed)\n", "asked    unit shop for 30s", "HOST     STATE     SAMPLED   SAMPLES   LOST   PROCESSES   REASON\n",
		"web-02   failed    12s       100       0      1           it is away?[2J [host_unreachable]\n", "for a place at the host"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &table)
		}
	}
	s = fleetSession(25)
	for i := range s.Hosts {
		s.Hosts[i].State = session.StateFailed
	}
	said.Reset()
	WriteFailed(&said, s)
	if !strings.HasSuffix(said.String(), "  and 15 more: srprof get 12345678\n") || strings.Count(said.String(), "\n") != 12 {
		t.Errorf("%s", &said)
	}
}

// Nothing that hosts say steers the terminal.
func TestHostsArePrintable(t *testing.T) {
	hostile := "a\x1b]0;title\a\nb\u202e"
	e := &session.Error{Code: hostile, Kind: errors.New(hostile), Problem: hostile, Remedy: hostile}
	var b strings.Builder
	err := errors.Join(
		WriteHosts(&b, []session.Host{{Name: hostile, Address: hostile, Labels: map[string]string{hostile: hostile}, State: session.HostState(hostile), Version: hostile, Instance: hostile, Err: e}}, true),
		WriteProcesses(&b, []session.Process{{Name: hostile, Command: hostile, User: hostile, Unit: hostile, Container: hostile, Cgroup: hostile}}, true),
		WriteProcesses(&b, []session.Process{{Name: hostile, User: hostile, Container: hostile}}, false),
		WriteMatches(&b, []session.Match{{Host: hostile, Err: e}}),
		writeRuns(&b, []session.HostRun{{Host: hostile, State: session.State(hostile), Waiting: hostile, EndedBy: profile.Ended(hostile)}}))
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\a\u202e\r") || strings.Count(b.String(), "\n") != 10 {
		t.Errorf("%q", &b)
	}
}
