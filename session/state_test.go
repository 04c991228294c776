// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// What comes after a state, spelled out for every pair.
func TestTransitions(t *testing.T) {
	may := map[string]bool{
		"pending running": true, "pending failed": true, "pending canceled": true,
		"running succeeded": true, "running failed": true, "running canceled": true,
	}
	for _, from := range States {
		for _, to := range States {
			pair := fmt.Sprintf("%s %s", from, to)
			if from.May(to) != may[pair] {
				t.Errorf("%s: %v", pair, from.May(to))
			}
		}
	}
	for s, final := range map[State]bool{StatePending: false, StateRunning: false, StateSucceeded: true, StateFailed: true, StateCanceled: true, "odd": false, "": false} {
		if s.Final() != final {
			t.Errorf("%q: final is %v", s, s.Final())
		}
	}
}

func TestKindsHaveNames(t *testing.T) {
	for _, k := range kinds {
		e := &Error{Code: "c", Kind: k.kind, Problem: "p"}
		if KindName(e) != k.name || KindNamed(k.name) != k.kind {
			t.Errorf("%q leads to %q and %v", k.name, KindName(e), KindNamed(k.name))
		}
	}
	if KindName(errors.New("odd")) != "" || KindNamed("odd") != nil {
		t.Error("what is no kind has one")
	}
}

func TestErrorJSON(t *testing.T) {
	b, err := json.Marshal(&Error{Code: "busy", Kind: ErrBusy, Problem: "10 sessions run", Remedy: "try again in 2s", RetryAfter: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"code":"busy","kind":"busy","message":"10 sessions run; try again in 2s","problem":"10 sessions run","remedy":"try again in 2s","retry_after_seconds":2}`; string(b) != want {
		t.Errorf("%s\nwant %s", b, want)
	}
}

func TestSpec(t *testing.T) {
	good := Spec{PIDs: []int{1, 2}, Duration: time.Second, Frequency: 99}
	with := func(change func(*Spec)) Spec {
		s := good
		change(&s)
		return s
	}
	for code, s := range map[string]Spec{
		"":                 good,
		"no_target":        with(func(s *Spec) { s.PIDs = nil }),
		"bad_pid":          with(func(s *Spec) { s.PIDs = []int{1, -1} }),
		"too_many_targets": with(func(s *Spec) { s.PIDs = make([]int, MaxTargets+1) }),
		"bad_duration":     with(func(s *Spec) { s.Duration = -1 }),
		"bad_frequency":    with(func(s *Spec) { s.Frequency = 0 }),
		"bad_max_wait":     with(func(s *Spec) { s.MaxWait = -1 }),
		"bad_text":         with(func(s *Spec) { s.RequestID = "a\nb" }),
	} {
		err := s.Validate()
		var e *Error
		if code == "" && err != nil || code != "" && (!errors.As(err, &e) || e.Code != code || !errors.Is(err, ErrInvalid)) {
			t.Errorf("%q: %v", code, err)
		}
	}
	long := with(func(s *Spec) { s.Requester = strings.Repeat("x", 257) })
	if long.Validate() == nil {
		t.Error("any requester is taken")
	}
	same := with(func(s *Spec) { s.PIDs, s.RequestID, s.Attended = []int{2, 1, 2}, "other", true })
	other := with(func(s *Spec) { s.Children = true })
	if !good.Same(&same) || good.Same(&other) {
		t.Error("what is the same is not, or what is not is")
	}
}
