// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/config"
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

// load reads the configuration and makes sure of it, the certificates aside.
// Variables of the environment come over the file; no path means no file.
func load(path string) (*settings, error) {
	s := defaults()
	s.source = daemon.Source{File: path, Prefix: variablePrefix, Variables: s.Logging.FromEnvironment(os.Getenv)}
	if path != "" {
		if err := config.Read(path, &s); err != nil {
			return nil, err
		}
	}
	found, err := config.Overlay(variablePrefix, os.Environ(), &s)
	if err != nil {
		return nil, err
	}
	s.source.Variables = append(s.source.Variables, found...)
	for _, check := range []struct {
		key string
		err error
	}{
		{"listen_addr", daemon.CheckListen(s.ListenAddr)},
		{"host_ip", daemon.CheckIP(s.HostIP)},
		{"access", s.Access.Validate()},
		{"profiler", s.Profiler.Validate()},
		{"logging", s.Logging.Validate()},
		{"metrics", s.Metrics.Validate(&s.Security)},
		{"tracing", s.Tracing.Validate()},
	} {
		if check.err != nil {
			return nil, s.source.Wrong(check.key, check.err)
		}
	}
	return &s, nil
}
