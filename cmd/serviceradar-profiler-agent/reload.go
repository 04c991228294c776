// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"reflect"

	"google.golang.org/grpc/credentials"

	"github.com/carverauto/serviceradar-profiler/auth"
)

// reload reads the configuration again, on SIGHUP. All of it is checked before
// any of it is used: what is wrong changes nothing.
func (s *service) reload() {
	fresh, err := load(s.path)
	if err != nil {
		s.log.Error("the configuration was not read again: what was there before stays in force", "error", err.Error())
		return
	}
	old := *s.settings
	for _, fixed := range []struct {
		key      string
		old, new any
	}{
		{"listen_addr", old.ListenAddr, fresh.ListenAddr},
		{"agent_id", old.AgentID, fresh.AgentID},
		{"host_ip", old.HostIP, fresh.HostIP},
		{"security", old.Security, fresh.Security},
		{"profiler_address", old.ProfilerAddress, fresh.ProfilerAddress},
		{"profiler_security", old.ProfilerSecurity, fresh.ProfilerSecurity},
		{"next_agent_address", old.NextAgentAddress, fresh.NextAgentAddress},
		{"next_agent_security", old.NextAgentSecurity, fresh.NextAgentSecurity},
		{"logging", old.Logging, fresh.Logging},
	} {
		if !reflect.DeepEqual(fixed.old, fixed.new) {
			s.log.Warn("this change needs a restart", "key", fixed.key)
		}
	}
	// Both were found good by load.
	if err := s.gate.SetPolicy(&fresh.Access); err != nil {
		s.log.Error("the rules of access were not changed", "error", err.Error())
		return
	}
	if err := s.agent.SetLimits(fresh.Limits); err != nil {
		s.log.Error("the limits were not changed", "error", err.Error())
		return
	}
	old.Access, old.Limits = fresh.Access, fresh.Limits
	s.settings = &old
	if err := s.rereadCertificates(); err != nil {
		s.log.Error("the certificates were not changed", "error", err.Error())
	}
	for _, note := range fresh.notes() {
		s.log.Warn("the configuration is good, " + note)
	}
	s.log.Info("the configuration was read again", "file", s.path)
}

func (s *service) rereadCertificates() error {
	var all []error
	for _, c := range []credentials.TransportCredentials{s.creds.server, s.creds.profiler, s.creds.next} {
		if c != nil {
			all = append(all, auth.Reread(c))
		}
	}
	return errors.Join(all...)
}
