// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/output"
	"github.com/carverauto/serviceradar-profiler/session"
)

func fetchCommand(s streams) *cobra.Command {
	var n connection
	var of string
	d := output.Destination{Session: true}
	c := &cobra.Command{
		Use:   "fetch ID [flags]",
		Short: "Fetch the profile of a session and write it",
		Long: `Fetches the profile of a session and writes it as srprof record does: the
extension of --output chooses the format, unless --format does; without either,
a table goes to standard output. A profile can be fetched as often as you like,
until the profiler forgets the session; of a session that runs it is what is
known so far. A .pb.gz is written as it came.

The profile of a session on several hosts is of all of them, and each sample
keeps its host: --by-host makes it the first level of the picture. --host takes
only one host's; {host} in the name of an --output makes a file for each host,
and so does --per-host. -o json writes the session, with what became of each host.
` + connectionHelp + `

Exit codes: 0 ok, 1 failure, 2 usage, 3 some hosts failed (the profile is of the
others), 4 not permitted, 5 no samples.`,
		Example: `  srprof fetch 3f2a --server web-01 --cert-dir certs --output web.svg
  srprof fetch 3f2a --output web.html --output web.pb.gz --explain
  srprof fetch 3f2a --by-host -o shop.svg -o 'shop-{host}.svg'
  srprof fetch 3f2a --host web-07 -o web-07.svg`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			outs, err := d.Create(s)
			defer outs.Abandon()
			if err != nil {
				return err
			}
			return n.with(c.Context(), args[0], func(there *dialed, id session.ID) error {
				if of != "" {
					_, err := d.TakeHost(c.Context(), s, there, id, of, outs)
					return err
				}
				last, err := d.Take(c.Context(), s, there, id, outs)
				if err == nil && len(last.Failed()) > 0 {
					err = errPartial
				}
				return err
			})
		},
	}
	addOutputFlags(c, &d)
	addFleetFlags(c, &d)
	c.Flags().StringVar(&of, "host", "", "`NAME` of the one host whose profile is wanted")
	completeFlag(c, "host", n.hosts)
	addLimitFlag(c, &d.Limit)
	n.addFlags(c)
	n.completeIDs(c)
	return c
}
