// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// A program that computes comes to the same result, to the bit, while ten
// sessions sample it as often as they may. How much slower it is, make bench
// measures.
func TestTargetDoesNotSuffer(t *testing.T) {
	p, err := programs.Read("checksum.c")
	if err != nil {
		t.Fatal(err)
	}
	path, err := p.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 600
	finish := func(before func(pid int)) string {
		c, err := programs.NewChecksum(path, rounds)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Stop()
		before(c.PID)
		sum, err := c.Finish()
		if err != nil {
			t.Fatal(err)
		}
		return sum.Sum
	}
	want := finish(func(int) {})

	there := start(t).dial(t)
	for range 2 {
		var ids [places]session.ID
		got := finish(func(pid int) {
			for i := range ids { // which differ, or they would be one
				now, err := there.Start(t.Context(), session.Spec{PIDs: []int{pid}, Duration: time.Minute + time.Duration(i)*time.Second, Frequency: 999})
				if err != nil {
					t.Fatal(err)
				}
				ids[i] = now.ID
			}
		})
		if got != want {
			t.Errorf("the checksum is %s with ten sessions, %s without", got, want)
		}
		for _, id := range ids {
			var last session.Session
			for now, err := range there.Watch(t.Context(), id) {
				if err != nil {
					t.Fatal(err)
				}
				last = now
			}
			if last.State != session.StateSucceeded || last.Progress.Samples < 50 {
				t.Errorf("a session of it is %s, with %d samples: %v", last.State, last.Progress.Samples, last.Err)
			}
		}
	}
}
