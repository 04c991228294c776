// SPDX-License-Identifier: Apache-2.0

package main

import (
	"reflect"

	"github.com/carverauto/serviceradar-profiler/auth"
)

// nobodyMay is what must not go unnoticed.
const nobodyMay = `nobody may use it: "access.roles" gives nobody a role; for example {"access": {"roles": {"admin.serviceradar": ["admin"]}}}`

// reload reads the configuration again, on SIGHUP. All of it is checked before
// any of it is used: what is wrong changes nothing.
func (s *service) reload() (taken bool) {
	fresh, err := load(s.path)
	if err != nil {
		s.log.Error("the configuration was not read again: what was there before stays in force", "error", err.Error())
		return false
	}
	old := s.settings
	for _, fixed := range []struct {
		key  string
		same bool
	}{
		{"listen_addr", fresh.ListenAddr == old.ListenAddr},
		{"host_ip", fresh.HostIP == old.HostIP},
		{"security", reflect.DeepEqual(fresh.Security, old.Security)},
		{"logging", reflect.DeepEqual(fresh.Logging, old.Logging)},
		{"metrics", fresh.Metrics == old.Metrics},
		{"tracing", reflect.DeepEqual(fresh.Tracing, old.Tracing)},
		{"profiler.spool_dir", fresh.Profiler.SpoolDir == old.Profiler.SpoolDir},
		{"profiler.chunk_size_bytes", fresh.Profiler.ChunkSizeBytes == old.Profiler.ChunkSizeBytes},
	} {
		if !fixed.same {
			s.log.Warn("this change needs a restart", "key", fixed.key)
		}
	}
	fresh.ListenAddr, fresh.HostIP, fresh.Security, fresh.Logging, fresh.Metrics, fresh.Tracing = old.ListenAddr, old.HostIP, old.Security, old.Logging, old.Metrics, old.Tracing
	fresh.Profiler.SpoolDir, fresh.Profiler.ChunkSizeBytes = old.Profiler.SpoolDir, old.Profiler.ChunkSizeBytes
	// Both were found good by load.
	if err := s.gate.SetPolicy(&fresh.Access); err != nil {
		s.log.Error("the rules of access were not changed", "error", err.Error())
		return false
	}
	if err := s.sessions.SetLimits(fresh.Profiler); err != nil {
		s.log.Error("the limits were not changed", "error", err.Error())
		return false
	}
	s.settings = fresh
	if err := auth.Reread(s.creds); err != nil {
		s.log.Error("the certificates were not changed", "error", err.Error())
	}
	if fresh.Access.Empty() {
		s.log.Warn(nobodyMay)
	}
	s.log.Info("the configuration was read again", "file", s.path)
	return true
}
