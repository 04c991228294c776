// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/carverauto/serviceradar-profiler/profile"
	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Each noun has its message (specMessage) and the way back (specOf), side by
// side. The ways back take anything, also nil: strangers write messages.

func specMessage(s *session.Spec) *sessionv1.Spec {
	m := &sessionv1.Spec{
		Children: s.Children, Duration: durationpb.New(s.Duration), FrequencyHz: int32Of(s.Frequency),
		RequestId: Text(s.RequestID), Requester: Text(s.Requester), Attended: s.Attended, Instance: Text(s.Instance),
	}
	if s.MaxWait != 0 {
		m.MaxWait = durationpb.New(s.MaxWait)
	}
	m.Pids = pidMessages(s.PIDs)
	m.Select, m.Hosts, m.Canary, m.AtOnce = selectorMessage(&s.Select), hostsMessage(&s.Hosts), s.Canary, int32Of(s.AtOnce)
	return m
}

// sendable refuses what a message would alter.
func sendable(s *session.Spec) error {
	for _, pid := range s.PIDs {
		if int(int32Of(pid)) != pid {
			return session.Invalid("bad_pid", fmt.Sprintf("%d is not a process ID", pid), "PIDs are below 2^31; ps -e lists them")
		}
	}
	return nil
}

func specOf(m *sessionv1.Spec) session.Spec {
	s := session.Spec{
		Children: m.GetChildren(), Duration: m.GetDuration().AsDuration(), Frequency: profile.Frequency(m.GetFrequencyHz()),
		RequestID: m.GetRequestId(), Requester: m.GetRequester(), Attended: m.GetAttended(), MaxWait: m.GetMaxWait().AsDuration(),
		Instance: m.GetInstance(),
	}
	s.PIDs = pidsOf(m.GetPids())
	s.Select, s.Hosts, s.Canary, s.AtOnce = selectorOf(m.GetSelect()), hostsOf(m.GetHosts()), m.GetCanary(), int(m.GetAtOnce())
	return s
}

func pidMessages(pids []int) []int32 {
	var m []int32
	for _, pid := range pids {
		m = append(m, int32Of(pid))
	}
	return m
}

func pidsOf(m []int32) []int {
	var pids []int
	for _, pid := range m {
		pids = append(pids, int(pid))
	}
	return pids
}

func sessionMessage(s *session.Session) *sessionv1.Session {
	m := &sessionv1.Session{
		Id: Text(string(s.ID)), Spec: specMessage(&s.Spec), Host: Text(s.Host), State: stateMessages[s.State],
		Position: int32Of(s.Position), Shared: int32Of(s.Shared),
		Created: timeMessage(s.Created), Started: timeMessage(s.Started), Ended: timeMessage(s.Ended), Expires: timeMessage(s.Expires),
		Progress: progressMessage(&s.Progress), Targets: targetMessages(s.Targets), EndedBy: Text(string(s.EndedBy)),
	}
	for i := range s.Hosts {
		m.Hosts = append(m.Hosts, hostRunMessage(&s.Hosts[i]))
	}
	if s.Err != nil {
		m.Error = errorMessage(s.Err)
	}
	return m
}

func sessionOf(m *sessionv1.Session) session.Session {
	s := session.Session{
		ID: session.ID(m.GetId()), Spec: specOf(m.GetSpec()), Host: m.GetHost(), State: stateOf(m.GetState()),
		Position: int(m.GetPosition()), Shared: int(m.GetShared()),
		Created: timeOf(m.GetCreated()), Started: timeOf(m.GetStarted()), Ended: timeOf(m.GetEnded()), Expires: timeOf(m.GetExpires()),
		Progress: progressOf(m.GetProgress()), Targets: targetsOf(m.GetTargets()), EndedBy: profile.Ended(m.GetEndedBy()),
	}
	for _, h := range m.GetHosts() {
		s.Hosts = append(s.Hosts, hostRunOf(h))
	}
	if m.GetError() != nil {
		s.Err = errorOf(m.GetError())
	}
	return s
}

func progressMessage(p *session.Progress) *sessionv1.Progress {
	return &sessionv1.Progress{Elapsed: durationpb.New(p.Elapsed), Samples: p.Samples, Lost: p.Lost, Truncated: p.Truncated, Hottest: Text(p.Hottest)}
}

func progressOf(m *sessionv1.Progress) session.Progress {
	return session.Progress{Elapsed: m.GetElapsed().AsDuration(), Samples: m.GetSamples(),
		Lost: m.GetLost(), Truncated: m.GetTruncated(), Hottest: m.GetHottest()}
}

