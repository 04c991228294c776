// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// placeVariable names the store in which a child process is to write.
const placeVariable = "SRPROF_STORETEST_PLACE"

// OpenPlace opens the store that is at a place, or makes it.
type OpenPlace func(ctx context.Context, place string) (store.Store, error)

// Child is to be called first in TestMain of whoever calls Crash: in the child
// process that Crash starts it writes until it is killed.
func Child(open OpenPlace) {
	place := os.Getenv(placeVariable)
	if place == "" {
		return
	}
	if err := write(place, open); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Crash has a child process change a store and acknowledge each change once it
// has returned, kills it (SIGKILL) at a random moment, and looks for what was
// acknowledged; that many times over the same store.
func Crash(t *testing.T, times int, place string, open OpenPlace) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	known := map[session.ID]*life{}
	total := 0
	for round := range times {
		acks := killed(t, place, round, random)
		total += len(acks)
		for _, a := range acks {
			id, steps := session.ID(a.id), known[session.ID(a.id)]
			if steps == nil {
				steps = &life{}
				known[id] = steps
			}
			steps.acknowledged, steps.round = a.step, round
		}
		s, err := open(t.Context(), place)
		if err != nil {
			t.Fatalf("after round %d: %v", round, err)
		}
		verify(t, s, known, round)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged changes of %d sessions were there", total, len(known))
}

// killed is what a child acknowledged before it was killed.
func killed(t *testing.T, place string, round int, random *rand.Rand) []ack {
	t.Helper()
	child := exec.Command("/proc/self/exe", fmt.Sprint(round))
	child.Env = append(os.Environ(), placeVariable+"="+place)
	var acks []ack
	for _, line := range Killed(t, child, 1+random.IntN(300), time.Duration(random.IntN(3000))*time.Microsecond) {
		var a ack
		if _, err := fmt.Sscanf(line, "%s %d", &a.id, &a.step); err != nil {
			t.Fatalf("the child said %q: %v", line, err)
		}
		acks = append(acks, a)
	}
	return acks
}

// Killed starts a child and kills it (SIGKILL) some time after it has written so
// many lines: by count and not by time, so that a slow machine tests as much; the
// time on top is so that not only the moment after a line is met. It returns all
// whole lines.
func Killed(t *testing.T, child *exec.Cmd, lines int, later time.Duration) (said []string) {
	t.Helper()
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for r := bufio.NewReader(out); ; {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break // what is left without an end of line was not acknowledged
		}
		if err != nil {
			t.Fatal(err)
		}
		if said = append(said, strings.TrimSpace(line)); len(said) == lines {
			time.Sleep(later)
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); child.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child was not killed, it ended after %d lines: %v", len(said), err)
	}
	return said
}

// ack says that a step in the life of a session was done.
type ack struct {
	id   string
	step int
}

// life is how far a session is known to be.
type life struct{ acknowledged, round int }

// steps are the changes that a child makes to each session, in order. What
// record a session has after a step follows from the number of the step.
const (
	stepCreated = iota
	stepRunRuns
	stepRuns
	stepCancel
	stepRunEnds
	stepEnds
	stepDeleted // of those that go
)

// last is the last step in the life of a session.
func last(id session.ID) int {
	if strings.HasSuffix(string(id), "-goes") {
		return stepDeleted
	}
	return stepEnds
}

// after is a session after a step.
func after(id session.ID, step int) *store.Record {
	rec := record(id, hostName(0), hostName(1))
	rec.Session.Spec.RequestID, rec.Session.Spec.PIDs = "request "+string(id), []int{1, 2}
	rec.Revision = 1
	for n := stepCreated; n <= step; n++ {
		switch n {
		case stepRunRuns:
			rec.Runs[1].State, rec.Runs[1].Instance, rec.Runs[1].Sent = session.StateRunning, "instance", began
		case stepRuns:
			rec.Session.State = session.StateRunning
			rec.Revision++
		case stepCancel:
			rec.CancelBy = "somebody"
			rec.Revision++
		case stepRunEnds:
			rec.Runs[1].State, rec.Runs[1].Collected = session.StateSucceeded, true
		case stepEnds:
			rec.Session.State = session.StateCanceled
			rec.Revision++
		}
	}
	return rec
}

// do does one step.
func do(ctx context.Context, s store.Store, id session.ID, step int) error {
	rec := after(id, step)
	switch step {
	case stepCreated:
		return s.Create(ctx, rec)
	case stepRunRuns, stepRunEnds:
		return s.UpdateRun(ctx, id, &rec.Runs[1])
	case stepDeleted:
		return s.Delete(ctx, id)
	}
	rec.Revision--
	return s.Update(ctx, rec)
}

// write is the child: it writes until it is killed, and says what is done.
func write(place string, open OpenPlace) error {
	ctx := context.Background()
	s, err := open(ctx, place)
	if err != nil {
		return err
	}
	failed := make(chan error)
	var mu sync.Mutex // so that lines stay whole
	for i := range 8 {
		go func() {
			for n := 0; ; n++ {
				id := session.ID(fmt.Sprintf("round-%s-writer-%d-%d-%s", os.Args[1], i, n, []string{"goes", "stays"}[n%2]))
				for step := stepCreated; step <= last(id); step++ {
					if err := do(ctx, s, id, step); err != nil {
						failed <- fmt.Errorf("step %d of %s: %w", step, id, err)
					}
					mu.Lock()
					_, err := fmt.Printf("%s %d\n", id, step)
					mu.Unlock()
					if err != nil {
						failed <- err
					}
				}
			}
		}()
	}
	return <-failed
}

// verify looks for all that was acknowledged: each session is as after its last
// acknowledged step, or one step further if that was on its way in this round.
func verify(t *testing.T, s store.Store, known map[session.ID]*life, round int) {
	t.Helper()
	records, err := s.List(t.Context(), session.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	there := map[session.ID]*store.Record{}
	for _, rec := range records {
		there[rec.Session.ID] = rec
		if known[rec.Session.ID] == nil { // its creation was on its way
			if !strings.HasPrefix(string(rec.Session.ID), fmt.Sprintf("round-%d-", round)) || !equal(rec, after(rec.Session.ID, stepCreated)) {
				t.Errorf("a session that nobody created: %+v", rec)
			}
			known[rec.Session.ID] = &life{stepCreated, round}
		}
	}
	for id, l := range known {
		steps := []int{l.acknowledged}
		if l.round == round && l.acknowledged < last(id) {
			steps = append(steps, l.acknowledged+1)
		}
		found := slices.IndexFunc(steps, func(step int) bool {
			rec := there[id]
			return rec == nil && step == stepDeleted || rec != nil && step < stepDeleted && equal(rec, after(id, step))
		})
		if found < 0 {
			t.Errorf("round %d: after step %d, in round %d, session %s is %+v", round, l.acknowledged, l.round, id, there[id])
			continue
		}
		l.acknowledged = steps[found]
		if _, err := s.ByRequest(t.Context(), "request "+string(id)); (err == nil) != (there[id] != nil) || err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("session %s by its request: %v", id, err)
		}
	}
}
