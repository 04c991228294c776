// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/daemon"
)

// reload reads the configuration again, on SIGHUP. All of it is checked before
// any of it is used: what is wrong changes nothing.
func (s *service) reload() (taken bool) {
	fresh, err := load(s.path)
	if err != nil {
		s.Log.Error("the configuration was not read again: what was there before stays in force", "error", err.Error())
		return false
	}
	old := s.settings
	daemon.TellFixed(s.Log,
		daemon.Fixed{Key: "listen_addr", Old: old.ListenAddr, New: fresh.ListenAddr},
		daemon.Fixed{Key: "host_ip", Old: old.HostIP, New: fresh.HostIP},
		daemon.Fixed{Key: "security", Old: old.Security, New: fresh.Security},
		daemon.Fixed{Key: "logging", Old: old.Logging, New: fresh.Logging},
		daemon.Fixed{Key: "metrics", Old: old.Metrics, New: fresh.Metrics},
		daemon.Fixed{Key: "tracing", Old: old.Tracing, New: fresh.Tracing},
		daemon.Fixed{Key: "profiler.spool_dir", Old: old.Profiler.SpoolDir, New: fresh.Profiler.SpoolDir},
		daemon.Fixed{Key: "profiler.chunk_size_bytes", Old: old.Profiler.ChunkSizeBytes, New: fresh.Profiler.ChunkSizeBytes},
	)
	fresh.ListenAddr, fresh.HostIP, fresh.Security, fresh.Logging, fresh.Metrics, fresh.Tracing = old.ListenAddr, old.HostIP, old.Security, old.Logging, old.Metrics, old.Tracing
	fresh.Profiler.SpoolDir, fresh.Profiler.ChunkSizeBytes = old.Profiler.SpoolDir, old.Profiler.ChunkSizeBytes
	// Both were found good by load.
	if err := s.gate.SetPolicy(&fresh.Access); err != nil {
		s.Log.Error("the rules of access were not changed", "error", err.Error())
		return false
	}
	if err := s.sessions.SetLimits(fresh.Profiler); err != nil {
		s.Log.Error("the limits were not changed", "error", err.Error())
		return false
	}
	s.settings = fresh
	if err := auth.Reread(s.creds); err != nil {
		s.Log.Error("the certificates were not changed", "error", err.Error())
	}
	if fresh.Access.Empty() {
		s.Log.Warn(goodBut + daemon.NobodyMay)
	}
	s.Log.Info("the configuration was read again", "file", s.path)
	return true
}
