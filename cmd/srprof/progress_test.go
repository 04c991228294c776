// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
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

// screen shows what a terminal does of it: the few sequences that are used.
func screen(text string, height int) []string {
	lines := make([]string, height)
	row, column := 0, 0
	for len(text) > 0 {
		var up int
		switch {
		case strings.HasPrefix(text, "\x1b[K"):
			lines[row] = lines[row][:min(column, len(lines[row]))]
			text = text[3:]
			continue
		case strings.HasPrefix(text, "\x1b[J"):
			lines[row] = lines[row][:min(column, len(lines[row]))]
			clear(lines[row+1:])
			text = text[3:]
			continue
		}
		if n, _ := fmt.Sscanf(text, "\x1b[%dA", &up); n == 1 {
			row -= up
			text = text[strings.IndexByte(text, 'A')+1:]
			continue
		}
		switch c := text[0]; c {
		case '\r':
			column = 0
		case '\n':
			row, column = row+1, 0
		default:
			line := lines[row] + strings.Repeat(" ", max(column-len(lines[row]), 0))
			lines[row] = line[:column] + string(c) + line[min(column+1, len(line)):]
			column++
		}
		text = text[1:]
	}
	return slices.DeleteFunc(lines, func(s string) bool { return s == "" })
}

// A session on several hosts has a line for each as far as there is place, those
// that are in trouble first, and leaves nothing on the terminal.
func TestProgressOfHosts(t *testing.T) {
	var b strings.Builder
	p := &progress{w: &b, width: 70, height: 9}
	p.session(fleetSession(3))
	p.session(fleetSession(12))
	want := []string{
		"12s of 30s  1234 samples  12 hosts: 10 running, 1 pending, 1 failed",
		"  web-02  failed     it is away?[2J [host_unreachable]",
		"  web-03  pending    for a place at the host",
		"  web-00  running       12s     100 samples  hottest: hot",
		"  web-01  running       12s     100 samples  hottest: hot",
		"  web-04  running       12s     100 samples  hottest: hot",
		"  and 7 more",
	}
	if got := screen(b.String(), 9); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	p.session(fleetSession(2))
	if got := screen(b.String(), 9); len(got) != 3 {
		t.Errorf("fewer lines leave\n%s", strings.Join(got, "\n"))
	}
	p.end()
	if got := screen(b.String(), 9); len(got) != 0 {
		t.Errorf("left on the terminal:\n%s", strings.Join(got, "\n"))
	}
}

// What became of a session on several hosts, in words and as an exit code.
func TestOutcomeOfHosts(t *testing.T) {
	s := fleetSession(12)
	s.State = session.StateSucceeded
	if err := outcome(s); exitCode(err) != exitPartial {
		t.Errorf("some hosts failed: %v", err)
	}
	var said, table strings.Builder
	tellFailed(&said, s)
	if want := "srprof: 1 of 12 hosts failed:\n  web-02: it is away?[2J [host_unreachable]\n"; said.String() != want {
		t.Errorf("%q, want %q", &said, want)
	}
	if err := writeSession(&table, s); err != nil {
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
	s.State, s.Err = session.StateFailed, &session.Error{Code: "all_hosts_failed", Kind: session.ErrUnavailable, Problem: "no host has a profile"}
	said.Reset()
	tellFailed(&said, s)
	if !strings.HasSuffix(said.String(), "  and 15 more: srprof get 12345678\n") || strings.Count(said.String(), "\n") != 12 {
		t.Errorf("%s", &said)
	}
	if code := exitCode(outcome(s)); code != exitFailed {
		t.Errorf("all hosts failed: exit code %d", code)
	}
	s.Err.Kind = session.ErrForbidden
	if code := exitCode(outcome(s)); code != exitNotPermitted {
		t.Errorf("it was denied: exit code %d", code)
	}
}

// Nothing that hosts say steers the terminal, or leads a file elsewhere.
func TestHostsArePrintable(t *testing.T) {
	hostile := "../../a\x1b]0;title\a\nb\u202e"
	e := &session.Error{Code: hostile, Kind: errors.New(hostile), Problem: hostile, Remedy: hostile}
	var b strings.Builder
	err := errors.Join(
		writeHosts(&b, []session.Host{{Name: hostile, Address: hostile, Labels: map[string]string{hostile: hostile}, State: session.HostState(hostile), Version: hostile, Instance: hostile, Err: e}}, true),
		writeProcesses(&b, []session.Process{{Name: hostile, Command: hostile, User: hostile, Unit: hostile, Container: hostile, Cgroup: hostile}}, true),
		writeProcesses(&b, []session.Process{{Name: hostile, User: hostile, Container: hostile}}, false),
		writeMatches(&b, []session.Match{{Host: hostile, Err: e}}),
		writeRuns(&b, []session.HostRun{{Host: hostile, State: session.State(hostile), Waiting: hostile, EndedBy: profile.Ended(hostile)}}))
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\a\u202e\r") || strings.Count(b.String(), "\n") != 10 {
		t.Errorf("%q", &b)
	}
	for host, want := range map[string]string{
		"web-01": "web-01", "../../etc/passwd": "_.._etc_passwd", "": "host", "..": "host", "a/b": "a_b", "é b": "__b", strings.Repeat("x", 300): strings.Repeat("x", 200),
	} {
		if got := fileName(host); got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

func TestWantsJSON(t *testing.T) {
	for line, want := range map[string]bool{
		"get x -o json": true, "get x -ojson": true, "get x --output json": true, "get x --output=json": true, "run -o x.svg -o json": true,
		"get x": false, "get json": false, "run -o x.json": false, "get -- -o json": false, "get x -o": false,
	} {
		if got := wantsJSON(strings.Fields(line)); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}
