// SPDX-License-Identifier: Apache-2.0

// Command serviceradar-profiler-poller profiles any process of a fleet of hosts,
// for whoever may ask:
//
//	serviceradar-profiler-poller --config /etc/serviceradar/profiler-poller.json
package main

import "github.com/carverauto/serviceradar-profiler/daemon"

func main() { program.Main() }

const name = "serviceradar-profiler-poller"

var program = daemon.Program{
	Name:  name,
	Short: "Run profiling sessions on the hosts of a fleet, and report to ServiceRadar",
	Long: `Knows the hosts that the configuration names, sends sessions to their agents,
keeps what becomes of them and their profiles in a directory of its own, and
polls the agents' checks for ServiceRadar's core as its own poller does. It
needs no privilege.

SIGHUP makes it read the configuration again: limits, access, certificates,
hosts and their checks change at once; what else changed is told to need a
restart. A configuration that is wrong changes nothing.

SIGTERM ends it. Sessions go on on the hosts; what they sampled is collected
when it is back.

Exit codes: 0 ended by a signal, 1 failure, 2 the configuration or the command
line is wrong, 4 not permitted to read, write or listen.`,
	Config:      "/etc/serviceradar/profiler-poller.json",
	ConfigUsage: "the configuration `file`, a poller.json of ServiceRadar too; empty for none, where the environment says all",
	CheckLong: `Reads the configuration and the certificates that it names, and says all that is
wrong, a line each; then which keys have no effect here. Exit code 0 if the
poller would start with it.`,
	Serve: serve,
	Check: func(path string) (daemon.Source, []string, error) {
		s, err := load(path)
		if err != nil {
			return daemon.Source{}, nil, err
		}
		if _, err := s.Security.ServerCredentials(s.ListenAddr, nil); err != nil {
			return s.source, nil, s.source.Wrong("security", err)
		}
		_, err = newIdentities(s)
		return s.source, s.notes(), err
	},
	Example: func() any { return example() },
}
