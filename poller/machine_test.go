// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

var (
	firstSeed = flag.Uint64("seed", 1, "first seed of the tests of orders of events")
	seeds     = flag.Uint64("seeds", 20_000, "how many")
)

// world is a poller with one run, and a host, in a time of their own. Everything
// that may happen to either happens at random.
type world struct {
	*rand.Rand
	now    time.Time
	rules  rules
	kept   store.Run // what is in the store
	run    store.Run // what the poller knows
	memory memory
	files  bool // the profile lies in them
	log    []string

	// The host.
	life    int
	session *hostSession // of this life
	late    []late       // starts that are still under way
	began   int          // how often a session began for the run, in all lives
	ended   int          // after the run was final
	calm    bool         // nothing goes wrong any more
	asked   bool         // to be canceled
	down    time.Time    // until then it cannot be reached
	died    bool         // at least once
	away    bool         // a call was in vain at least once
	handed  bool         // a start may have left the poller, as far as that is known
}

// hostSession is as the host's profiler has it.
type hostSession struct {
	state       session.State
	begun, over time.Time
	err         *session.Error
	profile     bool
}

type late struct {
	life int
	at   time.Time
}

const hostTTL = 15 * time.Minute

func newWorld(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 0)), now: time.Unix(1_700_000_000, 0), life: 1}
	w.rules = rules{duration: time.Duration(1+w.IntN(300)) * time.Second, hostTTL: hostTTL, dispatchTTL: time.Minute, callTimeout: 10 * time.Second}
	if w.IntN(4) == 0 {
		w.rules.waitUntil = w.now.Add(time.Duration(w.IntN(100)) * time.Second)
	}
	w.kept = store.Run{HostRun: session.HostRun{Host: "h", State: session.StatePending}, Command: "c"}
	w.crash()
	return w
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%8v ", w.now.Sub(time.Unix(1_700_000_000, 0)).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

func (w *world) crash() {
	w.run, w.memory = w.kept, memory{sent: w.now}
	w.handed = w.handed || w.kept.Instance != "" // as far as it knows
}

// chance is one in n, and never when nothing goes wrong any more.
func (w *world) chance(n int) bool { return !w.calm && w.IntN(n) == 0 }

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	for i := 0; i < len(w.late); i++ {
		if l := w.late[i]; !w.now.Before(l.at) {
			w.late = append(w.late[:i], w.late[i+1:]...)
			i--
			w.note("a start arrives late")
			w.start(l.life)
		}
	}
	if s := w.session; s != nil && s.state == session.StatePending && w.IntN(3) > 0 {
		s.state, s.begun = session.StateRunning, w.now
	}
	if s := w.session; s != nil && s.state == session.StateRunning && (w.now.Sub(s.begun) >= w.rules.duration || w.IntN(100) == 0) {
		s.over = w.now
		if s.state, s.profile = session.StateSucceeded, true; w.IntN(6) == 0 {
			s.state, s.profile, s.err = session.StateFailed, false, &session.Error{Code: "no_samples", Kind: session.ErrNoSamples, Problem: "none"}
		}
	}
	if s := w.session; s != nil && s.state.Final() && w.now.Sub(s.over) > hostTTL {
		w.note("the host forgets its session")
		w.session = nil
	}
}

// events are what happens by itself.
func (w *world) events() {
	w.pass(time.Duration(w.IntN(2000)) * time.Millisecond)
	if w.chance(20) {
		d := time.Duration(w.IntN(1200)) * time.Second
		w.note("%v pass", d)
		for range 20 {
			w.pass(d / 20)
		}
	}
	if w.chance(25) {
		w.restart()
	}
	if w.chance(25) {
		w.down = w.now.Add(time.Duration(w.IntN(1500)) * time.Second)
		w.note("the host is out of reach until %v", w.down.Unix()-1_700_000_000)
	}
	if w.chance(40) {
		w.asked = true
	}
	w.rules.canceled = nil
	if w.asked {
		w.rules.canceled = &session.Error{Code: "canceled", Kind: session.ErrCanceled, Problem: "on request"}
	}
	if w.chance(12) {
		w.note("the poller crashes")
		w.crash()
	}
}

func (w *world) restart() {
	w.life, w.session, w.died = w.life+1, nil, true
	w.note("the host's profiler is started again: life %d", w.life)
}

