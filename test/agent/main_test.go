// SPDX-License-Identifier: Apache-2.0

// Package agent_test runs the real serviceradar-profiler-agent before the real
// serviceradar-profiler, and calls it as pollers of ServiceRadar do: with plain
// gRPC, and with what is known of them and nothing else.
package agent_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

func TestMain(m *testing.M) {
	os.Exit(daemons.Main(m, "the agent", "serviceradar-profiler", "serviceradar-profiler-agent", "srprof"))
}

// nobody is a user without any privilege.
var nobody = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: false}}

// start starts a program with a configuration.
func start(t testing.TB, name, config string, change func(*exec.Cmd)) *daemons.Program {
	t.Helper()
	return daemons.Start(t, daemons.Path(name), config, change)
}

func security(certs, name string) string {
	return fmt.Sprintf(`{"cert_dir": %q, "tls": {"cert_file": "%s.pem", "key_file": "%s-key.pem", "ca_file": "root.pem"}}`, certs, name, name)
}

// often is a rate that tests do not reach.
const often = `"rate": {"per_second": 100000, "burst": 100000}`

// station is a profiler and its agent.
type station struct {
	certs           string
	profiler, agent *daemons.Program
}

// profilerAt starts a profiler; more are further keys.
func profilerAt(t testing.TB, certs, address, more string) *daemons.Program {
	t.Helper()
	return start(t, "serviceradar-profiler", fmt.Sprintf(`{"listen_addr": %q, "security": %s, %s "access": {"roles": {"agent.serviceradar": ["admin"]}, %s}}`,
		address, security(certs, "profiler"), more, often), nil)
}

// agentBefore starts an agent; more are further keys, of access too.
func agentBefore(t testing.TB, certs, profiler, more, access string) *daemons.Program {
	t.Helper()
	return start(t, "serviceradar-profiler-agent", fmt.Sprintf(`{"listen_addr": "127.0.0.1:0", "agent_id": "web1", "profiler_address": %q, "security": %s, %s
		"access": {"roles": {"admin.serviceradar": ["admin"], "poller.serviceradar": ["poller"]}, "permissions": {"poller": ["profiling:*"]}, %s %s}}`,
		profiler, security(certs, "agent"), more, access, often), func(c *exec.Cmd) { c.SysProcAttr = nobody })
}

func newStation(t testing.TB, moreOfAgent, access string) *station {
	t.Helper()
	h := &station{certs: daemons.Certificates(t)}
	h.profiler = profilerAt(t, h.certs, "127.0.0.1:0", "")
	h.agent = agentBefore(t, h.certs, h.profiler.Address, moreOfAgent, access)
	h.agent.WaitFor("the profiler is")
	return h
}

// connect is plain gRPC with a certificate.
func connect(t testing.TB, certs, identity, address string) *grpc.ClientConn {
	t.Helper()
	creds, err := auth.Identity(certs, identity).ClientCredentials(address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// busy is a process that works all the time, hot_a most of it.
func busy(t testing.TB) *programs.Process {
	t.Helper()
	return programs.Start(t, "split.c", programs.Options{})
}

// object reads what must be one JSON object and nothing else.
func object(t testing.TB, data []byte) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(data, &o); err != nil || o == nil || !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		t.Fatalf("no JSON object: %v: %.200s", err, data)
	}
	return o
}

// hottest is the function with the most samples of its own in folded text.
func hottest(t testing.TB, folded string) string {
	t.Helper()
	self := map[string]int{}
	most := ""
	for l := range strings.Lines(folded) {
		i := strings.LastIndexByte(l, ' ')
		if i < 0 {
			t.Fatalf("no folded text: %q", l)
		}
		stack := l[:i]
		n, err := strconv.Atoi(strings.TrimSpace(l[i:]))
		if err != nil {
			t.Fatalf("no folded text: %q", l)
		}
		leaf := stack[strings.LastIndexByte(stack, ';')+1:]
		if self[leaf] += n; self[leaf] > self[most] {
			most = leaf
		}
	}
	return most
}
