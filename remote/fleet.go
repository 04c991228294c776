// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"

	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Hosts is of session.Fleet. The error is of kind errors.ErrUnsupported where a
// service answers that knows no hosts, as older ones do.
func (c *Client) Hosts(ctx context.Context, h session.Hosts) ([]session.Host, error) {
	answer, err := repeated(ctx, c, c.fleet.ListHosts, &sessionv1.ListHostsRequest{Hosts: hostsMessage(&h)})
	if err != nil {
		return nil, err
	}
	var hosts []session.Host
	for _, m := range answer.GetHosts() {
		hosts = append(hosts, hostOf(m))
	}
	return hosts, nil
}

// Processes is of session.Fleet.
func (c *Client) Processes(ctx context.Context, host string, s session.Selector, most int) ([]session.Process, error) {
	answer, err := repeated(ctx, c, c.fleet.ListProcesses,
		&sessionv1.ListProcessesRequest{Host: Text(host), Select: selectorMessage(&s), Most: int32Of(most)})
	if err != nil {
		return nil, err
	}
	var processes []session.Process
	for _, m := range answer.GetProcesses() {
		processes = append(processes, processOf(m))
	}
	return processes, nil
}

// Match is of session.Fleet.
func (c *Client) Match(ctx context.Context, spec session.Spec) ([]session.Match, error) {
	if err := sendable(&spec); err != nil {
		return nil, err
	}
	answer, err := repeated(ctx, c, c.fleet.Match, &sessionv1.MatchRequest{Spec: specMessage(&spec)})
	if err != nil {
		return nil, err
	}
	var matches []session.Match
	for _, m := range answer.GetHosts() {
		matches = append(matches, matchOf(m))
	}
	return matches, nil
}

// fleetServer serves a Fleet's own part to Clients.
type fleetServer struct {
	sessionv1.UnimplementedFleetServiceServer
	fleet session.Fleet
}

func (s *fleetServer) ListHosts(ctx context.Context, m *sessionv1.ListHostsRequest) (*sessionv1.ListHostsResponse, error) {
	hosts, err := s.fleet.Hosts(ctx, hostsOf(m.GetHosts()))
	if err != nil {
		return nil, statusOf(err).Err()
	}
	answer := &sessionv1.ListHostsResponse{}
	for i := range hosts {
		answer.Hosts = append(answer.Hosts, hostMessage(&hosts[i]))
	}
	return answer, nil
}

func (s *fleetServer) ListProcesses(ctx context.Context, m *sessionv1.ListProcessesRequest) (*sessionv1.ListProcessesResponse, error) {
	processes, err := s.fleet.Processes(ctx, m.GetHost(), selectorOf(m.GetSelect()), int(m.GetMost()))
	if err != nil {
		return nil, statusOf(err).Err()
	}
	answer := &sessionv1.ListProcessesResponse{}
	for i := range processes {
		answer.Processes = append(answer.Processes, processMessage(&processes[i]))
	}
	return answer, nil
}

func (s *fleetServer) Match(ctx context.Context, m *sessionv1.MatchRequest) (*sessionv1.MatchResponse, error) {
	matches, err := s.fleet.Match(ctx, specOf(m.GetSpec()))
	if err != nil {
		return nil, statusOf(err).Err()
	}
	answer := &sessionv1.MatchResponse{}
	for i := range matches {
		answer.Hosts = append(answer.Hosts, matchMessage(&matches[i]))
	}
	return answer, nil
}
