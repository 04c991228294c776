// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/contexts"
	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// completeTime is how long a service may take to answer: somebody waits for a
// key.
const completeTime = 2 * time.Second

// words are what a shell may offer, each perhaps with a description behind a
// tab, after these arguments.
type words func(c *cobra.Command, args []string) []string

// completeArgs lets a shell complete up to so many arguments; -1 means any
// number.
func completeArgs(c *cobra.Command, most int, of words) {
	c.ValidArgsFunction = func(c *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return beginning(of(c, args), start), cobra.ShellCompDirectiveNoFileComp
	}
}

func completeFlag(c *cobra.Command, flag string, of words) {
	register(c, flag, func(c *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
		return beginning(of(c, args), start), cobra.ShellCompDirectiveNoFileComp
	})
}

// completeWords is completeFlag with words that are always the same.
func completeWords(c *cobra.Command, flag string, all ...string) {
	completeFlag(c, flag, func(*cobra.Command, []string) []string { return all })
}

// completeFiles and completeDirs are for flags that name such. All others take
// something else: shells offer no files for them.
func completeFiles(c *cobra.Command, flags ...string) {
	for _, flag := range flags {
		register(c, flag, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
	}
}

func completeDirs(c *cobra.Command, flags ...string) {
	for _, flag := range flags {
		register(c, flag, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs))
	}
}

// completeProfiles is for commands whose arguments are recorded profiles.
func completeProfiles(c *cobra.Command, most int) {
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return []string{"gz", "pprof"}, cobra.ShellCompDirectiveFilterFileExt
	}
}

func register(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // it was defined just now
	}
}

// beginning are those that begin as somebody has typed, each once.
func beginning(all []string, start string) (found []string) {
	seen := map[string]bool{}
	for _, w := range all {
		word, _, _ := strings.Cut(w, "\t")
		if strings.HasPrefix(word, start) && !seen[word] {
			found, seen[word] = append(found, w), true
		}
	}
	return found
}

func contextNames(*cobra.Command, []string) []string {
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
func (n *connection) sessions(c *cobra.Command, _ []string) (ids []string) {
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
func (n *connection) hosts(c *cobra.Command, args []string) (names []string) {
	n.quickly(c, func(ctx context.Context, there *dialed) {
		all, err := there.Hosts(ctx, session.Hosts{})
		for i := range all {
			if err == nil && !slices.Contains(args, all[i].Name) {
				names = append(names, cobra.CompletionWithDesc(terminal.Printable(all[i].Name), terminal.Printable(string(all[i].State))))
			}
		}
	})
	return names
}

// completeSelector completes what is known of processes: those of a host that the
// arguments name, or of this one where no service is.
func (n *connection) completeSelector(c *cobra.Command, here bool) {
	for flag, of := range map[string]func(*session.Process) (word, description string){
		"pid":       func(p *session.Process) (string, string) { return strconv.Itoa(p.PID), p.Name },
		"name":      func(p *session.Process) (string, string) { return p.Name, p.Unit },
		"unit":      func(p *session.Process) (string, string) { return p.Unit, "" },
		"container": func(p *session.Process) (string, string) { return p.Container, p.Name },
		"cgroup":    func(p *session.Process) (string, string) { return p.Cgroup, p.Name },
	} {
		if c.Flags().Lookup(flag) == nil {
			continue
		}
		completeFlag(c, flag, func(c *cobra.Command, args []string) (found []string) {
			for _, p := range n.processes(c, args, here) {
				word, description := of(&p)
				if p.Memory == 0 { // the kernel's own cannot be profiled
					continue
				}
				if word == "" || word != terminal.Printable(word) {
					continue
				}
				found = append(found, cobra.CompletionWithDesc(word, terminal.Printable(description)))
			}
			return found
		})
	}
}

// processes are those of the first host that is named, hottest first.
func (n *connection) processes(c *cobra.Command, args []string, here bool) (all []session.Process) {
	if here && !n.named() {
		ctx, cancel := completing(c)
		defer cancel()
		all, _ = host.Processes(ctx, session.Selector{}, 0) // a shell has no place for an error
		return all
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	n.quickly(c, func(ctx context.Context, there *dialed) { all, _ = there.Processes(ctx, name, session.Selector{}, 0) })
	return all
}

// completing bounds what is done while somebody waits for a key.
func completing(c *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithTimeout(ctx, completeTime)
}

// quickly asks the service, while somebody waits for it.
func (n *connection) quickly(c *cobra.Command, ask func(context.Context, *dialed)) {
	ctx, cancel := completing(c)
	defer cancel()
	there, err := n.dial()
	if err != nil {
		return
	}
	defer there.Close()
	ask(ctx, there)
}

func (n *connection) completeIDs(c *cobra.Command) { completeArgs(c, 1, n.sessions) }
