// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"fmt"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// The life of one host's run is a machine without a clock, a network or a disk:
// [next] says from what is kept of it, and from a little that may be forgotten,
// what to do; whoever does it has [observe] say what follows. That is all there
// is to recovery, too: what is kept is read, and the machine goes on.

// step is what is to be done next.
type step string

const (
	stepNone    step = "nothing" // it is over
	stepMeet    step = "meet"    // ask in which life the host's profiler is
	stepSend    step = "send"    // have it start the session
	stepLook    step = "look"    // find out whether it has the session, and in which life it is
	stepFollow  step = "follow"  // watch the session
	stepStop    step = "stop"    // have it canceled
	stepCollect step = "collect" // fetch its profile
)

// rules are what a machine has to know beside the run.
type rules struct {
	duration    time.Duration // of sampling
	hostTTL     time.Duration // for so long hosts keep results
	dispatchTTL time.Duration // for so long an unreachable host is waited for at first
	callTimeout time.Duration
	waitUntil   time.Time // for its turn; zero: for as long as it takes
	canceled    *session.Error
}

// memory is what a crash may forget: it makes things faster, never right.
type memory struct {
	absent  bool           // the host does not have the session, for sure
	looked  time.Time      // when that was found out
	quiet   bool           // and nothing is under way to it that could change that
	sent    time.Time      // when a start was sent last whose answer did not come; at first, when this life of the poller began
	refused *session.Error // by the host, when a start before was still under way: not yet the end
	doubt   bool           // the host said that there is no such session
	away    time.Time      // since when nothing was heard of the host; zero: it answers
	tries   int            // in vain, since it last answered
	faults  int            // answers that nobody foresaw
	unmet   int            // how often it was gone, or in another life, before anything came to it
	retry   time.Duration
	fetches int // of content that was not what it was to be
}

// what an observation is about.
type sight string

const (
	sawLife      sight = "life"      // the host told in which life it is
	sawSession   sight = "session"   // the host told of the session
	sawNone      sight = "none"      // the host does not have it, and told in which life it is
	sawUnknown   sight = "unknown"   // the host does not know its ID any more
	sawRefusal   sight = "refusal"   // the host will not have it
	sawOther     sight = "other"     // the host is in another life than was meant
	sawStopping  sight = "stopping"  // the host's life ends: it did not have it, and takes nothing any more
	sawBusy      sight = "busy"      // the host will not have it now
	sawNothing   sight = "nothing"   // no answer: all may have happened
	sawFault     sight = "fault"     // an answer that nobody foresaw
	sawProfile   sight = "profile"   // it lies in the files
	sawNoProfile sight = "noprofile" // the host has none, and never will
	sawBadFetch  sight = "badfetch"  // what came was not what it was to be
	sawNoRoom    sight = "noroom"    // there is no room for the profile here
)

type observation struct {
	sight    sight
	at       time.Time
	session  session.Session
	instance string
	err      *session.Error
	size     int64
	digest   string
}

// next is what to do with a run.
func next(r *store.Run, m *memory, ru *rules) step {
	switch {
	case r.State.Final():
		return stepNone
	case r.ID != "" && m.doubt:
		return stepLook
	case r.EndedBy != "":
		return stepCollect
	case r.ID != "" && ru.canceled != nil:
		return stepStop
	case r.ID != "":
		return stepFollow
	case r.Instance == "":
		return stepMeet
	case !m.absent || ru.canceled != nil || m.refused != nil:
		return stepLook
	}
	return stepSend
}

