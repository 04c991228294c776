// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/daemon"
)

// reload reads the configuration again, on SIGHUP. All of it is checked before
// any of it is used: what is wrong changes nothing.
func (s *service) reload() (notes []string, err error) {
	fresh, err := load(s.Path)
	if err != nil {
		return nil, err
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
		daemon.Fixed{Key: "metrics", Old: old.Metrics, New: fresh.Metrics},
		daemon.Fixed{Key: "tracing", Old: old.Tracing, New: fresh.Tracing},
	)
	if err := errors.Join(s.gate.SetPolicy(&fresh.Access), s.agent.SetLimits(fresh.Limits)); err != nil { // both were found good by load
		return nil, fmt.Errorf("%w: %w", daemon.ErrPartly, err)
	}
	old.Access, old.Limits = fresh.Access, fresh.Limits
	s.settings = &old
	if err := errors.Join(auth.Reread(s.Creds), s.ids.reread()); err != nil {
		s.Log.Error("the certificates were not changed", "error", err.Error())
	}
	return fresh.notes(), nil
}
