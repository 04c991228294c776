// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// asking is what is asked of a profiler, here or elsewhere.
type asking struct {
	spec      session.Spec
	frequency int
}

func (a *asking) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.IntSliceVarP(&a.spec.PIDs, "pid", "p", nil, "`PID` of a process to profile; may be given several times")
	addSelectorFlags(c, &a.spec.Select)
	f.BoolVar(&a.spec.Children, "children", false, "profile their child processes too, also those born later")
	f.DurationVarP(&a.spec.Duration, "duration", "d", session.DefaultDuration, "`TIME` to sample: 1ms to 24h")
	f.IntVarP(&a.frequency, "frequency", "F", int(session.DefaultFrequency), "samples a second, in `Hz`, on each CPU: 1 to 10000")
}

// addSelectorFlags are the ways to choose processes without knowing their PIDs.
func addSelectorFlags(c *cobra.Command, s *session.Selector) {
	f := c.Flags()
	f.StringVar(&s.Name, "name", "", "processes of this `NAME`, or whose executable has it; may be a pattern: 'postgres*'")
	f.StringVar(&s.Unit, "unit", "", "processes of this systemd `UNIT`, .service may be left out; may be a pattern")
	f.StringVar(&s.Container, "container", "", "processes of the container with this `ID`, 12 characters of it at least")
	f.StringVar(&s.Cgroup, "cgroup", "", "processes of the control group with this `PATH`, and below it")
	f.BoolVar(&s.Hottest, "hottest", false, "the one process that uses most CPU time just now")
}

// addServiceFlags are those that only a profiler that serves many has a use for.
func (a *asking) addServiceFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.spec.Requester, "requester", "", "`NAME` on whose behalf, for the profiler's log and list (default: whose certificate it is)")
	f.DurationVar(&a.spec.MaxWait, "max-wait", 0, "`TIME` to wait if all places are taken (default: as long as it takes)")
}

// addHostFlags say on which hosts of a poller; their names are arguments.
func (a *asking) addHostFlags(c *cobra.Command, n *connection) {
	f := c.Flags()
	addHostSelectorFlags(c, &a.spec.Hosts)
	f.IntVar(&a.spec.Hosts.Most, "most", 0, "`N` of these hosts at most, picked at random (default: all of them)")
	f.IntVar(&a.spec.AtOnce, "at-once", 0, "`N` hosts at the same time at most (default: all of them)")
	f.BoolVar(&a.spec.Canary, "canary", false, "one host goes first, and the others only when it has succeeded")
	completeArgs(c, -1, n.hosts)
}

func addHostSelectorFlags(c *cobra.Command, h *session.Hosts) {
	c.Flags().StringVarP(&h.Labels, "labels", "l", "", "hosts with these `LABELS`: service=shop,env!=test,gpu,!old")
	c.Flags().BoolVar(&h.All, "all", false, "all hosts")
}

// hostsHelp is a part of the long text of commands that take hosts.
const hostsHelp = `
Hosts are named one by one or by pattern ('web-*'), by -l LABELS, or --all. A
profiler or an agent has one host, which need not be named.`

// check completes the spec.
func (a *asking) check() error {
	a.spec.Frequency = profile.Frequency(a.frequency)
	if len(a.spec.PIDs) == 0 && a.spec.Select.Empty() {
		return session.Invalid("no_target", "there is no process to profile", "choose with --pid, --name, --unit, --container, --cgroup or --hottest")
	}
	if len(a.spec.PIDs) > 0 && !a.spec.Select.Empty() {
		return session.Invalid("bad_selector", "processes are chosen by --pid and by "+a.spec.Select.String(), "use one way to choose")
	}
	return a.spec.Validate()
}
