// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/contexts"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// completeTime is how long a service may take to answer: somebody waits for a
// key.
const completeTime = 2 * time.Second

// words are what a shell may offer, each perhaps with a description behind a
// tab.
type words func(c *cobra.Command) []string

// completeArgs lets a shell complete up to so many arguments; -1 means any
// number.
func completeArgs(c *cobra.Command, most int, of words) {
	c.ValidArgsFunction = func(c *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return beginning(of(c), start), cobra.ShellCompDirectiveNoFileComp
	}
}

func completeFlag(c *cobra.Command, flag string, of words) {
	err := c.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
		return beginning(of(c), start), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // it was defined just now
	}
}

// completeWords is completeFlag with words that are always the same.
func completeWords(c *cobra.Command, flag string, all ...string) {
	completeFlag(c, flag, func(*cobra.Command) []string { return all })
}

func beginning(all []string, start string) (found []string) {
	for _, w := range all {
		if strings.HasPrefix(w, start) {
			found = append(found, w)
		}
	}
	return found
}

func contextNames(*cobra.Command) []string {
	f, err := contexts.Read()
	if err != nil {
		return nil // a shell has no place for an error
	}
	var all []string
	for _, name := range f.Names() {
		p := f.Contexts[name]
		all = append(all, cobra.CompletionWithDesc(terminal.Printable(name), terminal.Printable(p.FullServer())))
	}
	return all
}

func completeContexts(c *cobra.Command) { completeArgs(c, 1, contextNames) }

// sessions offers the IDs of the service's sessions.
func (n *connection) sessions(c *cobra.Command) (ids []string) {
	n.quickly(c, func(ctx context.Context, there *dialed) {
		all, err := there.List(ctx, session.Filter{})
		for i := range all {
			if s := &all[i]; err == nil {
				ids = append(ids, cobra.CompletionWithDesc(terminal.Printable(string(s.ID)), terminal.Target(s)+", "+terminal.State(s)))
			}
		}
	})
	return ids
}

// hosts offers the names of the service's hosts.
func (n *connection) hosts(c *cobra.Command) (names []string) {
	n.quickly(c, func(ctx context.Context, there *dialed) {
		all, err := there.Hosts(ctx, session.Hosts{})
		for i := range all {
			if err == nil {
				names = append(names, cobra.CompletionWithDesc(terminal.Printable(all[i].Name), terminal.Printable(string(all[i].State))))
			}
		}
	})
	return names
}

// quickly asks the service, while somebody waits for it.
func (n *connection) quickly(c *cobra.Command, ask func(context.Context, *dialed)) {
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	there, err := n.dial()
	if err != nil {
		return
	}
	defer there.Close()
	ask(ctx, there)
}

func (n *connection) completeIDs(c *cobra.Command) { completeArgs(c, 1, n.sessions) }
