// SPDX-License-Identifier: Apache-2.0

package profiler_test

import (
	"sync"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Each session that begins to sample, and each that ends, is told of once, with
// what it sampled.
func TestChanged(t *testing.T) {
	needs(t, "gcc")
	s := sessions(t, func(l *profiler.Limits) { l.MaxConcurrentSessions = 1 })
	var mu sync.Mutex
	told := map[session.ID][]profiler.Change{}
	s.Changed = func(c profiler.Change) {
		mu.Lock()
		defer mu.Unlock()
		told[c.Session.ID] = append(told[c.Session.ID], c)
	}
	target := busy(t)
	start := func(d time.Duration) session.ID {
		now, err := s.Start(t.Context(), session.Spec{PIDs: []int{target.PID}, Duration: d, Frequency: 499})
		if err != nil {
			t.Fatal(err)
		}
		return now.ID
	}
	first := start(700 * time.Millisecond)
	canceled := start(time.Minute) // waits for its turn
	if _, err := s.Cancel(t.Context(), canceled); err != nil {
		t.Fatal(err)
	}
	for range s.Watch(t.Context(), first) {
	}
	mu.Lock()
	defer mu.Unlock()
	if c := told[canceled]; len(c) != 1 || c[0].Session.State != session.StateCanceled || !c[0].Turn.IsZero() || c[0].Meta != nil {
		t.Errorf("canceled while it waited: %+v", c)
	}
	c := told[first]
	if len(c) != 2 || c[0].Session.State != session.StateRunning || c[1].Session.State != session.StateSucceeded {
		t.Fatalf("%+v", c)
	}
	begun, ended := c[0], c[1]
	if begun.Meta != nil || begun.Turn.Before(begun.Session.Created) || begun.Session.Started.Before(begun.Turn) {
		t.Errorf("begun: created %v, turn %v, sampling %v", begun.Session.Created, begun.Turn, begun.Session.Started)
	}
	if m := ended.Meta; m == nil || m.Counts.Samples != ended.Session.Progress.Samples || m.FirstSample.Before(begun.Turn) {
		t.Errorf("ended: %+v", ended)
	}
}
