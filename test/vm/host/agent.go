// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	agentUnit  = "serviceradar-profiler-agent"
	pollerUnit = "serviceradar-profiler-poller"
)

// agent: the gate before the profiler, from its package, under its unit.
func (h *host) agent() error { return withLog(agentUnit, h.tryAgent()) }

// poller: the one before the agent, that was installed before.
func (h *host) poller() error { return withLog(pollerUnit, h.tryPoller()) }

// withLog adds what a service said to what went wrong with it.
func withLog(unit string, tried error) error {
	if tried == nil {
		return nil
	}
	out, err := command("journalctl", "-u", unit, "-n", "20", "--no-pager", "-o", "cat")
	if err != nil {
		return tried
	}
	return fmt.Errorf("%w\n%s", tried, out)
}

// tryPoller runs a session through all three, upgrades in between, and finds the
// session where it was.
func (h *host) tryPoller() error {
	if _, err := command("dpkg", "-i", deb("poller")); err != nil {
		return err
	}
	if _, err := shell("chown serviceradar " + certs + "/poller-key.pem && systemctl restart " + pollerUnit); err != nil {
		return err
	}
	if err := unprivileged(pollerUnit); err != nil {
		return err
	}
	srprof := func(args ...string) (string, error) {
		return command("srprof", append(args, "--server", "localhost:50086", "--cert-dir", certs)...)
	}
	if err := until("the poller has its host", func() bool {
		out, err := srprof("hosts")
		return err == nil && strings.Contains(out, "ready")
	}); err != nil {
		return err
	}
	profile := "/tmp/poller.folded"
	if out, err := srprof("run", "local-agent", "--pid", strconv.Itoa(h.pid), "-d", "3s", "-o", profile); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if err := errors.Join(rightNames(profile), os.Remove(profile)); err != nil {
		return err
	}
	if _, err := command("dpkg", "-i", deb("poller-new")); err != nil {
		return err
	}
	out, err := srprof("list")
	if err != nil {
		return err
	}
	return has(out, "succeeded")
}

// withoutAgentAndPoller: both are gone, with what the poller kept.
func (h *host) withoutAgentAndPoller() error {
	_, err := command("dpkg", "-P", agentUnit, pollerUnit)
	if _, there := os.Stat("/var/lib/serviceradar"); there == nil {
		err = errors.Join(err, errors.New("/var/lib/serviceradar is there still"))
	}
	return err
}

func (h *host) tryAgent() error {
	if _, err := command("dpkg", "-i", deb("agent")); err != nil {
		return err
	}
	// As docs/deployment.md has it.
	if _, err := shell("chown serviceradar " + certs + "/agent-key.pem"); err != nil {
		return err
	}
	if _, err := shell(`sed -i 's/"admin.serviceradar": \["admin"\]/&, "agent.serviceradar": ["admin"]/' ` + config + " && systemctl reload serviceradar-profiler"); err != nil {
		return err
	}
	if _, err := command("systemctl", "restart", agentUnit); err != nil {
		return err
	}
	if err := unprivileged(agentUnit); err != nil {
		return err
	}
	out, err := command("srprof", "record", "--server", "localhost:50085", "--cert-dir", certs, "--pid", strconv.Itoa(h.pid), "--duration", "3s", "--output", "/root/agent.folded")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return rightNames("/root/agent.folded")
}

// unprivileged: it has no capability, and is its user's.
func unprivileged(unit string) error {
	pid, err := command("systemctl", "show", unit, "--property=MainPID", "--value")
	if err != nil {
		return err
	}
	b, err := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/status")
	if err != nil {
		return err
	}
	id, err := command("id", "-u", "serviceradar")
	if err != nil {
		return err
	}
	none := "0000000000000000"
	for _, want := range []string{"CapPrm:\t" + none, "CapEff:\t" + none, "CapBnd:\t" + none, "CapAmb:\t" + none, "NoNewPrivs:\t1", "Uid:\t" + strings.TrimSpace(id) + "\t"} {
		if err := has(string(b), want); err != nil {
			return err
		}
	}
	return nil
}
