// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"google.golang.org/grpc/credentials"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/daemon"
)

// reload reads the configuration again, on SIGHUP. All of it is checked before
// any of it is used: what is wrong changes nothing.
func (s *service) reload() {
	fresh, err := load(s.path)
	if err != nil {
		s.Log.Error("the configuration was not read again: what was there before stays in force", "error", err.Error())
		return
	}
	old := *s.settings
	daemon.TellFixed(s.Log,
		daemon.Fixed{Key: "listen_addr", Old: old.ListenAddr, New: fresh.ListenAddr},
		daemon.Fixed{Key: "agent_id", Old: old.AgentID, New: fresh.AgentID},
		daemon.Fixed{Key: "host_ip", Old: old.HostIP, New: fresh.HostIP},
		daemon.Fixed{Key: "security", Old: old.Security, New: fresh.Security},
		daemon.Fixed{Key: "profiler_address", Old: old.ProfilerAddress, New: fresh.ProfilerAddress},
		daemon.Fixed{Key: "profiler_security", Old: old.ProfilerSecurity, New: fresh.ProfilerSecurity},
		daemon.Fixed{Key: "next_agent_address", Old: old.NextAgentAddress, New: fresh.NextAgentAddress},
		daemon.Fixed{Key: "next_agent_security", Old: old.NextAgentSecurity, New: fresh.NextAgentSecurity},
		daemon.Fixed{Key: "logging", Old: old.Logging, New: fresh.Logging},
	)
	// Both were found good by load.
	if err := s.gate.SetPolicy(&fresh.Access); err != nil {
		s.Log.Error("the rules of access were not changed", "error", err.Error())
		return
	}
	if err := s.agent.SetLimits(fresh.Limits); err != nil {
		s.Log.Error("the limits were not changed", "error", err.Error())
		return
	}
	old.Access, old.Limits = fresh.Access, fresh.Limits
	s.settings = &old
	if err := s.rereadCertificates(); err != nil {
		s.Log.Error("the certificates were not changed", "error", err.Error())
	}
	for _, note := range fresh.notes() {
		s.Log.Warn("the configuration is good, " + note)
	}
	s.Log.Info("the configuration was read again", "file", s.path)
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
