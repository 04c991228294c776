// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/session"
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
			chosen.Names = args
			return n.ask(c.Context(), func(there *dialed) error { return listHosts(c.Context(), s, there, chosen, &form) })
		},
	}
	addHostSelectorFlags(c, &chosen)
	n.addFlags(c)
	form.addFormFlag(c, true)
	completeArgs(c, -1, n.hosts)
	return c
}

func listHosts(ctx context.Context, s streams, there session.Fleet, chosen session.Hosts, form *formFlag) error {
	if err := chosen.Validate(); err != nil {
		return err
	}
	all, err := there.Hosts(ctx, chosen)
	if err != nil {
		return err
	}
	if form.json() {
		return writeJSON(s.out, listJSON(all))
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(s.err, "srprof: there are no such hosts")
		return err
	}
	return writeHosts(s.out, all, form.form == formWide)
}

// writeHosts is the table of srprof hosts. Why a host takes no sessions has a
// column only if there is something to say.
func writeHosts(w io.Writer, all []session.Host, wide bool) error {
	reasons := slices.ContainsFunc(all, func(h session.Host) bool { return h.Err != nil })
	head := []string{"NAME", "STATE", "SINCE", "VERSION", "SESSIONS", "LABELS"}
	if wide {
		head = append(head, "ADDRESS", "INSTANCE")
	}
	if reasons {
		head = append(head, "REASON")
	}
	t := newTable(w, head...)
	for i := range all {
		h := &all[i]
		sessions := strconv.Itoa(h.Running)
		if h.Queued > 0 {
			sessions += fmt.Sprintf(" (+%d waiting)", h.Queued)
		}
		row := []string{h.Name, cmp.Or(string(h.State), string(session.HostUnknown)), age(h.Since), h.Version, sessions, labels(h.Labels)}
		if wide {
			row = append(row, h.Address, h.Instance)
		}
		if reasons {
			row = append(row, reason(h.Err))
		}
		t.row(row...)
	}
	return t.write()
}

func labels(all map[string]string) string {
	var texts []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		texts = append(texts, strings.TrimSuffix(key+"="+all[key], "="))
	}
	return strings.Join(texts, ",")
}

// reason is an error in a cell: what is wrong, its cause and its code. What to do
// about it is in JSON, and so is what a cause that is such an error says of that.
func reason(e *session.Error) string {
	if e == nil {
		return ""
	}
	text := e.Problem
	if e.Cause != nil {
		why, _, _ := strings.Cut(e.Cause.Error(), "; ")
		text += " (" + why + ")"
	}
	return fmt.Sprintf("%s [%s]", text, e.Code)
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
		return writeJSON(s.out, listJSON(all))
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(s.err, "srprof: there are no such processes")
		return err
	}
	if err := writeProcesses(s.out, all, form.form == formWide); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(s.err, "srprof: these are the hottest %d; --most 0 lists all\n", most)
	}
	return nil
}

func writeProcesses(w io.Writer, all []session.Process, wide bool) error {
	head := []string{"PID", "CPU", "MEMORY", "THREADS", "USER", "NAME", "UNIT/CONTAINER"}
	if wide {
		head = []string{"PID", "CPU", "MEMORY", "THREADS", "USER", "NAME", "AGE", "UNIT", "CONTAINER", "CGROUP", "COMMAND"}
	}
	t := newTable(w, head...)
	for i := range all {
		p := &all[i]
		row := []string{strconv.Itoa(p.PID), fmt.Sprintf("%.1f%%", 100*p.CPU), bytesOf(p.Memory), strconv.Itoa(p.Threads), p.User, p.Name}
		if wide {
			row = append(row, age(p.Started), p.Unit, container(p.Container), p.Cgroup, p.Command)
		} else if p.Container != "" {
			row = append(row, "container "+container(p.Container))
		} else {
			row = append(row, p.Unit)
		}
		t.row(row...)
	}
	return t.write()
}

// container is as much of an ID as docker shows, and as --container takes.
func container(id string) string {
	const shown = 12
	return id[:min(len(id), shown)]
}

// bytesOf is a size as people compare them.
func bytesOf(n int64) string {
	size, unit := float64(n), ""
	for _, next := range []string{"K", "M", "G", "T"} {
		if size < 1000 {
			break
		}
		size, unit = size/1024, next
	}
	if unit == "" {
		return strconv.FormatInt(n, 10)
	}
	if size < 10 {
		return fmt.Sprintf("%.1f%s", size, unit)
	}
	return fmt.Sprintf("%.0f%s", size, unit)
}

// writeMatches is the table of a dry run.
func writeMatches(w io.Writer, all []session.Match) error {
	t := newTable(w, "HOST", "PROCESSES", "PIDS", "REASON")
	for i := range all {
		m := &all[i]
		t.row(m.Host, strconv.Itoa(len(m.PIDs)), pids(m.PIDs), reason(m.Err))
	}
	return t.write()
}

// writeRuns is the table of a session's hosts.
func writeRuns(w io.Writer, all []session.HostRun) error {
	t := newTable(w, "HOST", "STATE", "SAMPLED", "SAMPLES", "LOST", "PROCESSES", "REASON")
	for i := range all {
		h := &all[i]
		why := reason(h.Err)
		if why == "" {
			why = cmp.Or(h.Waiting, string(h.EndedBy))
		}
		t.row(h.Host, runState(h), tenths(h.Progress.Elapsed).Round(time.Millisecond).String(), strconv.FormatUint(h.Progress.Samples, 10),
			strconv.FormatUint(h.Progress.Lost, 10), strconv.Itoa(len(h.Targets)), why)
	}
	return t.write()
}

func runState(h *session.HostRun) string {
	if h.State == session.StatePending && h.Position > 0 {
		return fmt.Sprintf("%s #%d", h.State, h.Position)
	}
	return string(h.State)
}

// tellFailed says which hosts of a session failed, and why.
func tellFailed(w io.Writer, s *session.Session) {
	failed := s.Failed()
	if len(failed) == 0 {
		return
	}
	const most = 10
	fmt.Fprintf(w, "srprof: %d of %s failed:\n", len(failed), plural(len(s.Hosts), "host", "hosts"))
	for i := range failed[:min(len(failed), most)] {
		fmt.Fprintf(w, "  %s: %s\n", printable(failed[i].Host), cmp.Or(printable(reason(failed[i].Err)), "it does not say why"))
	}
	if more := len(failed) - most; more > 0 {
		fmt.Fprintf(w, "  and %d more: srprof get %s\n", more, short(s.ID, shortID))
	}
}

func plural(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}
