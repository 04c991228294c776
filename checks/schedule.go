// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
)

// requester is on whose behalf scheduled profiles are asked for.
const requester = "poller schedule"

// schedule is a check that profiles: once in each slot of time, as long as its
// results_interval, a session is started, and its profile reported when it has
// ended. The session's request ID is made of the check and the slot alone, so
// that a poller that was started anew finds it again, and none is started twice.
// A slot in which the one before has not ended is left out.
type schedule struct {
	checks *Checks
	check  Check
	order  int
	what   details
	key    string        // of the check, as in the file of what was reported
	every  time.Duration // of slots
	shift  time.Duration // of their beginnings: not all checks at one moment

	// Only one poll of an agent goes on at a time, so these need no lock.
	turn
	problem error // why it could not be started
	last    int64 // the last slot that was dealt with
	looked  bool  // for what was left from before

	mu   sync.Mutex
	left []turn // to be reported yet, or again; before all others
}

// turn is a slot and its session.
type turn struct {
	begun int64      // 0: there is none
	id    session.ID // empty: it was not started yet
}

// minSlot is the least that profiles are apart.
const minSlot = time.Second

func newSchedule(c *Checks, a *agent, check Check, d details) *schedule {
	every := max(time.Duration(*check.ResultsInterval), minSlot).Truncate(time.Second)
	key := a.name + "/" + check.Name
	s := &schedule{checks: c, check: check, order: len(a.results), what: d, key: key, every: every, shift: jitter(key, every).Truncate(time.Second)}
	s.last = c.reported.last(key)
	return s
}

// slot is the beginning of the slot that a moment is in, in seconds of Unix.
func (s *schedule) slot(now time.Time) int64 {
	shifted := now.Add(-s.shift).Unix()
	every := int64(s.every / time.Second)
	return shifted/every*every + int64(s.shift/time.Second)
}

// prefix begins the request IDs of all sessions of the check.
func (s *schedule) prefix() string {
	name := "schedule/" + s.checks.config.PollerID + "/" + s.key + "/"
	const room = 32 // for the slot, and what is profiled
	if (&session.Spec{PIDs: []int{1}, Duration: time.Second, Frequency: 1, RequestID: name}).Validate() == nil && len(name)+room <= 128 {
		return name
	}
	return "schedule/" + hash(name, 32) + "/"
}

// requestID also depends on what is profiled: a changed configuration asks for
// another session.
func (s *schedule) requestID(slot int64) string {
	spec := s.what.spec("")
	return s.prefix() + strconv.FormatInt(slot, 10) + "-" + hash(fmt.Sprint(spec.PIDs, spec.Select, spec.Duration, spec.Frequency, spec.Children), 8)
}

// slotOf is the way back; 0 if it is no request ID of this check.
func (s *schedule) slotOf(requestID string) int64 {
	rest, ours := strings.CutPrefix(requestID, s.prefix())
	number, _, dashed := strings.Cut(rest, "-")
	slot, err := strconv.ParseInt(number, 10, 64)
	if !ours || !dashed || err != nil {
		return 0
	}
	return slot
}

func hash(text string, digits int) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:digits]
}

// step does what is due: starts a session, or looks after one. It yields what is
// to be reported; nil if there is nothing.
func (s *schedule) step(ctx context.Context, a *agent) *finding {
	began := time.Now()
	now := s.slot(began)
	if before := now - int64(s.every/time.Second); s.last > now+int64(s.every/time.Second) { // the clock was ahead, and is not any more
		s.checks.log.Warn("scheduled profiles were reported of times to come: the clock was set back", "agent", a.name, "check", s.check.Name)
		s.last = before
		s.checks.reported.setBack(s.key, before)
	}
	s.adopt(ctx, now)
	if s.begun == 0 && now > s.last {
		s.turn, s.problem = turn{begun: now}, nil
	}
	if s.begun == 0 {
		return nil
	}
	if s.id == "" {
		if now != s.begun && s.problem != nil { // its time is over
			return s.done(a, began, failure(s.problem, ""), false)
		}
		spec := s.what.spec(a.name)
		spec.RequestID, spec.MaxWait = s.requestID(s.begun), s.every
		started, err := s.checks.profiler.fleet.Start(ctx, spec)
		if err != nil {
			if s.problem = err; !hopeless(err) {
				s.checks.log.Info("a scheduled profile cannot be started yet", "agent", a.name, "check", s.check.Name, "error", err.Error())
				return nil
			}
			return s.done(a, began, failure(err, ""), false)
		}
		s.id = started.ID
	}
	return s.look(ctx, a, began)
}

