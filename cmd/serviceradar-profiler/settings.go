// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/metrics"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/tracing"
)

// settings are the configuration file. Each key is in docs/configuration.md.
type settings struct {
	ListenAddr string           `json:"listen_addr"` // host:port; no host means all interfaces
	HostIP     string           `json:"host_ip"`     // that ServiceRadar knows this host by; "" is found out
	Security   auth.Security    `json:"security"`
	Access     access.Policy    `json:"access"`
	Profiler   profiler.Limits  `json:"profiler"`
	Logging    daemon.Logging   `json:"logging"`
	Metrics    metrics.Settings `json:"metrics"`
	Tracing    tracing.Settings `json:"tracing"`

	source daemon.Source
}

// variablePrefix begins the names of variables of the environment that stand
// for keys of the configuration: SRPROF_PROFILER_LOGGING_LEVEL.
const variablePrefix = "SRPROF_PROFILER_"

func defaults() settings {
	return settings{ListenAddr: ":50084", Access: access.DefaultPolicy(), Profiler: profiler.DefaultLimits(), Logging: daemon.Logging{Level: "info", Output: "stdout"}, Tracing: tracing.Default()}
}

// example has, besides the defaults, what has none: the certificates, where
// ServiceRadar's packages put them.
func example() settings {
	s := defaults()
	s.Security = *auth.Identity("/etc/serviceradar/certs", "profiler")
	s.Security.Mode = auth.ModeMTLS
	s.Access.Roles["admin.serviceradar"] = []string{"admin"} // as srprof certs calls it
	return s
}

func (s *settings) reach() *daemon.Reach {
	return &daemon.Reach{Name: name, ListenAddr: s.ListenAddr, Security: &s.Security, Metrics: &s.Metrics, Tracing: &s.Tracing}
}

// load reads the configuration and makes sure of it, the certificates aside.
func load(path string) (_ *settings, err error) {
	s := defaults()
	if s.source, err = daemon.ReadSettings(path, variablePrefix, &s.Logging, &s); err != nil {
		return nil, err
	}
	return &s, s.source.First(
		daemon.Checked{Key: "listen_addr", Err: daemon.CheckListen(s.ListenAddr)},
		daemon.Checked{Key: "host_ip", Err: daemon.CheckIP(s.HostIP)},
		daemon.Checked{Key: "access", Err: s.Access.Validate()},
		daemon.Checked{Key: "profiler", Err: s.Profiler.Validate()},
		daemon.Checked{Key: "logging", Err: s.Logging.Validate()},
		daemon.Checked{Key: "metrics", Err: s.Metrics.Validate(&s.Security)},
		daemon.Checked{Key: "tracing", Err: s.Tracing.Validate()},
	)
}

// notes are what is good, and yet may be otherwise than it seems.
func (s *settings) notes() []string {
	if s.Access.Empty() {
		return []string{daemon.NobodyMay}
	}
	return nil
}