// observe takes in what was seen.
func observe(r *store.Run, m *memory, ru *rules, o *observation) {
	if r.State.Final() {
		return
	}
	m.retry = 0
	if o.sight != sawNothing && o.sight != sawFault && o.sight != sawStopping {
		m.away, m.tries, r.Waiting = time.Time{}, 0, ""
	}
	switch o.sight {
	case sawLife:
		r.Instance, r.Sent, r.Until = o.instance, o.at, o.at.Add(ru.duration+ru.hostTTL)
		m.absent, m.quiet = true, true // nothing was ever sent
	case sawSession:
		*m = memory{fetches: m.fetches, sent: m.sent}
		absorb(r, ru, o)
	case sawNone:
		m.doubt = false
		none(r, m, ru, o)
	case sawOther:
		other(r, m, o)
	case sawUnknown:
		m.doubt = true
	case sawRefusal:
		refuse(r, m, o)
	case sawBusy:
		m.absent = m.absent && o.err.Code == "busy" // else it was not the profiler who said so, and it was not asked whether it has the session
		r.Waiting = "the host has no place: " + o.err.Error()
		m.tries++
		m.retry = min(max(o.err.RetryAfter, 200*time.Millisecond), 5*time.Second)
	case sawStopping:
		if r.ID == "" { // whatever comes to that life is refused, so nothing stands against the next one
			unmeet(r, m)
		}
		nothing(r, m, ru, o)
	case sawNothing, sawFault:
		if neverCame(r, m, o) {
			unmeet(r, m)
		}
		nothing(r, m, ru, o)
	case sawProfile:
		r.Size, r.Digest, r.Collected = o.size, o.digest, true
		if r.Err != nil {
			end(r, o.at, session.StateCanceled, r.Err)
		} else {
			end(r, o.at, session.StateSucceeded, nil)
		}
	case sawNoProfile:
		noProfile(r, o)
	case sawBadFetch:
		if m.fetches++; m.fetches >= 5 {
			end(r, o.at, session.StateFailed, o.err)
		}
		m.retry = pauseAfter(m.fetches)
	case sawNoRoom:
		noRoom(r, m, ru, o)
	}
}

// absorb takes over what a host tells of its session. Times are the poller's:
// clocks differ.
func absorb(r *store.Run, ru *rules, o *observation) {
	s := &o.session
	r.ID, r.Position = s.ID, s.Position
	if len(s.Targets) > 0 {
		r.Targets = s.Targets
	}
	if s.Progress.Elapsed >= r.Progress.Elapsed && s.Progress.Samples >= r.Progress.Samples {
		r.Progress = s.Progress
	}
	if s.State == session.StatePending && s.Position > 0 {
		r.Waiting = fmt.Sprintf("the host's profiler has no place; position %d there", s.Position)
	}
	left := max(0, ru.duration-r.Progress.Elapsed)
	if s.State.Final() {
		left = 0
	}
	r.Until = o.at.Add(left + ru.hostTTL)
	if !s.Started.IsZero() && r.Started.IsZero() {
		r.Started = o.at.Add(-s.Progress.Elapsed)
		if s.State.Final() { // nobody knows when that was by this clock: about then
			r.Started = r.Sent.Add(max(0, s.Started.Sub(s.Created)))
		}
		r.Started = earlier(r.Started, o.at)
	}
	switch {
	case s.State == session.StateRunning && r.State == session.StatePending:
		r.State = session.StateRunning
	case s.State == session.StateFailed:
		end(r, o.at, session.StateFailed, orElse(s.Err, "host_failed", "the host's session failed and does not say why"))
	case s.State == session.StateCanceled || s.State == session.StateSucceeded:
		sampled(r, ru, o)
	}
}