// look reports the session that was started, if it has ended.
func (s *schedule) look(ctx context.Context, a *agent, began time.Time) *finding {
	now, err := s.checks.profiler.fleet.Get(ctx, s.id)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return s.done(a, began, failure(err, s.id), false)
	case err != nil || !now.State.Final():
		return nil
	}
	data, available, err := s.checks.profiler.results(ctx, s.id, a)
	if err != nil {
		s.checks.log.Warn("a scheduled profile cannot be had yet", "agent", a.name, "check", s.check.Name, "session", string(s.id), "error", err.Error())
		if !hopeless(err) && !errors.Is(err, session.ErrNotFound) && s.slot(time.Now()) == s.begun {
			return nil
		}
		data, available = failure(err, s.id), false
	}
	return s.done(a, began, data, available)
}

// hopeless says whether an error will be the same next time.
func hopeless(err error) bool {
	for _, kind := range []error{session.ErrInvalid, fs.ErrNotExist, fs.ErrPermission, errors.ErrUnsupported, session.ErrTooLarge, session.ErrNoSamples, session.ErrCanceled} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// done is what is reported of a slot. When that is lost, it is found anew.
func (s *schedule) done(a *agent, began time.Time, data []byte, available bool) *finding {
	was := s.turn
	s.turn, s.problem, s.last = turn{}, nil, max(s.last, was.begun)
	answer := &serviceradar.CheckAnswer{Available: available, Message: data, ResponseTime: time.Since(began).Nanoseconds()}
	return &finding{
		agent: a.name, check: s.check.Name, order: s.order, service: s.checks.service(a, &s.check, answer, serviceradar.SourceResults),
		told: func() { s.checks.reported.set(s.key, was.begun) },
		lost: func() { s.keep(was) },
	}
}

// keep has a session reported in a later poll.
func (s *schedule) keep(t turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.id != "" { // that none could be started is told for the next slot, if it is still so
		s.left = append(s.left, t)
	}
}

// adopt goes on with sessions that were begun and not reported: before this
// program was started, if their slots are over, or because a report was lost.
func (s *schedule) adopt(ctx context.Context, now int64) {
	if !s.looked && s.checks.profiler.look(ctx) == nil { // else in the next poll
		s.looked = true
		for _, old := range s.checks.profiler.requested() {
			if slot := s.slotOf(old.Spec.RequestID); slot > s.last && slot < now {
				s.keep(turn{slot, old.ID})
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun == 0 && len(s.left) > 0 {
		s.turn = s.left[0]
		s.left = slices.Delete(s.left, 0, 1)
	}
}

// requested are the sessions of the fleet with request IDs, oldest first.
func (p *profiling) requested() []session.Session {
	p.asking.Lock()
	defer p.asking.Unlock()
	return slices.DeleteFunc(slices.Clone(p.all), func(s session.Session) bool { return s.Spec.RequestID == "" })
}

// results is the profile of a session as an object, one at a time.
func (p *profiling) results(ctx context.Context, id session.ID, a *agent) ([]byte, bool, error) {
	select {
	case p.cutting <- struct{}{}:
		defer func() { <-p.cutting }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	host := a.where.names(a.name, &Check{})
	return serviceradar.ResultsOf(ctx, p.fleet, serviceradar.About{Host: host.name, HostIP: host.ip, Version: p.version}, id)
}
