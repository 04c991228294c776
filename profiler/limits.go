// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"fmt"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Limits bound what sessions may ask for, and what is kept of them. They are
// the object "profiler" of the configuration, which is read over DefaultLimits.
type Limits struct {
	MaxConcurrentSessions     int               `json:"max_concurrent_sessions"`      // that run at once; others wait
	MaxQueuedSessions         int               `json:"max_queued_sessions"`          // that wait; 0: none may
	MaxSessionDurationSeconds int               `json:"max_session_duration_seconds"` // of one session
	MaxFrequencyHz            profile.Frequency `json:"max_frequency_hz"`
	ChunkSizeBytes            int               `json:"chunk_size_bytes"`     // of a profile on its way, at most; for package remote
	ResultTTLSeconds          int               `json:"result_ttl_seconds"`   // for so long a session is known after its end
	MaxKeptSessions           int               `json:"max_kept_sessions"`    // that ended and are known still
	MaxResultBytes            int64             `json:"max_result_bytes"`     // of all profiles that are kept; the oldest make room
	GracePeriodSeconds        int               `json:"grace_period_seconds"` // that a stopping service waits for profiles to be fetched
	SpoolDir                  string            `json:"spool_dir"`            // where profiles are kept, in files without a name; in memory if that cannot be
}

// DefaultLimits are those of a service that was told nothing else.
func DefaultLimits() Limits {
	return Limits{
		MaxConcurrentSessions:     10,
		MaxQueuedSessions:         10,
		MaxSessionDurationSeconds: 300,
		MaxFrequencyHz:            1000,
		ChunkSizeBytes:            64 << 10,
		ResultTTLSeconds:          15 * 60,
		MaxKeptSessions:           1000,
		MaxResultBytes:            256 << 20,
		GracePeriodSeconds:        10,
		SpoolDir:                  "/var/tmp", // on a disk, where /tmp often is in memory
	}
}

// Validate refuses limits that make no sense.
func (l *Limits) Validate() error {
	for _, of := range []struct {
		name        string
		value       int64
		least, most int64
	}{
		{"max_concurrent_sessions", int64(l.MaxConcurrentSessions), 1, 1000},
		{"max_queued_sessions", int64(l.MaxQueuedSessions), 0, 100_000},
		{"max_session_duration_seconds", int64(l.MaxSessionDurationSeconds), 1, int64(session.MaxDuration / time.Second)},
		{"max_frequency_hz", int64(l.MaxFrequencyHz), int64(session.MinFrequency), int64(session.MaxFrequency)},
		{"chunk_size_bytes", int64(l.ChunkSizeBytes), 1 << 10, 3 << 20}, // gRPC's messages have 4 MiB at most
		{"result_ttl_seconds", int64(l.ResultTTLSeconds), 1, 30 * 24 * 3600},
		{"max_kept_sessions", int64(l.MaxKeptSessions), 1, 100_000},
		{"max_result_bytes", l.MaxResultBytes, 1 << 20, 1 << 40},
		{"grace_period_seconds", int64(l.GracePeriodSeconds), 0, 3600},
	} {
		if of.value < of.least || of.value > of.most {
			return session.Invalid("bad_limit", fmt.Sprintf("%s is %d", of.name, of.value), fmt.Sprintf("choose from %d to %d", of.least, of.most))
		}
	}
	if l.SpoolDir == "" {
		return session.Invalid("bad_limit", "spool_dir is empty", "name a directory that this program may write to")
	}
	return nil
}

// MaxDuration is the longest session.
func (l *Limits) MaxDuration() time.Duration {
	return time.Duration(l.MaxSessionDurationSeconds) * time.Second
}

func (l *Limits) resultTTL() time.Duration { return time.Duration(l.ResultTTLSeconds) * time.Second }

func (l *Limits) gracePeriod() time.Duration {
	return time.Duration(l.GracePeriodSeconds) * time.Second
}

// check refuses what is valid, but more than is allowed here.
func (l *Limits) check(spec *session.Spec) error {
	if most := l.MaxDuration(); spec.Duration > most {
		return session.Invalid("duration_limit", fmt.Sprintf("%v are longer than this profiler allows", spec.Duration),
			fmt.Sprintf("choose a duration of up to %v (max_session_duration_seconds in its configuration)", most))
	}
	if most := l.MaxFrequencyHz; spec.Frequency > most {
		return session.Invalid("frequency_limit", fmt.Sprintf("%d Hz are more than this profiler allows", spec.Frequency),
			fmt.Sprintf("choose a frequency of up to %d Hz (max_frequency_hz in its configuration)", most))
	}
	return nil
}

// busy is the answer when nobody may wait any more.
func (l *Limits) busy(after time.Duration) error {
	after = max(after, time.Second).Round(time.Second)
	problem := fmt.Sprintf("%d sessions run", l.MaxConcurrentSessions)
	if l.MaxQueuedSessions > 0 {
		problem += fmt.Sprintf(" and %d wait", l.MaxQueuedSessions)
	}
	return &session.Error{Code: "busy", Kind: session.ErrBusy, RetryAfter: after,
		Problem: problem + ", which is as many as this profiler allows (max_concurrent_sessions and max_queued_sessions in its configuration)",
		Remedy:  fmt.Sprintf("try again in %v", after)}
}

// Limits are those in force.
func (s *Sessions) Limits() Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limits
}

// SetLimits changes them for all that is asked for from now on; what waits or
// runs stays. Where profiles are kept cannot be changed, and stays too.
func (s *Sessions) SetLimits(l Limits) error {
	if err := l.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.SpoolDir = s.limits.SpoolDir
	s.limits = l
	for len(s.ended) > l.MaxKeptSessions {
		s.forget(s.ended[0])
	}
	s.awaitExpiry()
	if !s.stopping {
		s.fill()
	}
	return nil
}
