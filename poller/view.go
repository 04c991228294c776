// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"fmt"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// view is the session as others see it.
func (w *whole) view() session.Session { return w.viewOf(&w.record) }

// viewOf is that with another record. Poller.mu is held.
func (w *whole) viewOf(record *store.Record) session.Session {
	s := record.Session
	s.State = w.state
	s.Hosts = make([]session.HostRun, len(w.parts))
	for i, t := range w.parts {
		s.Hosts[i] = t.view()
	}
	for i, t := range w.queued {
		if t.block == blockWhole || t.block == blockCanary {
			s.Hosts[t.index].Position = i + 1
		}
	}
	sum(&s)
	if s.State.Final() {
		s.Ended = w.ended()
	}
	switch {
	case s.State == session.StateFailed:
		s.Err = whyFailed(s.Hosts)
	case s.State == session.StateCanceled:
		if s.Err = w.canceled(); s.Err == nil {
			s.Err = whyFailed(s.Hosts)
		}
	}
	return s
}

// view is a host's part as others see it.
func (t *part) view() session.HostRun {
	h := t.run.HostRun
	if !t.run.Collected {
		h.Size, h.Digest = 0, ""
	}
	if !h.State.Final() {
		h.Err = nil // of a canceled one whose profile is being collected
		if t.run.EndedBy != "" && h.Waiting == "" {
			h.Waiting = "its profile is collected"
		}
	}
	if t.queued {
		h.Waiting, h.Position = t.why()
	}
	return h
}

// why is what a part waits for, and its place in that queue.
func (t *part) why() (string, int) {
	switch t.block {
	case blockTarget:
		return "another session samples the same", t.host.place(t)
	case blockHost:
		return "the host has no place (max_sessions_per_host)", t.host.place(t)
	case blockFleet:
		return "the fleet has no place (max_hosts_at_once)", t.whole.place
	case blockWhole:
		return "as many hosts of this session run as may at once", 0
	case blockCanary:
		return "the first host goes before the others", 0
	case blockAway:
		return waitsFor(&t.run, t.host.since, t.host.err), 0
	}
	return t.run.Waiting, t.run.Position
}

// sum makes of the hosts' parts what is true of all.
func sum(s *session.Session) {
	if len(s.Hosts) == 1 {
		h := &s.Hosts[0]
		s.Host, s.Started, s.Targets, s.Progress, s.EndedBy = h.Host, h.Started, h.Targets, h.Progress, h.EndedBy
		if s.Position = 0; s.State == session.StatePending {
			s.Position = h.Position
		}
		return
	}
	s.Host = fmt.Sprintf("%d hosts", len(s.Hosts))
	s.Progress, s.Position = session.Progress{}, 0
	var most uint64
	for i := range s.Hosts {
		h := &s.Hosts[i]
		p := &h.Progress
		s.Progress.Elapsed = max(s.Progress.Elapsed, p.Elapsed)
		s.Progress.Samples += p.Samples
		s.Progress.Lost += p.Lost
		s.Progress.Truncated += p.Truncated
		if p.Samples > most && p.Hottest != "" {
			most, s.Progress.Hottest = p.Samples, p.Hottest
		}
		if !h.Started.IsZero() && (s.Started.IsZero() || h.Started.Before(s.Started)) {
			s.Started = h.Started
		}
		if h.Position > 0 && s.State == session.StatePending && (s.Position == 0 || h.Position < s.Position) {
			s.Position = h.Position
		}
		if i == 0 || s.EndedBy == h.EndedBy {
			s.EndedBy = h.EndedBy
		} else {
			s.EndedBy = ""
		}
	}
}

// recordView is a session that is not in memory, as others see it.
func recordView(r *store.Record) session.Session {
	s := r.Session
	s.Hosts = make([]session.HostRun, len(r.Runs))
	for i := range r.Runs {
		s.Hosts[i] = r.Runs[i].HostRun
	}
	return s
}
