// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Report is what a profiler tells of itself to everybody with a certificate.
type Report struct {
	Version string
	Health  Health
	Limits  Limits
}

// Report asks the service how it is. It is of kind errors.ErrUnsupported, code
// not_supported, where something else than a profiler of this kind answers.
func (c *Client) Report(ctx context.Context) (Report, error) {
	_, err := health.NewHealthClient(c.conn).Check(ctx, &health.HealthCheckRequest{Service: "serviceradar.session.v1.SessionService"})
	if code := status.Code(err); code == codes.NotFound || code == codes.Unimplemented {
		return Report{}, c.noProfiler(nil)
	}
	if err != nil {
		return Report{}, c.link.explain(ctx, err)
	}
	answer, err := monitoring.NewAgentServiceClient(c.conn).GetStatus(ctx, &monitoring.StatusRequest{ServiceName: "profiler", ServiceType: "profiler"})
	if err != nil {
		return Report{}, c.link.explain(ctx, err)
	}
	var m statusMessage
	if err := json.Unmarshal(answer.GetMessage(), &m); err != nil || m.Version == "" {
		return Report{}, c.noProfiler(err)
	}
	return Report{m.Version, Health{m.Healthy, m.Reason, m.ActiveSessions, m.QueuedSessions}, m.Limits}, nil
}

func (c *Client) noProfiler(cause error) error {
	return &session.Error{Code: codeNames[codes.Unimplemented], Kind: errors.ErrUnsupported, Cause: cause,
		Problem: fmt.Sprintf("what answers at %s knows no sessions", c.link.address), Remedy: "it is no profiler of this kind, or an older one: compare versions, or check the address"}
}
