// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/output"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// running is what srprof run was asked to do.
type running struct {
	asking
	connection connection
	output.Destination
	dryRun bool
}

func runCommand(s streams) *cobra.Command {
	var r running
	r.Session = true
	c := &cobra.Command{
		Use:   "run [HOST…] --pid PID|--name NAME|… [flags]",
		Short: "Profile processes of one host or of many, and write what they did",
		Long: `Starts a session, shows how it goes, and fetches and writes its profile: from the
request to the flame graph in one command. Of several hosts it writes one profile
of all, which keeps the host of each sample: --by-host makes it the first level
of the picture.
` + hostsHelp + `
Processes are chosen on each host when it begins: --dry-run says which these are
now, and starts nothing.

The extension of --output chooses the format, unless --format does; {host} in the
name makes a file for each host, and so does --per-host. Without any output, a
table of the hottest functions goes to standard output; -o json writes the
session, with what became of each host.
Ctrl-C ends the session, unless it serves others too, and writes what was sampled
up to then.
` + connectionHelp + `

Exit codes: 0 ok, 1 failure (all hosts failed), 2 usage, 3 some hosts failed (the
profile is of the others), 4 not permitted, 5 no samples, 130 interrupted or
canceled (the profile up to then is written).`,
		Example: `  srprof run web-01 --name nginx -d 30s -o nginx.svg
  srprof run --hottest --server web-01 --cert-dir certs
  srprof run 'web-*' --unit shop --dry-run
  srprof run -l service=shop,env=prod --unit shop --most 5 --canary -o shop.svg -o shop.pb.gz
  srprof run --all --hottest --at-once 10 -o 'hottest-{host}.svg'`,
		RunE: func(c *cobra.Command, args []string) error {
			r.spec.Hosts.Names, r.connection.asked = args, args
			return runThere(c.Context(), s, &r)
		},
	}
	r.asking.addFlags(c)
	r.addHostFlags(c, &r.connection)
	c.Flags().BoolVar(&r.dryRun, "dry-run", false, "only say which processes of which hosts would be profiled")
	addOutputFlags(c, &r.Destination)
	addFleetFlags(c, &r.Destination)
	addLimitFlag(c, &r.Limit)
	r.addServiceFlags(c)
	r.connection.addFlags(c)
	r.connection.completeSelector(c, false)
	return c
}

func runThere(ctx context.Context, s streams, r *running) error {
	if err := r.check(); err != nil {
		return err
	}
	if r.dryRun {
		return r.connection.ask(ctx, func(there *dialed) error { return match(ctx, s, there, &r.spec, r.WantsSession()) })
	}
	outs, err := r.Create(s)
	defer outs.Abandon()
	if err != nil {
		return err
	}
	return r.connection.ask(ctx, func(there *dialed) error { return recordThere(ctx, s, there, r.spec, &r.Destination, outs) })
}

// match says what a spec means.
func match(ctx context.Context, s streams, there session.Fleet, spec *session.Spec, asJSON bool) error {
	all, err := there.Match(ctx, *spec)
	if err != nil {
		return err
	}
	processes, hosts, failed := 0, 0, 0
	var first *session.Error
	for i := range all {
		m := &all[i]
		processes += len(m.PIDs)
		if len(m.PIDs) > 0 {
			hosts++
		}
		if m.Err != nil {
			failed++
			first = m.Err
		}
	}
	if asJSON {
		err = writeJSON(s.Out, struct {
			Processes int             `json:"processes"`
			Hosts     int             `json:"hosts"`
			Matches   []session.Match `json:"matches"`
		}{processes, hosts, listJSON(all)})
	} else {
		fmt.Fprintf(s.Out, "matches %s on %s\n", terminal.Plural(processes, "process", "processes"), terminal.Plural(hosts, "host", "hosts"))
		err = terminal.WriteMatches(s.Out, all)
	}
	switch {
	case err != nil:
		return fmt.Errorf("write the matches: %w", err)
	case processes == 0 && first != nil && failed == 1:
		return first
	case processes == 0:
		return &session.Error{Code: "no_such_process", Kind: session.ErrInvalid, Problem: "no process of any host is meant by " + spec.Select.String(), Remedy: "srprof ps HOST lists what runs"}
	case failed > 0:
		return errPartial
	}
	return nil
}
