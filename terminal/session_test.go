// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// What is shown of an ID is enough to find it by.
func TestShortest(t *testing.T) {
	of := func(ids ...session.ID) (all []session.Session) {
		for _, id := range ids {
			all = append(all, session.Session{ID: id})
		}
		return all
	}
	for want, all := range map[int][]session.Session{
		8:  of(),
		9:  of("12345678-1", "12345678x2"),
		12: of("12345678-aaa", "12345678-aab", "other"),
		10: of("12345678-1", "12345678-1"), // which cannot be told apart
	} {
		if got := shortest(all); got != want {
			t.Errorf("%v: %d, want %d", all, got, want)
		}
	}
}

// Nothing that another host says steers the
func TestLineIsPrintable(t *testing.T) {
	hostile := "a\x1b]0;title\a\nb\u202e"
	s := session.Session{
		ID: session.ID(hostile), State: session.State(hostile), Host: hostile, EndedBy: profile.Ended(hostile),
		Targets:  []profile.Target{{PID: 1, Name: hostile, Command: hostile}},
		Spec:     session.Spec{PIDs: []int{1, 2, 3, 4, 5}, Requester: hostile, Duration: time.Second},
		Progress: session.Progress{Hottest: hostile, Samples: 1, Elapsed: 1234567891},
		Err:      &session.Error{Code: hostile, Kind: errors.New(hostile), Problem: hostile, Remedy: hostile},
	}
	check := func(what, text string) {
		for _, r := range text {
			if r == 0x1b || r == 7 || r == 0x202e || r == '\r' {
				t.Errorf("%s: %q", what, text)
				return
			}
		}
	}
	for _, state := range []session.State{s.State, session.StateRunning, session.StateFailed} {
		s.State = state
		check("line", Line(&s))
		var list, one strings.Builder
		if err := errors.Join(WriteList(&list, []session.Session{s}, true), WriteSession(&one, &s)); err != nil {
			t.Fatal(err)
		}
		check("list", list.String())
		check("get", one.String())
		if n := strings.Count(list.String(), "\n"); n != 2 {
			t.Errorf("the list of one session has %d lines: %q", n, list.String())
		}
	}
}
