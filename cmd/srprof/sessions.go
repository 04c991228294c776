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

// with does something with one session of the service, named by its ID or by
// the start of it.
func (n *connection) with(ctx context.Context, name string, do func(*dialed, session.ID) error) error {
	return n.ask(ctx, func(there *dialed) error {
		id, err := session.Find(ctx, there, name)
		if err != nil {
			return err
		}
		return do(there, id)
	})
}

// exitHelp ends the help of commands that only ask.
const exitHelp = `

Exit codes: 0 ok, 1 failure, 2 usage, 4 not permitted.`

func getCommand(s streams) *cobra.Command {
	var n connection
	var form formFlag
	c := &cobra.Command{
		Use:   "get ID [flags]",
		Short: "Show a session: what was asked, how far it is, why it ended",
		Long: `Shows a session as it is, and each of its hosts if it has several. IDs may be
abbreviated.
` + connectionHelp + exitHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return n.with(c.Context(), args[0], func(there *dialed, id session.ID) error {
				one, err := there.Get(c.Context(), id)
				if err != nil {
					return err
				}
				if form.json() {
					return writeJSON(s.Out, &one)
				}
				return terminal.WriteSession(s.Out, &one)
			})
		},
	}
	n.addFlags(c)
	form.addFormFlag(c, false)
	n.completeIDs(c)
	return c
}

func cancelCommand(s streams) *cobra.Command {
	var n connection
	var form formFlag
	c := &cobra.Command{
		Use:   "cancel ID [flags]",
		Short: "End a session; what it sampled up to then can be fetched",
		Long: `Ends a session, on all its hosts and for all whom it serves. What was sampled up
to then can be fetched. To cancel what has ended already changes nothing.
` + connectionHelp + exitHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return n.with(c.Context(), args[0], func(there *dialed, id session.ID) error {
				one, err := there.Cancel(c.Context(), id)
				if err != nil {
					return err
				}
				if form.json() {
					return writeJSON(s.Out, &one)
				}
				_, err = fmt.Fprintln(s.Out, terminal.Line(&one))
				return err
			})
		},
	}
	n.addFlags(c)
	form.addFormFlag(c, false)
	n.completeIDs(c)
	return c
}

func listCommand(s streams) *cobra.Command {
	var n connection
	var form formFlag
	var states []string
	var filter session.Filter
	c := &cobra.Command{
		Use:   "list [flags]",
		Short: "List the sessions that a service knows",
		Long: `Lists the sessions that a service knows, oldest first: those that wait or run,
and those that ended not long ago. Their IDs are shown as far as it takes to
tell them apart, and may be abbreviated so anywhere.
` + connectionHelp + exitHelp,
		Example: `  srprof list --server web-01 --cert-dir certs
  srprof list --state running -o json | jq -r .[].id`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, name := range states {
				filter.States = append(filter.States, session.State(name))
			}
			return list(c.Context(), s, &n, filter, &form)
		},
	}
	f := c.Flags()
	f.StringSliceVar(&states, "state", nil, "only sessions in this `STATE`: "+stateNames()+"; may be given several times")
	completeWords(c, "state", strings.Split(stateNames(), ", ")...)
	f.IntVarP(&filter.PID, "pid", "p", 0, "only sessions that were asked for this process")
	n.addFlags(c)
	form.addFormFlag(c, true)
	return c
}

func stateNames() string {
	var names []string
	for _, s := range session.States {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

func list(ctx context.Context, s streams, n *connection, filter session.Filter, form *formFlag) error {
	for _, state := range filter.States {
		if !state.Known() {
			return session.Invalid("unknown_state", fmt.Sprintf("--state is %q", state), "say one of "+stateNames())
		}
	}
	if filter.PID < 0 {
		return session.Invalid("bad_pid", fmt.Sprintf("%d is not a process ID", filter.PID), "PIDs are positive")
	}
	return n.ask(ctx, func(there *dialed) error {
		all, err := there.List(ctx, filter)
		if err != nil {
			return err
		}
		if form.json() {
			return writeJSON(s.Out, listJSON(all))
		}
		if len(all) == 0 {
			_, err := fmt.Fprintln(s.Err, "srprof: there are no such sessions")
			return err
		}
		return terminal.WriteList(s.Out, all, form.form == formWide)
	})
}
