// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

func hostsCommand(s streams) *cobra.Command {
	var n connection
	var form formFlag
	var chosen session.Hosts
	c := &cobra.Command{
		Use:   "hosts [HOST…] [flags]",
		Short: "List the hosts that can be profiled, and how they are",
		Long: `Lists the hosts of a poller, or the one of a profiler or an agent: by name or
pattern, by -l LABELS, else all of them. A host is ready, or unhealthy (it answers,
but takes no sessions), away (it does not answer), without profiling (it answers,
but knows none) or unknown (it was not asked yet); the reason is shown.
` + connectionHelp + exitHelp,
		Example: `  srprof hosts
  srprof hosts 'web-*' -o wide
  srprof hosts -l service=shop -o json | jq -r '.[] | select(.state != "ready") | .name'`,
		RunE: func(c *cobra.Command, args []string) error {
			chosen.Names, n.asked = args, args
			return n.ask(c.Context(), func(there *dialed) error { return n.listHosts(c.Context(), s, there, chosen, &form) })
		},
	}
	addHostSelectorFlags(c, &chosen)
	n.addFlags(c)
	form.addFormFlag(c, true)
	completeArgs(c, -1, n.hosts)
	return c
}

func (n *connection) listHosts(ctx context.Context, s streams, there *dialed, chosen session.Hosts, form *formFlag) error {
	if err := chosen.Validate(); err != nil {
		return err
	}
	all, err := there.Hosts(ctx, chosen)
	if err != nil {
		return err
	}
	if form.json() {
		return writeJSON(s.Out, listJSON(all))
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(s.Err, strings.TrimRight("srprof: there are no such hosts; "+n.nearHost(ctx, there), "; "))
		return err
	}
	return terminal.WriteHosts(s.Out, all, form.form == formWide)
}

func psCommand(s streams) *cobra.Command {
	var n connection
	var form formFlag
	var selector session.Selector
	var most int
	c := &cobra.Command{
		Use:   "ps [HOST] [flags]",
		Short: "List the processes of a host, hottest first, to choose one",
		Long: `Lists processes of a host with the CPU time they use just now, those that use
most first: 100% is one CPU. Their arguments and environments are not told. The
host of a profiler or an agent need not be named.
` + connectionHelp + exitHelp,
		Example: `  srprof ps web-01
  srprof ps web-01 --unit 'postgres*' -n 0 -o wide`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			n.asked = args
			return n.ask(c.Context(), func(there *dialed) error {
				return listProcesses(c.Context(), s, there, strings.Join(args, ""), selector, most, &form)
			})
		},
	}
	addSelectorFlags(c, &selector)
	c.Flags().IntVarP(&most, "most", "n", 20, "so many at most; 0: all of them")
	n.addFlags(c)
	form.addFormFlag(c, true)
	completeArgs(c, 1, n.hosts)
	n.completeSelector(c, false)
	return c
}

func listProcesses(ctx context.Context, s streams, there session.Fleet, host string, selector session.Selector, most int, form *formFlag) error {
	if most < 0 {
		return session.Invalid("bad_most", fmt.Sprintf("--most is %d", most), "say how many, or 0 for all")
	}
	if !selector.Empty() {
		if err := selector.Validate(); err != nil {
			return err
		}
	}
	asked := most
	if asked > 0 {
		asked++ // to see whether there are more
	}
	all, err := there.Processes(ctx, host, selector, asked)
	if err != nil {
		return err
	}
	more := most > 0 && len(all) > most
	if more {
		all = all[:most]
	}
	if form.json() {
		return writeJSON(s.Out, listJSON(all))
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(s.Err, "srprof: there are no such processes")
		return err
	}
	if err := terminal.WriteProcesses(s.Out, all, form.form == formWide); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(s.Err, "srprof: these are the hottest %d; --most 0 lists all\n", most)
	}
	return nil
}