// sampled notes that a host has sampled, and has a profile or will have none.
func sampled(r *store.Run, ru *rules, o *observation) {
	s := &o.session
	if s.State == session.StateCanceled {
		r.Err = ru.canceled
		if r.Err == nil { // by somebody at the host
			r.Err = orElse(s.Err, "canceled", "the session was canceled at the host")
		}
		if s.EndedBy == "" && s.Progress.Samples == 0 {
			end(r, o.at, session.StateCanceled, r.Err)
			return
		}
	}
	if r.State == session.StatePending {
		r.State = session.StateRunning
		r.Started = earlier(orAt(r.Started, r.Sent), o.at)
	}
	if r.EndedBy = s.EndedBy; r.EndedBy == "" {
		r.EndedBy = profile.EndedDuration
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func orAt(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return t
}

// none concludes from a host's not having the session. What is still under way
// to it changes nothing of that: in the same life it leads to the same session,
// and in another one it is refused.
func none(r *store.Run, m *memory, ru *rules, o *observation) {
	left := m.sent.Add(ru.callTimeout).Sub(o.at) // of the time within which what was sent comes, or never
	m.quiet = m.quiet || left <= 0
	switch {
	case o.instance != r.Instance:
		r.Until = o.at
		lost(r, ru, o.at, restarted(r))
	case r.ID == "" && !m.quiet && (ru.canceled != nil || m.refused != nil || o.at.After(r.Sent.Add(ru.hostTTL))):
		m.absent, m.retry = false, min(left, time.Second)
	case r.ID == "" && o.at.Before(r.Sent.Add(ru.hostTTL)):
		m.absent, m.looked = true, o.at
	default:
		lost(r, ru, o.at, &session.Error{Code: "result_expired", Kind: session.ErrUnavailable,
			Problem: fmt.Sprintf("%s does not know of its session any more: results that nobody fetches are kept for %v there", r.Host, ru.hostTTL), Remedy: "start another one"})
	}
}

// neverCame says that a host has had nothing of the run, for sure, in whichever
// life. It is not said for ever: two hosts may answer by turns.
func neverCame(r *store.Run, m *memory, o *observation) bool {
	return r.ID == "" && r.Instance != "" && m.absent && m.quiet && o.err != nil && o.err.Undone && m.unmet < faultsAllowed
}

// unmeet takes back that a host was met: it is asked again in which life it is.
func unmeet(r *store.Run, m *memory) {
	r.Instance, r.Sent, r.Until = "", time.Time{}, time.Time{}
	m.absent, m.quiet = false, false
	m.unmet++
}

// other takes in that the host is in another life than the one that was met. It
// begins there if it cannot have begun before.
func other(r *store.Run, m *memory, o *observation) {
	if neverCame(r, m, o) {
		unmeet(r, m)
		return
	}
	m.absent, m.quiet, m.sent = false, false, o.at
}

func restarted(r *store.Run) *session.Error {
	e := &session.Error{Code: "profiler_restarted", Kind: session.ErrUnavailable,
		Problem: fmt.Sprintf("the profiler of %s was started again while it had the session, and so what was sampled is gone", r.Host), Remedy: "start another one"}
	if r.ID == "" {
		e.Problem = fmt.Sprintf("the profiler of %s was started again when it was being handed the session: whether it had begun cannot be known any more, and it must not begin twice", r.Host)
	}
	return e
}

// refuse ends a run that the host will not have: when nothing is under way any
// more that might come to another answer.
func refuse(r *store.Run, m *memory, o *observation) {
	if r.Instance == "" || r.ID != "" || m.quiet {
		end(r, o.at, session.StateFailed, o.err)
		return
	}
	m.refused, m.absent = o.err, false
}

// lost ends a run of which nothing is left at the host.
func lost(r *store.Run, ru *rules, at time.Time, why *session.Error) {
	if ru.canceled != nil {
		end(r, at, session.StateCanceled, ru.canceled)
		return
	}
	end(r, at, session.StateFailed, why)
}

// faultsAllowed is how often a host may answer what nobody foresaw.
const faultsAllowed = 5

// nothing takes in that there was no answer, or none that means something.
func nothing(r *store.Run, m *memory, ru *rules, o *observation) {
	if m.absent && r.Instance != "" { // it was sent, and may have come, or come yet
		m.absent, m.quiet, m.sent = false, false, o.at
	}
	m.tries++
	m.retry = pauseAfter(m.tries)
	if o.sight == sawFault {
		if m.faults++; m.faults >= faultsAllowed {
			refuse(r, m, o)
			if r.State.Final() {
				return
			}
		}
	}
	if m.away.IsZero() {
		m.away = o.at
	}
	if r.Instance == "" && r.Until.IsZero() {
		r.Until = o.at.Add(ru.dispatchTTL)
	}
	r.Waiting = waitsFor(r, m.away, o.err)
	if o.sight == sawNothing && o.at.After(r.Until) && o.at.Sub(m.sent) >= ru.callTimeout {
		lost(r, ru, o.at, unreachable(r, o.err))
	}
}

// waitsFor says that a host does not answer.
func waitsFor(r *store.Run, since time.Time, why *session.Error) string {
	said := fmt.Sprintf("%s does not answer since %s", r.Host, clock(since))
	if why != nil {
		said += " (" + why.Problem + ")"
	}
	return said + ", tried until " + clock(r.Until)
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05Z") }

func unreachable(r *store.Run, why *session.Error) *session.Error {
	e := &session.Error{Code: "host_unreachable", Kind: session.ErrUnavailable, Cause: why,
		Problem: fmt.Sprintf("%s could not be reached, and so nothing was sampled", r.Host), Remedy: "see whether its profiler or agent runs and can be reached from the poller"}
	if r.Instance != "" {
		e.Problem = fmt.Sprintf("%s could not be reached for so long that what it may have sampled is gone", r.Host)
	}
	return e
}

func noProfile(r *store.Run, o *observation) {
	if r.Err != nil {
		end(r, o.at, session.StateCanceled, r.Err)
		return
	}
	end(r, o.at, session.StateFailed, o.err)
}

// noRoom waits for room, for as long as the host keeps the profile.
func noRoom(r *store.Run, m *memory, ru *rules, o *observation) {
	m.tries++
	m.retry = pauseAfter(m.tries)
	r.Waiting = fmt.Sprintf("its profile waits at the host: %v", o.err)
	if o.at.After(r.Until) {
		lost(r, ru, o.at, o.err)
	}
}

// end makes a run final, if it may be. One that had not begun cannot have
// succeeded.
func end(r *store.Run, at time.Time, to session.State, why *session.Error) {
	if !r.State.May(to) {
		return
	}
	r.State, r.Err, r.Ended = to, why, at
	r.Waiting, r.Position = "", 0
}

// expire ends what time or somebody's will ends, without asking the host.
func expire(r *store.Run, m *memory, ru *rules, now time.Time) {
	if m.absent && !m.quiet && now.Sub(m.looked) > ru.callTimeout { // what was under way may have come since, and be forgotten already
		m.absent = false
	}
	idle := r.ID == "" && (r.Instance == "" || m.absent && m.quiet) // nothing is at the host
	switch {
	case r.State.Final():
	case idle && ru.canceled != nil:
		end(r, now, session.StateCanceled, ru.canceled)
	case idle && m.refused != nil:
		end(r, now, session.StateFailed, m.refused)
	case idle && !ru.waitUntil.IsZero() && now.After(ru.waitUntil):
		end(r, now, session.StateFailed, &session.Error{Code: "waited_too_long", Kind: session.ErrBusy, RetryAfter: time.Second,
			Problem: fmt.Sprintf("%s did not begin within the time for which the session was ready to wait", r.Host), Remedy: "try again, or wait for longer"})
	}
}

// sampling says whether a host may be sampling for a run.
func sampling(r *store.Run, ru *rules, now time.Time) bool {
	if r.State.Final() || r.EndedBy != "" {
		return false
	}
	return now.Before(r.Until.Add(-ru.hostTTL))
}

const firstPause, longestPause = 100 * time.Millisecond, 5 * time.Second

func pauseAfter(tries int) time.Duration { return min(firstPause<<min(tries, 10), longestPause) }

func orElse(e *session.Error, code, problem string) *session.Error {
	if e != nil {
		return e
	}
	return &session.Error{Code: code, Kind: session.ErrUnavailable, Problem: problem, Remedy: "see the log of its profiler"}
}

// kept says whether two states of a run are the same as far as they must be
// written down: progress is not.
func kept(a, b *store.Run) bool {
	return a.State == b.State && a.ID == b.ID && a.Command == b.Command && a.Instance == b.Instance && a.Sent.Equal(b.Sent) &&
		a.Until.IsZero() == b.Until.IsZero() && a.EndedBy == b.EndedBy && a.Collected == b.Collected && a.Digest == b.Digest && (a.Err == nil) == (b.Err == nil)
}