func targetMessages(targets []profile.Target) []*sessionv1.Target {
	var m []*sessionv1.Target
	for _, t := range targets {
		m = append(m, &sessionv1.Target{Pid: int32Of(t.PID), Name: Text(t.Name), Command: Text(t.Command), Host: Text(t.Host)})
	}
	return m
}

func targetsOf(m []*sessionv1.Target) []profile.Target {
	var targets []profile.Target
	for _, t := range m {
		targets = append(targets, profile.Target{PID: int(t.GetPid()), Name: t.GetName(), Command: t.GetCommand(), Host: t.GetHost()})
	}
	return targets
}

func errorMessage(e *session.Error) *sessionv1.Error {
	m := &sessionv1.Error{
		Code: Text(e.Code), Kind: kindName(e.Kind),
		Problem: Short(e.Problem), Remedy: Short(e.Remedy),
	}
	if e.Cause != nil {
		m.Cause = Short(e.Cause.Error())
	}
	if e.RetryAfter != 0 {
		m.RetryAfter = durationpb.New(e.RetryAfter)
	}
	return m
}

func errorOf(m *sessionv1.Error) *session.Error {
	return &session.Error{
		Code: m.GetCode(), Kind: kindNamed(m.GetKind(), codes.Internal), Problem: m.GetProblem(),
		Remedy: m.GetRemedy(), Cause: textError(m.GetCause()), RetryAfter: m.GetRetryAfter().AsDuration(),
	}
}

// textError is the cause of an error, of which only the text travels; nil if
// there is no text.
func textError(s string) error {
	if s == "" {
		return nil
	}
	return errors.New(s)
}

func filterMessage(f *session.Filter) (*sessionv1.ListRequest, error) {
	m := &sessionv1.ListRequest{Pid: int32Of(f.PID)}
	for _, s := range f.States {
		state, ok := stateMessages[s]
		if !ok {
			return nil, badState(string(s))
		}
		m.States = append(m.States, state)
	}
	return m, nil
}

func filterOf(m *sessionv1.ListRequest) (session.Filter, error) {
	f := session.Filter{PID: int(m.GetPid())}
	for _, s := range m.GetStates() {
		state := stateOf(s)
		if !state.Known() {
			return f, badState(s.String())
		}
		f.States = append(f.States, state)
	}
	return f, nil
}

func badState(name string) error {
	return session.Invalid("bad_state", fmt.Sprintf("%q is not a state of sessions", name), fmt.Sprintf("choose from %v", session.States))
}

var stateMessages = map[session.State]sessionv1.State{
	session.StatePending:   sessionv1.State_STATE_PENDING,
	session.StateRunning:   sessionv1.State_STATE_RUNNING,
	session.StateSucceeded: sessionv1.State_STATE_SUCCEEDED,
	session.StateFailed:    sessionv1.State_STATE_FAILED,
	session.StateCanceled:  sessionv1.State_STATE_CANCELED,
}

// stateOf is empty for a state that only a newer server knows, which is not a
// final one then.
func stateOf(m sessionv1.State) session.State {
	for s, message := range stateMessages {
		if message == m {
			return s
		}
	}
	return ""
}

func wantMessage(id session.ID, w session.Want) *sessionv1.FetchRequest {
	return &sessionv1.FetchRequest{Id: Text(string(id)), Format: Text(w.Format), Offset: w.Offset, Digest: Text(w.Digest), Host: Text(w.Host)}
}

func wantOf(m *sessionv1.FetchRequest) (session.ID, session.Want) {
	return session.ID(m.GetId()), session.Want{Format: m.GetFormat(), Offset: m.GetOffset(), Digest: m.GetDigest(), Host: m.GetHost()}
}

func timeMessage(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeOf(m *timestamppb.Timestamp) time.Time {
	if m == nil {
		return time.Time{}
	}
	return m.AsTime()
}

// int32Of keeps what does not fit at the end of the range: no process has that
// PID, and no frequency is that high.
func int32Of[T ~int](n T) int32 {
	return int32(min(max(n, math.MinInt32), math.MaxInt32))
}

// text makes a string fit to travel: names of processes are any bytes, and the
// strings of messages are UTF-8.
func Text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// short is text that goes into headers.
func Short(s string) string {
	if s = Text(s); len(s) <= maxErrorText {
		return s
	}
	return strings.ToValidUTF8(s[:maxErrorText], "") + "…"
}
