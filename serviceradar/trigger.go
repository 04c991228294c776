// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// TriggerProfiling starts a session, or tells of the one that the same request
// started before. It does not wait for the session. What cannot be done is in
// the answer; an error of gRPC is only what a client may not do.
func (m *monitoringServer) TriggerProfiling(ctx context.Context, in *monitoring.TriggerProfilingRequest) (*monitoring.TriggerProfilingResponse, error) {
	within, cancel := context.WithTimeout(ctx, resultsWithin)
	defer cancel()
	s, err := m.trigger(within, in, time.Now())
	if ctx.Err() != nil {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if refused := notAllowed(err); refused != nil {
		return nil, refused
	}
	var out *monitoring.TriggerProfilingResponse
	if err != nil {
		out, err = triggerFailed(err)
	} else {
		out, err = triggered(&s)
	}
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	out.RequestId, out.AgentId, out.PollerId, out.Timestamp = in.GetRequestId(), m.agentID(in.GetAgentId()), in.GetPollerId(), time.Now().Unix()
	return out, nil
}

// trigger begins the session, if it is not too late for that.
func (m *monitoringServer) trigger(ctx context.Context, in *monitoring.TriggerProfilingRequest, now time.Time) (session.Session, error) {
	spec, late, err := triggerSpec(in, now)
	if err != nil {
		return session.Session{}, err
	}
	if late == nil {
		return m.runner.Start(ctx, spec)
	}
	if spec.RequestID == "" {
		return session.Session{}, late
	}
	// A request that is repeated asks how far it is, and for that it is never too
	// late.
	known, err := m.runner.List(ctx, session.Filter{})
	if err != nil {
		return session.Session{}, err
	}
	for _, s := range known {
		if s.Spec.RequestID == spec.RequestID && s.Spec.Same(&spec) {
			return s, nil
		}
	}
	return session.Session{}, late
}

// maxTTL bounds what a request may say, so that nothing overflows.
const maxTTL = int64(365 * 24 * time.Hour / time.Second)

// triggerSpec is what a request asks for; late says that its time is over.
func triggerSpec(in *monitoring.TriggerProfilingRequest, now time.Time) (spec session.Spec, late, err error) {
	spec = session.Spec{
		Children: in.GetChildren(), Duration: session.DefaultDuration, Frequency: session.DefaultFrequency,
		RequestID: in.GetRequestId(), Requester: in.GetRequester(),
	}
	for _, pid := range in.GetProcessIds() {
		spec.PIDs = append(spec.PIDs, int(pid))
	}
	if d := in.GetDurationSeconds(); d != 0 {
		spec.Duration = time.Duration(d) * time.Second
	}
	if f := in.GetFrequency(); f != 0 {
		spec.Frequency = profile.Frequency(f)
	}
	ttl := in.GetTtlSeconds()
	if ttl < 0 || ttl > maxTTL || in.GetCreatedAt() < 0 {
		return spec, nil, session.Invalid("bad_ttl", fmt.Sprintf("a time to live of %d s from %d on makes no sense", ttl, in.GetCreatedAt()),
			"say seconds, and Unix time; leave both out if it does not matter when")
	}
	if ttl == 0 {
		return spec, nil, nil
	}
	spec.MaxWait = time.Duration(ttl) * time.Second
	if created := in.GetCreatedAt(); created != 0 {
		// Clocks of different hosts differ: what was made in the future is new.
		spec.MaxWait = min(spec.MaxWait, time.Unix(created, 0).Add(spec.MaxWait).Sub(now))
	}
	if spec.MaxWait <= 0 {
		late = &session.Error{Code: "request_expired", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("the request was to be met within %d s, and came too late", ttl),
			Remedy: "make a new one; compare the clocks of both hosts"}
		spec.MaxWait = 0
	}
	return spec, late, nil
}

var triggerStates = map[session.State]monitoring.TriggerProfilingResponse_State{
	session.StatePending:   monitoring.TriggerProfilingResponse_PENDING,
	session.StateRunning:   monitoring.TriggerProfilingResponse_RUNNING,
	session.StateSucceeded: monitoring.TriggerProfilingResponse_SUCCEEDED,
	session.StateFailed:    monitoring.TriggerProfilingResponse_FAILED,
	session.StateCanceled:  monitoring.TriggerProfilingResponse_CANCELED,
}

// triggered tells of a session.
func triggered(s *session.Session) (*monitoring.TriggerProfilingResponse, error) {
	few := *s
	few.Targets = few.Targets[:min(len(few.Targets), mostTargets)]
	payload, err := json.Marshal(&few)
	if err != nil {
		return nil, err
	}
	out := &monitoring.TriggerProfilingResponse{
		SessionId: string(s.ID), State: triggerStates[s.State], Success: true, PayloadJson: payload, Message: sentence(s), ProgressPercent: percent(s),
	}
	if s.State == session.StateFailed || s.State == session.StateCanceled {
		out.Success = false
		if s.Err != nil {
			out.ErrorCode, out.Message = s.Err.Code, remote.Short(s.Err.Error())
		}
	}
	return out, nil
}

func triggerFailed(err error) (*monitoring.TriggerProfilingResponse, error) {
	e := remote.ErrorOf(err)
	if errors.Is(err, context.DeadlineExceeded) && e.Code == remote.CodeDeadline {
		e = &session.Error{Code: "too_slow", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("the session could not be started within %v", resultsWithin), Remedy: "send the same request again"}
	}
	payload, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return &monitoring.TriggerProfilingResponse{ErrorCode: e.Code, Message: remote.Short(e.Error()), PayloadJson: payload}, nil
}

// sentence is one sentence about where a session is.
func sentence(s *session.Session) string {
	switch s.State {
	case session.StatePending:
		return fmt.Sprintf("the session waits for its turn: number %d", s.Position)
	case session.StateRunning:
		return fmt.Sprintf("the session runs: %d samples so far", s.Progress.Samples)
	case session.StateSucceeded:
		return fmt.Sprintf("the session has ended with %d samples", s.Progress.Samples)
	}
	return "the session has ended: " + string(s.State)
}

// percent is how much of its time a session has had.
func percent(s *session.Session) int32 {
	switch {
	case s.State.Final():
		return 100
	case s.State == session.StateRunning && s.Spec.Duration > 0:
		return int32(min(99, 100*s.Progress.Elapsed/s.Spec.Duration)) // names are found at the end
	}
	return 0
}