// start is what the host does when it is asked to begin.
func (w *world) start(life int) *session.Error {
	switch {
	case life != w.life:
		return &session.Error{Code: "other_instance", Kind: session.ErrUnavailable, Problem: "another life", Undone: true}
	case w.session != nil:
		return nil
	case w.IntN(12) == 0:
		return &session.Error{Code: "no_such_process", Kind: session.ErrInvalid, Problem: "no process"}
	case w.IntN(8) == 0:
		return &session.Error{Code: "busy", Kind: session.ErrBusy, Problem: "full", RetryAfter: time.Second}
	}
	w.began++
	if w.kept.State.Final() {
		w.ended++
	}
	w.session = &hostSession{state: session.StatePending}
	if w.IntN(3) > 0 {
		w.session.state, w.session.begun = session.StateRunning, w.now
	}
	return nil
}

func (w *world) stop() {
	if s := w.session; s != nil && !s.state.Final() {
		s.profile = s.state == session.StateRunning && w.IntN(4) > 0
		s.state, s.over, s.err = session.StateCanceled, w.now, &session.Error{Code: "canceled", Kind: session.ErrCanceled, Problem: "on request"}
	}
}

var (
	errAway    = &session.Error{Code: "unreachable", Kind: session.ErrUnavailable, Problem: "no answer"}
	errNotSent = &session.Error{Code: "unreachable", Kind: session.ErrUnavailable, Problem: "no connection", Undone: true}
)

// call is a call to the host. It is lost on the way there, or its answer on the
// way back.
func (w *world) call(do func() observation) observation {
	lost := observation{sight: sawNothing, err: errAway}
	if w.now.Before(w.down) && !w.calm || w.chance(8) {
		w.away = true
		return lost
	}
	o := do()
	if w.chance(8) {
		w.away = true
		return lost
	}
	if w.chance(100) {
		return observation{sight: sawFault, err: &session.Error{Code: "internal", Problem: "a fault"}}
	}
	return o
}

func (w *world) instance() string { return fmt.Sprint(w.life) }

// told is the session as the host tells of it; by its own clock, which is wrong.
func (w *world) told() observation {
	s := w.session
	if s == nil {
		return observation{sight: sawUnknown, err: session.NotFound("x")}
	}
	skew := -3 * time.Hour
	now := session.Session{ID: session.ID("s" + w.instance()), State: s.state, Err: s.err, Created: w.now.Add(skew)}
	if !s.begun.IsZero() {
		now.Started = s.begun.Add(skew)
		now.Progress = session.Progress{Elapsed: w.now.Sub(s.begun), Samples: uint64(w.now.Sub(s.begun))}
	}
	if s.profile {
		now.EndedBy = profile.EndedDuration
	}
	return observation{sight: sawSession, session: now}
}

// act does a step.
func (w *world) act(s step) observation {
	switch s {
	case stepMeet:
		return w.call(func() observation { return observation{sight: sawLife, instance: w.instance()} })
	case stepSend:
		var life int
		_, _ = fmt.Sscan(w.run.Instance, &life)
		if (w.now.Before(w.down) || w.chance(10)) && !w.calm && w.IntN(2) == 0 {
			w.away = true
			return observation{sight: sawNothing, err: errNotSent}
		}
		again := w.chance(20)
		if again { // an earlier try of the same call breaks, when the host has it already
			w.note("a start is tried twice")
			w.handed = true
			_ = w.start(life)
			if w.IntN(2) == 0 {
				w.restart()
			}
		}
		o := w.call(func() observation {
			if e := w.start(life); e != nil {
				sight, e := outcome(e)
				e.Undone = e.Undone && !again
				return observation{sight: sight, err: e}
			}
			return w.told()
		})
		w.handed = w.handed || o.sight != sawOther
		if (o.sight == sawNothing || o.sight == sawSession) && w.chance(3) { // it was repeated on the way, or comes late
			w.late = append(w.late, late{life, w.now.Add(time.Duration(w.Int64N(int64(w.rules.callTimeout))))})
		}
		return o
	case stepLook:
		return w.call(func() observation {
			if w.session != nil {
				return w.told()
			}
			return observation{sight: sawNone, instance: w.instance()}
		})
	case stepFollow:
		return w.call(w.told)
	case stepStop:
		return w.call(func() observation { w.stop(); return w.told() })
	case stepCollect:
		return w.collect()
	}
	panic(s)
}

