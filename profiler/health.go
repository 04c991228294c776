// SPDX-License-Identifier: Apache-2.0

package profiler

import "time"

// Health is how the service is.
type Health struct {
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"` // why it is not
	Running int    `json:"running"`
	Queued  int    `json:"queued"`
}

// Prepare makes the first session begin as fast as later ones. The error says
// why this host cannot run sessions; they are accepted all the same, because
// that may change.
func (s *Sessions) Prepare() error {
	warning, err := s.recorder.KeepSpare()
	if warning != "" && s.Log != nil {
		s.Log.Warn("profiles are poorer than they could be", "reason", warning)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble(err)
	return err
}

// trouble notes whether this host can run sessions.
func (s *Sessions) trouble(err error) { s.troubled, s.looked = err, time.Now() }

// lookAgainAfter bounds how often Health tries what failed before.
const lookAgainAfter = 10 * time.Second

// Health tells whether sessions can be had. While they cannot, it looks again
// now and then: rights may have been granted since.
func (s *Sessions) Health() Health {
	s.mu.Lock()
	again := s.troubled != nil && !s.stopping && time.Since(s.looked) > lookAgainAfter
	if again {
		s.looked = time.Now() // one of those who ask at once is enough
	}
	s.mu.Unlock()
	if again {
		_ = s.Prepare() // what it finds is the answer below
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := Health{Healthy: true, Running: s.busy, Queued: len(s.queue)}
	switch {
	case s.stopping:
		h.Healthy, h.Reason = false, serviceStopping().Problem
	case s.troubled != nil:
		h.Healthy, h.Reason = false, s.troubled.Error()
	}
	return h
}

// Kept is how many sessions that have ended are known still, and the bytes of
// all profiles that are kept.
func (s *Sessions) Kept() (sessions int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ended), s.bytes
}
