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
	if err := errors.Join(s.gate.SetPolicy(&fresh.Access), s.sessions.SetLimits(fresh.Profiler)); err != nil { // both were found good by load
		return nil, fmt.Errorf("%w: %w", daemon.ErrPartly, err)
	}
	s.settings = fresh
	if err := auth.Reread(s.Creds); err != nil {
		s.Log.Error("the certificates were not changed", "error", err.Error())
	}
	return fresh.notes(), nil
}
