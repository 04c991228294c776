// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/session"
)

// What became of a session is an exit code.
func TestOutcome(t *testing.T) {
	failed := []session.HostRun{{Host: "web-01", State: session.StateSucceeded}, {Host: "web-02", State: session.StateFailed}}
	why := func(kind error) *session.Error {
		return &session.Error{Code: "all_hosts_failed", Kind: kind, Problem: "no host has a profile"}
	}
	for _, c := range []struct {
		label string
		of    session.Session
		want  int
	}{
		{"it succeeded", session.Session{State: session.StateSucceeded}, exitOK},
		{"some hosts failed", session.Session{State: session.StateSucceeded, Hosts: failed}, exitPartial},
		{"all hosts failed", session.Session{State: session.StateFailed, Hosts: failed, Err: why(session.ErrUnavailable)}, exitFailed},
		{"it was denied", session.Session{State: session.StateFailed, Err: why(session.ErrForbidden)}, exitNotPermitted},
		{"it failed and does not say why", session.Session{State: session.StateFailed}, exitFailed},
		{"it was canceled", session.Session{State: session.StateCanceled}, exitInterrupted},
	} {
		if code := exitCode(outcome(&c.of)); code != c.want {
			t.Errorf("%s: exit code %d, want %d", c.label, code, c.want)
		}
	}
}

// No error steers the terminal.
func TestErrorIsPrintable(t *testing.T) {
	hostile := "a\x1b]0;title\a\nb\u202e"
	var b strings.Builder
	printError(&b, &session.Error{Code: hostile, Kind: errors.New(hostile), Problem: hostile, Remedy: hostile})
	if strings.ContainsAny(b.String(), "\x1b\a\u202e\r") || strings.Count(b.String(), "\n") != 1 {
		t.Errorf("%q", &b)
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
