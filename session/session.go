// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// ID names a session. It is a UUID in its usual spelling, made by whoever runs
// the session.
type ID string

// NewID makes a random UUID (RFC 9562, section 5.4).
func NewID() ID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return ID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}

// Session is one run: what was asked, and how far it is. It is a value; a
// later one of the same ID tells of later.
type Session struct {
	ID       ID               `json:"id"`
	Spec     Spec             `json:"spec"`
	Host     string           `json:"host"` // where it runs
	State    State            `json:"state"`
	Position int              `json:"position,omitempty"` // in the queue, from 1, while it is pending
	Shared   int              `json:"shared"`             // how many requests it serves, at least 1
	Created  time.Time        `json:"created"`
	Started  time.Time        `json:"started,omitzero"`  // sampling was on
	Ended    time.Time        `json:"ended,omitzero"`    // its state became final
	Expires  time.Time        `json:"expires,omitzero"`  // then it is forgotten, with its profile; zero until it ended
	Targets  []profile.Target `json:"targets,omitempty"` // whom it samples; empty while it is pending
	Progress Progress         `json:"progress"`
	EndedBy  profile.Ended    `json:"ended_by,omitempty"` // why sampling ended
	Err      *Error           `json:"error,omitempty"`    // why it failed, or who canceled it

	// Hosts are its parts, where it is the session of a fleet: then Progress is
	// their sum, and the session has succeeded if one of them has.
	Hosts []HostRun `json:"hosts,omitempty"`
}

// Progress is how far a session is.
type Progress struct {
	Elapsed   time.Duration `json:"elapsed_ns"`
	Samples   uint64        `json:"samples"`
	Lost      uint64        `json:"lost"`
	Truncated uint64        `json:"truncated"`
	Hottest   string        `json:"hottest,omitempty"` // the function with the most samples of its own so far; empty if not known
}

// Filter chooses sessions. Its zero value chooses all.
type Filter struct {
	States []State // any of them; none means any
	PID    int     // among the targets that were asked for; 0 means any
}

// Chooses says whether the filter lets a session through.
func (f *Filter) Chooses(s *Session) bool {
	return (len(f.States) == 0 || slices.Contains(f.States, s.State)) && (f.PID == 0 || slices.Contains(s.Spec.PIDs, f.PID))
}

// Failure is why a session failed; nil if it did not.
func (s *Session) Failure() error {
	switch {
	case s.State != StateFailed:
		return nil
	case s.Err == nil:
		return fmt.Errorf("session %s ended as %s, and does not say why", s.ID, s.State)
	}
	return s.Err
}
