// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"reflect"

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
	s.keepFixed(fresh)
	reached, err := newReached(fresh, s.reached.ids, s.reached.how, s.reached)
	if err != nil {
		return nil, err
	}
	// All of it was found good by now.
	if err := errors.Join(s.gate.SetPolicy(&fresh.Access), s.poller.SetLimits(fresh.Limits), s.poller.SetHosts(reached.hosts(fresh))); err != nil {
		return nil, fmt.Errorf("%w: %w", daemon.ErrPartly, err)
	}
	s.poller.Reconsider()
	if !reflect.DeepEqual(fresh.Config, s.settings.Config) {
		if e := s.beginChecking(fresh, reached); e != nil {
			err = fmt.Errorf("%w: nothing is checked any more: %w", daemon.ErrPartly, e)
		}
	}
	if err := s.reached.closeBut(reached); err != nil {
		s.Log.Warn("a connection could not be closed", "error", err.Error())
	}
	s.settings, s.reached = fresh, reached
	if err := errors.Join(auth.Reread(s.Creds), s.reached.ids.reread()); err != nil {
		s.Log.Error("the certificates were not changed", "error", err.Error())
	}
	return fresh.notes(), err
}

// keepFixed tells of what stays as it is until a restart, and keeps it so.
func (s *service) keepFixed(fresh *settings) {
	old := s.settings
	daemon.TellFixed(s.Log,
		daemon.Fixed{Key: "listen_addr", Old: old.ListenAddr, New: fresh.ListenAddr},
		daemon.Fixed{Key: "data_dir", Old: old.DataDir, New: fresh.DataDir},
		daemon.Fixed{Key: "service_name", Old: old.ServiceName, New: fresh.ServiceName},
		daemon.Fixed{Key: "security", Old: old.Security, New: fresh.Security},
		daemon.Fixed{Key: "core_address", Old: old.CoreAddress, New: fresh.CoreAddress},
		daemon.Fixed{Key: "core_security", Old: old.CoreSecurity, New: fresh.CoreSecurity},
		daemon.Fixed{Key: "reports", Old: old.Reports, New: fresh.Reports},
		daemon.Fixed{Key: "limits.max_result_bytes", Old: old.Limits.MaxResultBytes, New: fresh.Limits.MaxResultBytes},
		daemon.Fixed{Key: "limits.max_collections", Old: old.Limits.MaxCollections, New: fresh.Limits.MaxCollections},
		daemon.Fixed{Key: "logging", Old: old.Logging, New: fresh.Logging},
		daemon.Fixed{Key: "metrics", Old: old.Metrics, New: fresh.Metrics},
		daemon.Fixed{Key: "tracing", Old: old.Tracing, New: fresh.Tracing},
	)
	fresh.ListenAddr, fresh.DataDir, fresh.ServiceName, fresh.Security = old.ListenAddr, old.DataDir, old.ServiceName, old.Security
	fresh.CoreAddress, fresh.CoreSecurity, fresh.Reports = old.CoreAddress, old.CoreSecurity, old.Reports
	fresh.Limits.MaxResultBytes, fresh.Limits.MaxCollections = old.Limits.MaxResultBytes, old.Limits.MaxCollections
	fresh.Logging, fresh.Metrics, fresh.Tracing = old.Logging, old.Metrics, old.Tracing
}