func (w *world) collect() observation {
	if w.files {
		return observation{sight: sawProfile, size: 1, digest: "d"}
	}
	if w.chance(10) {
		return observation{sight: sawNoRoom, err: &session.Error{Code: "disk_full", Kind: session.ErrUnavailable, Problem: "full"}}
	}
	if w.chance(10) {
		return observation{sight: sawBadFetch, err: &session.Error{Code: "content_corrupt", Kind: session.ErrUnavailable, Problem: "bad"}}
	}
	o := w.call(func() observation {
		if w.session == nil {
			return w.told()
		}
		return observation{sight: sawProfile, size: 1, digest: "d"}
	})
	w.files = o.sight == sawProfile
	return o
}

// turn is one turn of a tracker. It says what is wrong.
func (w *world) turn() error {
	w.events()
	before := w.run
	expire(&w.run, &w.memory, &w.rules, w.now)
	if w.run.State != before.State {
		return w.write(before)
	}
	s := next(&w.run, &w.memory, &w.rules)
	if s == stepNone {
		return nil
	}
	o := w.act(s)
	w.pass(time.Duration(w.IntN(300)) * time.Millisecond)
	o.at = w.now
	observe(&w.run, &w.memory, &w.rules, &o)
	w.note("%s: saw %s → %s id %q by %q waits %q", s, o.sight, w.run.State, w.run.ID, w.run.EndedBy, w.run.Waiting)
	w.pass(w.memory.retry)
	return w.write(before)
}

// write is the store: a crash may come before and after.
func (w *world) write(before store.Run) error {
	if kept(&before, &w.run) {
		return nil
	}
	if w.chance(10) {
		w.note("the poller crashes before it is written")
		w.crash()
		return nil
	}
	if is, to := w.kept.State, w.run.State; is != to && !is.May(to) {
		return fmt.Errorf("from %s to %s", is, to)
	}
	if w.run.State == session.StateSucceeded != (w.run.Collected && w.run.Err == nil) {
		return fmt.Errorf("%s, collected is %v", w.run.State, w.run.Collected)
	}
	if !w.run.State.Final() && !w.run.Ended.IsZero() || w.run.State.Final() && w.run.Ended.IsZero() {
		return errors.New("it has not ended when it has")
	}
	if w.run.Started.After(w.now) || !w.run.Started.IsZero() && w.run.Started.Before(w.run.Sent) {
		return fmt.Errorf("started %v, sent %v, now %v", w.run.Started, w.run.Sent, w.now)
	}
	w.kept = w.run
	if w.chance(10) {
		w.note("the poller crashes after it was written")
		w.crash()
	}
	return nil
}

// reason checks that the reason of the end is a true one.
func (w *world) reason() error {
	e := w.kept.Err
	if w.kept.State == session.StateSucceeded {
		return nil
	}
	if e == nil {
		return errors.New("it has no reason")
	}
	ok := true
	switch e.Code {
	case "profiler_restarted":
		ok = w.died && w.handed
	case "host_unreachable":
		ok = w.away
	case "canceled":
		ok = w.asked
	case "no_samples", "internal", "content_corrupt", "no_such_process", "waited_too_long", "result_expired", "disk_full":
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("it is not true that %v (%s)", e, e.Code)
	}
	return nil
}

// Whatever happens, in whatever order, no state follows another that may not, no
// host begins twice, and it ends with a true reason as soon as nothing goes
// wrong any more.
func TestOrdersOfEvents(t *testing.T) {
	ends := map[string]int{}
	for seed := *firstSeed; seed < *firstSeed+*seeds; seed++ {
		w := newWorld(seed)
		err := w.play()
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.log, "\n"))
		}
		end := string(w.kept.State)
		if w.kept.Err != nil {
			end += " " + w.kept.Err.Code
		}
		ends[end]++
	}
	for _, want := range []string{"succeeded", "canceled canceled", "failed profiler_restarted", "failed host_unreachable", "failed result_expired", "failed no_such_process", "failed no_samples", "failed waited_too_long"} {
		if *seeds >= 10_000 && ends[want] == 0 {
			t.Errorf("it never %s: %v", want, ends)
		}
	}
	t.Logf("%v", ends)
}

func (w *world) play() error {
	troubled := w.IntN(200)
	for i := range 5000 {
		w.calm = i > troubled
		if err := w.turn(); err != nil {
			return err
		}
		if w.began > 1 {
			return fmt.Errorf("it began %d times", w.began)
		}
		if w.kept.State.Final() && len(w.late) == 0 {
			if w.ended > 0 {
				return errors.New("it began after it was over")
			}
			return w.reason()
		}
	}
	return fmt.Errorf("it does not end: %+v", w.kept)
}
