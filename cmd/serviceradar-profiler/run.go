// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/version"
)

const program = "serviceradar-profiler"

// run is the program as a function. It returns the exit code.
func run(ctx context.Context, args []string, s daemon.Streams) int {
	root := rootCommand(s)
	root.SetArgs(daemon.OldFlags(args))
	return daemon.Exit(program, root.ExecuteContext(ctx), s.Err)
}

func rootCommand(s daemon.Streams) *cobra.Command {
	var path string
	root := &cobra.Command{
		Use:   program,
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
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return serve(c.Context(), path, s) },
	}
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetVersionTemplate(program + " {{.Version}}\n")
	root.PersistentFlags().StringVarP(&path, "config", "c", "/etc/serviceradar/profiler.json", "the configuration `file`; empty for none, where the environment says all")
	root.AddCommand(configCommand(s, &path))
	return root
}

func configCommand(s daemon.Streams, path *string) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check the configuration, or show one", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the configuration and its certificates",
		Long: `Reads the configuration and the certificates that it names, and says all that is
wrong, a line each. Exit code 0 if the service would start with it.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			settings, err := load(*path)
			if err != nil {
				return err
			}
			if _, err := settings.Security.ServerCredentials(settings.ListenAddr, nil); err != nil {
				return settings.source.Wrong("security", err)
			}
			fmt.Fprintf(s.Out, "%s: good\n", settings.source.Of(""))
			if settings.Access.Empty() {
				fmt.Fprintf(s.Err, "%s: %s: but %s\n", program, *path, nobodyMay)
			}
			return nil
		},
	}, &cobra.Command{
		Use:   "example",
		Short: "Write a configuration with each key and its default",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			e := json.NewEncoder(s.Out)
			e.SetIndent("", "  ")
			return e.Encode(example())
		},
	})
	return c
}
