// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// site is hosts with a profiler and an agent each, and one more for the poller
// and for people. All of them are this machine, with one network each.
type site struct {
	t     testing.TB
	net   *network
	certs string
	hosts []*host
	hub   *node  // where the poller runs
	known object // the hosts as a poller is told of them
}

// host is one that can be profiled.
type host struct {
	*node
	profiler, agent *daemons.Program
}

const (
	profilerPort, agentPort, pollerPort = "50084", "50085", "50086"
)

// object is JSON to be.
type object map[string]any

// newSite starts so many hosts, and no poller yet.
func newSite(t testing.TB, hosts int) *site {
	t.Helper()
	s := &site{t: t, net: newNetwork(), certs: t.TempDir(), known: object{}}
	addresses := []string{}
	for i := range hosts {
		h := &host{node: s.net.add(t, fmt.Sprintf("web-%02d", i+1))}
		s.hosts = append(s.hosts, h)
		addresses = append(addresses, h.address)
	}
	s.hub = s.net.add(t, "hub")
	if _, err := auth.WriteTryoutCertificates(s.certs, auth.Tryout{Hosts: append(addresses, s.hub.address), KeepKey: true}); err != nil {
		t.Fatal(err)
	}
	for i, h := range s.hosts {
		role := "web"
		if i > 0 && i == hosts-1 {
			role = "database"
		}
		s.knows(h.node, object{"role": role, "site": "test"})
		h.profiler = s.program(h.node, "serviceradar-profiler", object{
			"listen_addr": h.address + ":" + profilerPort, "security": auth.Identity(s.certs, "profiler"),
			"access": object{"roles": object{"agent.serviceradar": []string{"admin"}}, "rate": often},
		})
		h.agent = s.program(h.node, "serviceradar-profiler-agent", object{
			"listen_addr": h.address + ":" + agentPort, "agent_id": h.name, "security": auth.Identity(s.certs, "agent"),
			"profiler_address": h.address + ":" + profilerPort,
			"access": object{
				"roles":       object{"poller.serviceradar": []string{"poller"}, "admin.serviceradar": []string{"admin"}},
				"permissions": object{"poller": []string{"profiling:*"}}, "rate": often},
		})
		h.profiler.Start()
		h.agent.Start()
		h.agent.WaitFor("the profiler is")
	}
	return s
}

// knows lets pollers know of an agent at a node.
func (s *site) knows(at *node, labels object) {
	s.known[at.name] = object{"address": at.address + ":" + agentPort, "labels": labels}
}

// often is a rate that tests do not reach.
var often = object{"per_second": 100_000, "burst": 100_000}

// program is one on a node that was not started yet.
func (s *site) program(at *node, name string, config object) *daemons.Program {
	s.t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		s.t.Fatal(err)
	}
	return daemons.Make(s.t, daemons.Path(name), string(text), at.inside)
}

// srprof runs the command as somebody at the hub does. It returns what it wrote
// to both streams together, and its exit code.
func (s *site) srprof(server string, args ...string) (string, int) {
	s.t.Helper()
	c := exec.Command(daemons.Path("srprof"), append(args, "--server", server, "--cert-dir", s.certs)...)
	s.hub.inside(c)
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		s.t.Fatalf("srprof %v: %v", args, err)
	}
	return string(out), c.ProcessState.ExitCode()
}

func pid(p *programs.Process) string { return strconv.Itoa(p.PID) }

// hottest is the function with the most samples of its own in folded text.
func hottest(t testing.TB, folded string) string {
	t.Helper()
	self, most := map[string]int{}, ""
	for l := range strings.Lines(folded) {
		stack, count, ok := cutLast(strings.TrimSpace(l), " ")
		n, err := strconv.Atoi(count)
		if !ok || err != nil {
			t.Fatalf("no folded text: %q", l)
		}
		_, leaf, _ := cutLast(stack, ";")
		if self[leaf] += n; self[leaf] > self[most] {
			most = leaf
		}
	}
	return most
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
