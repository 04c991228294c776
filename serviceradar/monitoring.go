// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// monitoringServer is what ServiceRadar's agents and pollers ask of a checker.
// All that it answers are JSON objects, because pollers of some versions drop
// everything else without a word; and it answers fast, because a poller gives
// all checks of an agent 30 s together.
type monitoringServer struct {
	monitoring.UnimplementedAgentServiceServer
	runner session.Runner
	about  About
	types  []string // of services, that are asked for here
	// building has room for one: results are megabytes, and pollers whose
	// polls overlap ask for the same ones several times at once.
	building chan struct{}
}

func newMonitoringServer(runner session.Runner, about About, types ...string) *monitoringServer {
	return &monitoringServer{runner: runner, about: about, types: types, building: make(chan struct{}, 1)}
}

// resultsWithin is the time that one answer may take of those 30 s.
const resultsWithin = 10 * time.Second

// checks says whether a service type is one that is asked for here.
func (m *monitoringServer) checks(serviceType string) bool {
	return slices.Contains(m.types, serviceType)
}

// agentID is by which whoever answers is known; a checker is known by what the
// poller calls it.
func (m *monitoringServer) agentID(asked string) string { return cmp.Or(m.about.AgentID, asked) }

// hostStatus is where pollers look for who it is that answers.
type hostStatus struct {
	HostIP    string    `json:"host_ip"`
	Hostname  string    `json:"hostname"`
	Timestamp time.Time `json:"timestamp,omitzero"`
}

// statusMessage is the answer to GetStatus.
type statusMessage struct {
	Available bool `json:"available"`
	remote.StatusMessage
	Status hostStatus `json:"status"`

	Profiler *remote.ProfilerStatus `json:"profiler,omitempty"` // behind an agent
}

// GetStatus tells how the service is. It asks nobody for it.
func (m *monitoringServer) GetStatus(_ context.Context, in *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	began := time.Now()
	h := m.about.Health()
	message := statusMessage{
		Available: h.Healthy,
		StatusMessage: remote.StatusMessage{Healthy: h.Healthy, Reason: h.Reason, Version: m.about.Version,
			ActiveSessions: h.Running, QueuedSessions: h.Queued, Limits: m.about.limits()},
		Status: hostStatus{m.about.HostIP, m.about.Host, began.UTC().Truncate(time.Second)},
	}
	if m.about.Profiler != nil {
		profiler := m.about.Profiler()
		message.Profiler = &profiler
	}
	if !m.checks(in.GetServiceType()) {
		message.Available, message.Reason = false, fmt.Sprintf("the profiler has no checks of service type %.64q", in.GetServiceType())
	}
	data, err := json.Marshal(message)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &monitoring.StatusResponse{
		Available: message.Available, Message: data, ResponseTime: time.Since(began).Nanoseconds(),
		ServiceName: in.GetServiceName(), ServiceType: in.GetServiceType(), AgentId: m.agentID(in.GetAgentId()), PollerId: in.GetPollerId(),
	}, nil
}

// GetResults answers with the profile that is asked for, cut to what a poller
// can carry. What goes wrong is in the answer too: agents make of a gRPC error
// a text that is not always JSON.
func (m *monitoringServer) GetResults(ctx context.Context, in *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
	if !m.checks(in.GetServiceType()) {
		return nil, status.Errorf(codes.Unimplemented, "GetResults not supported for service type '%.64s'", in.GetServiceType())
	}
	began := time.Now()
	within, cancel := context.WithTimeout(ctx, resultsWithin)
	defer cancel()
	a, r, err := m.answer(within, in)
	if ctx.Err() != nil {
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if refused := notAllowed(err); refused != nil {
		return nil, refused
	}
	if err != nil { // without a sequence, so that it is asked for again
		a, r = asked{}, m.failed(err)
	}
	data, err := encoded(r, r)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &monitoring.ResultsResponse{
		Available: r.Available, Data: data, ResponseTime: time.Since(began).Nanoseconds(), Timestamp: time.Now().Unix(),
		ServiceName: in.GetServiceName(), ServiceType: in.GetServiceType(), AgentId: m.agentID(in.GetAgentId()), PollerId: in.GetPollerId(),
		CurrentSequence: a.sequence(), HasNewData: a.newTo(in), SweepCompletion: a.completion(),
	}, nil
}

func (m *monitoringServer) answer(ctx context.Context, in *monitoring.ResultsRequest) (asked, *results, error) {
	a, err := m.find(ctx, in.GetDetails())
	if err != nil {
		return a, nil, err
	}
	r := m.describe(&a, in)
	if !r.wantsText {
		return a, r, nil
	}
	select {
	case m.building <- struct{}{}:
		defer func() { <-m.building }()
	case <-ctx.Done():
		return a, nil, ctx.Err()
	}
	content, err := m.fetch(ctx, r)
	if err != nil || content == nil {
		return a, r, err
	}
	defer content.Body.Close()
	return a, r, r.cut(content.Body)
}

// fetch opens the folded text of a session that has ended; nil if it has none
// and never will.
func (m *monitoringServer) fetch(ctx context.Context, r *results) (*session.Content, error) {
	content, err := m.runner.Fetch(ctx, r.SessionID, session.Want{Format: formatFolded})
	if errors.Is(err, session.ErrCanceled) || errors.Is(err, session.ErrNoSamples) {
		r.Message, r.Whole = err.Error(), nil
		return nil, nil
	}
	return content, err
}
