// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// ProfilerStatus is what an agent tells of the profiler behind it.
type ProfilerStatus struct {
	Address string    `json:"address"`
	State   string    `json:"state"`          // ready, away, or unknown before it was first asked
	Since   time.Time `json:"since,omitzero"` // since when it is so
	Code    string    `json:"code,omitempty"` // why it is away
	Reason  string    `json:"reason,omitempty"`
	Version string    `json:"version,omitempty"` // when it was last there
}

// Limits are those of the configuration that ServiceRadar's interfaces enforce
// or tell. Duration, frequency and chunk size have the first profiler's values
// where they are zero.
type Limits struct {
	MaxConcurrentSessions     int               `json:"max_concurrent_sessions"`
	MaxQueuedSessions         int               `json:"max_queued_sessions"`
	MaxSessionDurationSeconds int               `json:"max_session_duration_seconds"`
	MaxFrequencyHz            profile.Frequency `json:"max_frequency_hz"`
	ChunkSizeBytes            int               `json:"chunk_size_bytes"`
}

// Health is how a service is at this moment.
type Health struct {
	Healthy         bool   // it takes new sessions
	Reason          string // why it does not
	Running, Queued int    // sessions
}

// Report is what a profiler tells of itself to everybody with a certificate.
type Report struct {
	Version string
	Health  Health
	Limits  Limits
}

// Report asks the service how it is. It is of kind errors.ErrUnsupported, code
// not_supported, where something else than a profiler of this kind answers.
func (c *Client) Report(ctx context.Context) (Report, error) {
	_, err := health.NewHealthClient(c.conn).Check(ctx, &health.HealthCheckRequest{Service: SessionService})
	if code := status.Code(err); code == codes.NotFound || code == codes.Unimplemented {
		return Report{}, c.noProfiler(nil)
	}
	if err != nil {
		return Report{}, c.link.explain(ctx, err)
	}
	var answer Raw
	if err := c.conn.Invoke(ctx, methodStatus, &askStatus, &answer, grpc.ForceCodecV2(newPassCodec())); err != nil {
		return Report{}, c.link.explain(ctx, err)
	}
	text, _ := answer.Text(2)
	var m StatusMessage
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.Version == "" {
		return Report{}, c.noProfiler(err)
	}
	return Report{m.Version, Health{m.Healthy, m.Reason, m.ActiveSessions, m.QueuedSessions}, m.Limits}, nil
}

// A profiler tells of itself where ServiceRadar's pollers ask, too: by
// monitoring.AgentService/GetStatus. That is asked here by the numbers of its
// fields, because who imports this package may have those messages of his own.
const methodStatus = "/monitoring.AgentService/GetStatus"

// askStatus is a StatusRequest: fields 1 and 2 are the service's name and type.
var askStatus = Raw(slices.Concat(
	protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "profiler"),
	protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), "profiler")))

// StatusMessage is what a profiler tells of itself there, in JSON.
type StatusMessage struct {
	Healthy        bool   `json:"healthy"`
	Reason         string `json:"reason,omitempty"`
	Version        string `json:"version"`
	ActiveSessions int    `json:"active_sessions"`
	QueuedSessions int    `json:"queued_sessions"`
	Limits         Limits `json:"limits"`
}

func (c *Client) noProfiler(cause error) error {
	return &session.Error{Code: codeNames[codes.Unimplemented], Kind: errors.ErrUnsupported, Cause: cause,
		Problem: fmt.Sprintf("what answers at %s knows no sessions", c.link.address), Remedy: "it is no profiler of this kind, or an older one: compare versions, or check the address"}
}
