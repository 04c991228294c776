// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/session"
)

// answers asks the service as a client would, for its sessions and for its
// health. It returns what the service is doing, in words.
func (s *service) answers(ctx context.Context) (string, error) {
	if _, err := s.sessions.List(ctx, session.Filter{}); err != nil {
		return "", fmt.Errorf("list the sessions: %w", err)
	}
	if err := daemon.CallHealth(ctx, s.server); err != nil {
		return "", err
	}
	h := s.sessions.Health()
	status := fmt.Sprintf("%s; sessions: %d running, %d waiting", s.listeningAt(), h.Running, h.Queued)
	if !h.Healthy {
		status += "; no new ones: " + h.Reason
	}
	return status, nil
}

func (s *service) listeningAt() string { return "listening at " + s.listener.Addr().String() }
