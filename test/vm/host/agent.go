// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const agentUnit = "serviceradar-profiler-agent"

// agent: the gate before the profiler, from its package, under its unit.
func (h *host) agent() error {
	tried := h.tryAgent()
	if tried != nil {
		if out, err := command("journalctl", "-u", agentUnit, "-n", "20", "--no-pager", "-o", "cat"); err == nil {
			tried = fmt.Errorf("%w\n%s", tried, out)
		}
	}
	_, err := command("dpkg", "-P", agentUnit)
	return errors.Join(tried, err)
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
	if err := unprivileged(); err != nil {
		return err
	}
	out, err := command("srprof", "record", "--server", "localhost:50085", "--cert-dir", certs, "--pid", strconv.Itoa(h.pid), "--duration", "3s", "--output", "/root/agent.folded")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return rightNames("/root/agent.folded")
}

// unprivileged: it has no capability, and is its user's.
func unprivileged() error {
	pid, err := command("systemctl", "show", agentUnit, "--property=MainPID", "--value")
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
