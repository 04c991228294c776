// SPDX-License-Identifier: Apache-2.0

// Command serviceradar-profiler-agent is the gate to the profiler of a host:
//
//	serviceradar-profiler-agent --config /etc/serviceradar/profiler-agent.json
package main

import "github.com/carverauto/serviceradar-profiler/daemon"

func main() { program.Main() }

const name = "serviceradar-profiler-agent"

var program = daemon.Program{
	Name:  name,
	Short: "Decide who may profile what on this host, and hand it to the profiler",
	Long: `Stands before the serviceradar-profiler of this host: for srprof, for pollers of
ServiceRadar, and, where next_agent_address names it, before the host's own
serviceradar-agent, to which everything else is handed on as it is. It needs no
privilege.

SIGHUP makes it read the configuration again: limits, access and certificates
change at once; what else changed is told to need a restart. A configuration
that is wrong changes nothing.

SIGTERM ends it. Sessions go on in the profiler.

Exit codes: 0 ended by a signal, 1 failure, 2 the configuration or the command
line is wrong, 4 not permitted to read or listen.`,
	Config:      "/etc/serviceradar/profiler-agent.json",
	ConfigUsage: "the configuration `file`, an agent.json of ServiceRadar too; empty for none, where the environment says all",
	CheckLong: `Reads the configuration and the certificates that it names, and says all that is
wrong, a line each; then which keys have no effect here. Exit code 0 if the
agent would start with it.`,
	Serve: serve,
	Check: func(path string) (daemon.Source, []string, error) {
		s, err := load(path)
		if err != nil {
			return daemon.Source{}, nil, err
		}
		if _, err := s.Security.ServerCredentials(s.ListenAddr, nil); err != nil {
			return s.source, nil, s.source.Wrong("security", err)
		}
		_, err = s.identities()
		return s.source, s.notes(), err
	},
	Example: func() any { return example() },
}
