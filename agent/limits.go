// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Limits bound what may be asked for through an agent; those of the profiler
// come on top. They are the object "limits" of the configuration.
type Limits struct {
	MaxSessionDurationSeconds int               `json:"max_session_duration_seconds"`
	MaxFrequencyHz            profile.Frequency `json:"max_frequency_hz"`
	CallTimeoutSeconds        int               `json:"call_timeout_seconds"` // that the profiler has for an answer
}

// DefaultLimits are those of an agent that was told nothing else. A poller
// waits 30 s for all checks together.
func DefaultLimits() Limits {
	return Limits{MaxSessionDurationSeconds: 300, MaxFrequencyHz: 1000, CallTimeoutSeconds: 8}
}

// Validate refuses limits that make no sense.
func (l *Limits) Validate() error {
	for _, of := range []struct {
		name               string
		value, least, most int64
	}{
		{"max_session_duration_seconds", int64(l.MaxSessionDurationSeconds), 1, int64(session.MaxDuration / time.Second)},
		{"max_frequency_hz", int64(l.MaxFrequencyHz), int64(session.MinFrequency), int64(session.MaxFrequency)},
		{"call_timeout_seconds", int64(l.CallTimeoutSeconds), 1, 25},
	} {
		if of.value < of.least || of.value > of.most {
			return session.Invalid("bad_limit", fmt.Sprintf("%s is %d", of.name, of.value), fmt.Sprintf("choose from %d to %d", of.least, of.most))
		}
	}
	return nil
}

// SetLimits changes them for all that is asked for from now on.
func (a *Agent) SetLimits(l Limits) error {
	if err := l.Validate(); err != nil {
		return err
	}
	a.limits.Store(&l)
	return nil
}

// check refuses what is valid, but more than is allowed here.
func (l *Limits) check(spec *session.Spec) error {
	if most := time.Duration(l.MaxSessionDurationSeconds) * time.Second; spec.Duration > most {
		return session.Invalid("duration_limit", fmt.Sprintf("%v are longer than this agent allows", spec.Duration),
			fmt.Sprintf("choose a duration of up to %v (limits.max_session_duration_seconds in its configuration)", most))
	}
	if spec.Frequency > l.MaxFrequencyHz {
		return session.Invalid("frequency_limit", fmt.Sprintf("%d Hz are more than this agent allows", spec.Frequency),
			fmt.Sprintf("choose a frequency of up to %d Hz (limits.max_frequency_hz in its configuration)", l.MaxFrequencyHz))
	}
	return nil
}
