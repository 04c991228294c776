// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// move takes a session to another state, if it may go there from where it is.
// Nothing else changes a state.
func (s *Sessions) move(r *run, to session.State, err *session.Error) bool {
	if !r.now.State.May(to) {
		return false
	}
	s.dequeue(r)
	r.now.State, r.now.Err = to, err
	if to == session.StateRunning {
		r.now.Started = r.recording.Started()
		r.now.Targets = slices.Clone(r.recording.Targets())
		s.logStarted(r)
		s.tellChanged(r)
	}
	if to.Final() {
		r.now.Ended = time.Now()
		r.now.Expires = r.now.Ended.Add(s.limits.resultTTL())
		r.recording = nil
		r.unattended.stop()
		r.cancel()
		close(r.done)
		s.logEnded(r)
		s.tellChanged(r)
		s.tellGuards(r)
		s.keepEnded(r)
		s.vacate(r)
	}
	r.tell()
	return true
}

func (s *Sessions) tellChanged(r *run) {
	if s.Changed != nil {
		s.Changed(Change{Session: r.view(), Turn: r.turn, Meta: r.meta})
	}
	r.meta = nil
}

// run is the life of a session that has a place.
func (s *Sessions) run(r *run) {
	var rec *Recording
	err := s.guarded(r, func() (err error) {
		rec, err = s.open(r)
		return err
	})
	if rec != nil {
		defer func() {
			if err := s.guarded(r, func() error { rec.Close(); return nil }); err != nil {
				s.log().Error("session was not closed", "session", r.now.ID, "request_id", r.now.Spec.RequestID, "error", err)
			}
		}()
	}
	if err != nil {
		s.notBegun(r, err)
		return
	}
	if !s.begun(r, rec) {
		return // canceled meanwhile
	}
	var p *profile.Profile
	err = s.guarded(r, func() (err error) {
		p, err = rec.Run(r.ctx, func(p session.Progress) { s.progress(r, p) })
		return err
	})
	if err := s.guarded(r, func() error { s.end(r, p, err); return nil }); err != nil {
		s.end(r, nil, err)
	}
}

// guarded turns a panic into an error: it is a fault of ours, which one
// session pays for and not all of them.
func (s *Sessions) guarded(r *run, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log().Error("panic", "session", r.now.ID, "request_id", r.now.Spec.RequestID, "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return do()
}

// open turns sampling on. It returns the recording also when that failed.
func (s *Sessions) open(r *run) (*Recording, error) {
	spec, targets, err := s.meant(r)
	if err != nil {
		return nil, err
	}
	rec, err := s.recorder.Open(spec)
	if err != nil {
		return nil, err
	}
	for _, id := range targets {
		if spec.Select.Empty() && !id.Running() {
			return rec, exitedBefore(id)
		}
	}
	rec.Permit(func(id process.ID) error { return s.permit(r, id) })
	return rec, rec.Start()
}

// notBegun ends a session that could not start. Who still waits in Start is
// told so, and then there was no session; else it waited for its turn and failed.
func (s *Sessions) notBegun(r *run, err error) {
	s.mu.Lock()
	defer s.unlock()
	if errors.As(err, &cannotSample{}) {
		s.trouble(err)
	}
	if r.shown || r.now.State.Final() {
		s.move(r, session.StateFailed, asError(err))
		r.settle(nil)
		return
	}
	s.drop(r)
	s.vacate(r)
	r.unattended.stop()
	r.cancel()
	r.settle(asError(err))
	close(r.done)
}

// begun reports whether the session goes on.
func (s *Sessions) begun(r *run, rec *Recording) bool {
	s.mu.Lock()
	defer s.unlock()
	s.trouble(nil)
	r.recording = rec
	ok := s.move(r, session.StateRunning, nil)
	if !ok {
		r.recording = nil
	}
	r.settle(nil)
	return ok
}

func (s *Sessions) progress(r *run, p session.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.now.Progress = p
	r.tell()
}

// end makes a session final, with what Run returned.
func (s *Sessions) end(r *run, p *profile.Profile, err error) {
	var result *content
	if err == nil {
		result, err = s.encode(pprofFormat(), p, mustKeep)
	}
	var last session.Session // outside the lock
	if p != nil {
		describeBy(&last, p)
	}
	s.mu.Lock()
	defer s.unlock()
	if p != nil {
		r.now.Progress, r.now.Targets, r.now.EndedBy = last.Progress, last.Targets, p.Meta.Ended
		r.meta = &p.Meta
	}
	if result != nil {
		for _, old := range slices.Clone(r.contents) { // of it while it ran
			s.discardExtra(old)
		}
		r.contents = append(r.contents, result)
	}
	to, why := session.StateSucceeded, (*session.Error)(nil)
	switch {
	case r.stopped != nil && (err == nil || errors.Is(err, session.ErrNoSamples)):
		to, why = session.StateCanceled, r.stopped
	case err != nil:
		to, why = session.StateFailed, asError(err)
	}
	s.move(r, to, why)
	if result != nil { // which is known only now
		result.session = r.view()
	}
}

// describeBy takes over what a profile says of its session.
func describeBy(now *session.Session, p *profile.Profile) {
	c := p.Meta.Counts
	now.Progress = session.Progress{Elapsed: p.Meta.Duration(), Samples: c.Samples, Lost: c.Lost, Truncated: c.Truncated, Hottest: hottestOf(p)}
	now.Targets = p.Meta.Targets
}

// hottestOf names the function with the most samples of its own.
func hottestOf(p *profile.Profile) string {
	self := map[string]uint64{}
	best := ""
	for i := range p.Samples {
		for _, f := range p.Frames(&p.Samples[i]) {
			self[f.Name] += p.Samples[i].Count
			if n := self[f.Name]; n > self[best] || n == self[best] && f.Name < best {
				best = f.Name
			}
			break
		}
	}
	return best
}

// asError is an error as users meet it. What we did not foresee is a fault of
// ours.
func asError(err error) *session.Error {
	var e *session.Error
	if errors.As(err, &e) {
		return e
	}
	return &session.Error{Code: "internal", Kind: session.KindNamed(session.KindName(err)), Problem: "the session failed for a reason that is not foreseen", Cause: err,
		Remedy: "please report it with the lines of the profiler's log"}
}

func (s *Sessions) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// note has a line written to the log once the lock is free.
func (s *Sessions) note(level slog.Level, what string, about ...any) {
	s.notes = append(s.notes, func() { s.log().Log(context.Background(), level, what, about...) })
}

func (s *Sessions) logStarted(r *run) {
	s.note(slog.LevelInfo, "session started", "session", r.now.ID, "request_id", r.now.Spec.RequestID, "pids", r.now.Spec.PIDs, "children", r.now.Spec.Children, "frequency_hz", r.now.Spec.Frequency,
		"duration_seconds", r.now.Spec.Duration.Seconds(), "requester", r.now.Spec.Requester)
}

func (s *Sessions) logEnded(r *run) {
	level, why := slog.LevelInfo, ""
	if r.now.Err != nil {
		why = r.now.Err.Error()
	}
	if r.now.State == session.StateFailed {
		level = slog.LevelWarn
	}
	s.note(level, "session ended", "session", r.now.ID, "request_id", r.now.Spec.RequestID, "pids", r.now.Spec.PIDs, "state", r.now.State, "ended_by", r.now.EndedBy,
		"duration_seconds", r.now.Progress.Elapsed.Seconds(), "samples", r.now.Progress.Samples, "lost", r.now.Progress.Lost, "truncated", r.now.Progress.Truncated, "error", why)
}
