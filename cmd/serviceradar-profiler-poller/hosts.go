// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/checks"
	"github.com/carverauto/serviceradar-profiler/poller"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/tracing"
)

// slender is how connections are made of which there are thousands: most of
// them carry a question now and then.
func slender(t *tracing.Tracing) []grpc.DialOption {
	how := []grpc.DialOption{grpc.WithReadBufferSize(8 << 10)}
	if t != nil { // all that a poller asks it asks by itself, in the end
		how = append(how, grpc.WithStatsHandler(t.Outgoing()))
	}
	return how
}

// reached is how the agents of a configuration are called.
type reached struct {
	ids    *identities
	how    []grpc.DialOption
	agents map[string]*reach // by name
}

// reach is how one agent is called: for sessions, and for checks. Mostly both go
// over one connection.
type reach struct {
	at     where
	fleet  *remote.Client
	checks *serviceradar.AgentClient
}

// where is what makes one connection another one.
type where struct{ address, profiler, serverName string }

func whereIs(a *checks.Agent) where { return where{a.Address, a.ProfilerAddress, a.ServerName} }

// newReached makes the clients of a configuration. Those of the former one are
// taken over where nothing about them has changed. Nothing is connected to yet.
func newReached(s *settings, ids *identities, how []grpc.DialOption, former *reached) (_ *reached, err error) {
	r := &reached{ids: ids, how: how, agents: map[string]*reach{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.closeBut(former))
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(s.Agents)) {
		a := s.Agents[name]
		if former != nil {
			if is, ok := former.agents[name]; ok && is.at == whereIs(&a) {
				r.agents[name] = is
				continue
			}
		}
		if r.agents[name], err = r.dial(s, &a); err != nil {
			return nil, fmt.Errorf("agents.%s: %w", name, err)
		}
	}
	return r, nil
}

func (r *reached) dial(s *settings, a *checks.Agent) (*reach, error) {
	creds, err := r.ids.of(s, a, a.Address)
	if err != nil {
		return nil, err
	}
	is := &reach{at: whereIs(a)}
	if a.ProfilerAddress == "" {
		if is.fleet, err = remote.Dial(a.Address, creds, r.how...); err != nil {
			return nil, err
		}
		is.checks = serviceradar.AgentOf(is.fleet)
		return is, nil
	}
	if is.checks, err = serviceradar.DialAgent(a.Address, creds, r.how...); err != nil {
		return nil, err
	}
	if creds, err = r.ids.of(s, a, a.ProfilerAddress); err == nil {
		is.fleet, err = remote.Dial(a.ProfilerAddress, creds, r.how...)
	}
	if err != nil {
		return nil, errors.Join(err, is.checks.Close())
	}
	return is, nil
}

// hosts are those of the poller.
func (r *reached) hosts(s *settings) []poller.HostConfig {
	var all []poller.HostConfig
	for _, name := range slices.Sorted(maps.Keys(s.Agents)) {
		a := s.Agents[name]
		all = append(all, poller.HostConfig{Name: name, Address: cmp.Or(a.ProfilerAddress, a.Address), Labels: a.Labels, Fleet: r.agents[name].fleet})
	}
	return all
}

// checkers are whom checks are asked of.
func (r *reached) checkers() map[string]*serviceradar.AgentClient {
	all := map[string]*serviceradar.AgentClient{}
	for name, is := range r.agents {
		all[name] = is.checks
	}
	return all
}

// closeBut ends the connections that others have not taken over.
func (r *reached) closeBut(others *reached) error {
	var all []error
	for name, is := range r.agents {
		if others == nil || others.agents[name] != is {
			all = append(all, is.checks.Close(), is.fleet.Close())
		}
	}
	return errors.Join(all...)
}
