// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"fmt"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Limits bound what sessions may ask for, how much happens at once, and what is
// kept. They are the object "limits" of the configuration, which is read over
// DefaultLimits. What finds no place waits, and says for what.
type Limits struct {
	// How many hosts' runs sample at once, at four levels.
	MaxSessionsPerTarget int `json:"max_sessions_per_target"` // of one process, or of one selector on one host
	MaxSessionsPerHost   int `json:"max_sessions_per_host"`
	MaxHostsPerSelector  int `json:"max_hosts_per_selector"` // of one session; Spec.AtOnce may ask for less
	MaxHostsAtOnce       int `json:"max_hosts_at_once"`      // of all sessions together

	MaxHostsPerSession        int               `json:"max_hosts_per_session"`        // that a selector may mean
	MaxQueuedSessions         int               `json:"max_queued_sessions"`          // that wait for a place with all of their hosts; 0: none may
	MaxSessionDurationSeconds int               `json:"max_session_duration_seconds"` // of one session
	MaxFrequencyHz            profile.Frequency `json:"max_frequency_hz"`

	ResultTTLSeconds int   `json:"result_ttl_seconds"` // for so long a session is known after its end
	MaxKeptSessions  int   `json:"max_kept_sessions"`  // that ended and are known still
	MaxResultBytes   int64 `json:"max_result_bytes"`   // of all profiles that are kept; the oldest make room
	MaxCollections   int   `json:"max_collections"`    // profiles that are collected at once

	HeartbeatSeconds     int `json:"heartbeat_seconds"`       // between two questions to a host how it is
	CallTimeoutSeconds   int `json:"call_timeout_seconds"`    // that a host has for an answer
	DispatchTTLSeconds   int `json:"dispatch_ttl_seconds"`    // for so long a host that is away is waited for before it is sent anything
	HostResultTTLSeconds int `json:"host_result_ttl_seconds"` // for so long the hosts' profilers keep what nobody fetched (their result_ttl_seconds)
}

// DefaultLimits are those of a poller that was told nothing else.
func DefaultLimits() Limits {
	return Limits{
		MaxSessionsPerTarget: 1, MaxSessionsPerHost: 4, MaxHostsPerSelector: 100, MaxHostsAtOnce: 1000,
		MaxHostsPerSession: 1000, MaxQueuedSessions: 100, MaxSessionDurationSeconds: 300, MaxFrequencyHz: 1000,
		ResultTTLSeconds: 24 * 3600, MaxKeptSessions: 10_000, MaxResultBytes: 4 << 30, MaxCollections: 8,
		HeartbeatSeconds: 30, CallTimeoutSeconds: 10, DispatchTTLSeconds: 60, HostResultTTLSeconds: 15 * 60,
	}
}

// Validate refuses limits that make no sense.
func (l *Limits) Validate() error {
	for _, of := range []struct {
		name        string
		value       int64
		least, most int64
	}{
		{"max_sessions_per_target", int64(l.MaxSessionsPerTarget), 1, 1000},
		{"max_sessions_per_host", int64(l.MaxSessionsPerHost), 1, 1000},
		{"max_hosts_per_selector", int64(l.MaxHostsPerSelector), 1, 100_000},
		{"max_hosts_at_once", int64(l.MaxHostsAtOnce), 1, 100_000},
		{"max_hosts_per_session", int64(l.MaxHostsPerSession), 1, 100_000},
		{"max_queued_sessions", int64(l.MaxQueuedSessions), 0, 100_000},
		{"max_session_duration_seconds", int64(l.MaxSessionDurationSeconds), 1, int64(session.MaxDuration / time.Second)},
		{"max_frequency_hz", int64(l.MaxFrequencyHz), int64(session.MinFrequency), int64(session.MaxFrequency)},
		{"result_ttl_seconds", int64(l.ResultTTLSeconds), 1, 365 * 24 * 3600},
		{"max_kept_sessions", int64(l.MaxKeptSessions), 1, 1_000_000},
		{"max_result_bytes", l.MaxResultBytes, 1 << 20, 1 << 46},
		{"max_collections", int64(l.MaxCollections), 1, 1000},
		{"heartbeat_seconds", int64(l.HeartbeatSeconds), 1, 3600},
		{"call_timeout_seconds", int64(l.CallTimeoutSeconds), 1, 60},
		{"dispatch_ttl_seconds", int64(l.DispatchTTLSeconds), 1, 24 * 3600},
		{"host_result_ttl_seconds", int64(l.HostResultTTLSeconds), 1, 30 * 24 * 3600},
	} {
		if of.value < of.least || of.value > of.most {
			return session.Invalid("bad_limit", fmt.Sprintf("%s is %d", of.name, of.value), fmt.Sprintf("choose from %d to %d", of.least, of.most))
		}
	}
	return nil
}

// MaxDuration is the longest session.
func (l *Limits) MaxDuration() time.Duration { return seconds(l.MaxSessionDurationSeconds) }

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// check refuses what is valid, but more than is allowed here.
func (l *Limits) check(spec *session.Spec) error {
	if most := l.MaxDuration(); spec.Duration > most {
		return session.Invalid("duration_limit", fmt.Sprintf("%v are longer than this poller allows", spec.Duration),
			fmt.Sprintf("choose a duration of up to %v (limits.max_session_duration_seconds in its configuration)", most))
	}
	if most := l.MaxFrequencyHz; spec.Frequency > most {
		return session.Invalid("frequency_limit", fmt.Sprintf("%d Hz are more than this poller allows", spec.Frequency),
			fmt.Sprintf("choose a frequency of up to %d Hz (limits.max_frequency_hz in its configuration)", most))
	}
	return nil
}

// rules are what a run's machine needs of the limits.
func (l *Limits) rules(spec *session.Spec) rules {
	return rules{duration: spec.Duration, hostTTL: seconds(l.HostResultTTLSeconds), dispatchTTL: seconds(l.DispatchTTLSeconds), callTimeout: seconds(l.CallTimeoutSeconds)}
}
