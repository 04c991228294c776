// SPDX-License-Identifier: Apache-2.0

// Command serviceradar-profiler is the service that runs sessions on a host:
//
//	serviceradar-profiler --config /etc/serviceradar/profiler.json
package main

import "github.com/carverauto/serviceradar-profiler/daemon"

func main() { program.Main() }

const name = "serviceradar-profiler"

var program = daemon.Program{
	Name:  name,
	Short: "Run profiling sessions on this host for whoever may ask",
	Long: `Samples processes of this host with eBPF, on request: by gRPC, for srprof and
for ServiceRadar's agents and pollers. Clients show a certificate.

SIGHUP makes it read the configuration again: limits, access and certificates
change at once; what else changed is told to need a restart. A configuration
that is wrong changes nothing.

SIGTERM ends it: sessions end, their results can be fetched for the grace
period, unless all were fetched or nobody is connected. A second one ends it
at once. Nothing stays in the kernel, however it ends.

Exit codes: 0 ended by a signal, 1 failure, 2 the configuration or the command
line is wrong, 4 not permitted to read or listen.`,
	Config:      "/etc/serviceradar/profiler.json",
	ConfigUsage: "the configuration `file`; empty for none, where the environment says all",
	CheckLong: `Reads the configuration and the certificates that it names, and says all that is
wrong, a line each. Exit code 0 if the service would start with it.`,
	Serve: serve,
	Check: func(path string) (daemon.Source, []string, error) {
		s, err := load(path)
		if err != nil {
			return daemon.Source{}, nil, err
		}
		if _, err := s.Security.ServerCredentials(s.ListenAddr, nil); err != nil {
			return s.source, nil, s.source.Wrong("security", err)
		}
		return s.source, s.notes(), nil
	},
	Example: func() any { return example() },
}
