// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// Without a poller: the hosts are reached through their agents, each under its
// own name.
func TestAgentsAreHosts(t *testing.T) {
	s := newSite(t, 2)
	target := programs.Start(t, "split.c", programs.Options{})
	for _, h := range s.hosts {
		out, code := s.srprof(h.address+":"+agentPort, "record", "--pid", pid(target), "--duration", "1s", "--frequency", "499", "--format", "text", "--output", "-")
		if code != 0 || !strings.Contains(out, "hot_a") || !strings.Contains(out, h.name) {
			t.Errorf("exit code %d:\n%s", code, out)
		}
	}
}
