// SPDX-License-Identifier: Apache-2.0

package poller_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// built are the real programs; they are built by the first test that needs them.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "srprof-poller-*")
	if err != nil {
		return "", err
	}
	buildDir = dir
	return dir, daemons.Build(dir, "serviceradar-profiler", "serviceradar-profiler-agent", "serviceradar-profiler-poller")
})

// buildDir is where they are; empty: nobody needed them.
var buildDir string

// program is the path of one of them.
func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// guide is a section of docs/serviceradar.md: what is in its blocks of a kind.
func guide(t *testing.T, section, kind string) (blocks []string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/serviceradar.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(b), "### "+section+"\n")
	text, _, _ = strings.Cut(text, "\n### ")
	for _, block := range strings.Split(text, "```"+kind+"\n")[1:] {
		content, _, _ := strings.Cut(block, "```")
		blocks = append(blocks, content)
	}
	if !found || len(blocks) == 0 {
		t.Fatalf("docs/serviceradar.md has no %s in section %s", kind, section)
	}
	return blocks
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

const place = "In the place of theirs, or beside it"

// The commands of docs/serviceradar.md with a poller.json as ServiceRadar's
// packages ship it: only ports and directories are others.
func TestInPlaceOfTheirs(t *testing.T) {
	t.Parallel()
	path := program(t, "serviceradar-profiler-poller")
	etc := t.TempDir()
	certs := filepath.Join(etc, "certs")
	if _, err := auth.WriteTryoutCertificates(certs, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	core, a := newCore(t, certs), newAgent(t, certs, nil)
	_, agentPort, _ := net.SplitHostPort(a.address) // it was listened at
	security := fmt.Sprintf(`{"mode": "mtls", "cert_dir": %q, "server_name": "127.0.0.1", "role": "poller", "tls": {"cert_file": "poller.pem", "key_file": "poller-key.pem", "ca_file": "root.pem", "client_ca_file": "root.pem"}}`, certs)
	write(t, etc, "poller.json", fmt.Sprintf(`{
		"agents": {"local-agent": {"address": ":%s", "security": %s, "checks": [
			{"service_type": "process", "service_name": "serviceradar-agent", "details": "serviceradar-agent"},
			{"service_type": "port", "service_name": "SSH", "details": "127.0.0.1:22"},
			{"service_type": "icmp", "service_name": "ping", "details": "1.1.1.1"},
			{"service_type": "grpc", "service_name": "sysmon", "details": "127.0.0.1:50083"},
			{"service_type": "sweep", "service_name": "network_sweep", "details": "", "results_interval": "18h"},
			{"service_type": "grpc", "service_name": "sync", "details": "127.0.0.1:50058", "results_interval": "18h30m"}]}},
		"core_address": %q, "listen_addr": ":%s", "poll_interval": "30s", "poller_id": "default-poller", "partition": "default", "source_ip": "127.0.0.1",
		"service_name": "PollerService", "service_type": "grpc", "security": %s, "logging": {"level": "info"}}`,
		agentPort, security, core.address, free(t), security))
	script := "set -e\n" + strings.ReplaceAll(guide(t, place, "sh")[0], "/etc/serviceradar", etc) + "wait\n"
	c := exec.Command("bash", "-c", script)
	c.Env = append(os.Environ(), "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"), "SRPROF_POLLER_DATA_DIR="+filepath.Join(etc, "data"))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said := &logged{}
	c.Stdout, c.Stderr = said, said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // they may be gone
		<-ended
		if t.Failed() {
			t.Log(said.text.String())
		}
	})
	for name, source := range map[string]string{"serviceradar-agent": "getStatus", "SSH": "getStatus", "ping": "getStatus", "sysmon": "getStatus", "network_sweep": "results", "sync": "results"} {
		s := core.waitFor(t, "", name, 0)
		if !s.GetAvailable() || s.GetSource() != source || s.GetPollerId() != "default-poller" || s.GetPartition() != "default" {
			t.Errorf("%v", s)
		}
	}
}

// The configuration of docs/serviceradar.md before a real agent and a real
// profiler: core gets how the host is, and a profile by schedule.
func TestBesideTheirs(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatal("a profiler needs root")
		}
		t.Skip("a profiler needs root")
	}
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	security, err := json.Marshal(auth.Identity(certs, "profiler"))
	if err != nil {
		t.Fatal(err)
	}
	profiler := daemons.Start(t, program(t, "serviceradar-profiler"),
		fmt.Sprintf(`{"listen_addr": "127.0.0.1:0", "security": %s, "access": {"roles": {"agent.serviceradar": ["admin"]}}}`, security), nil)
	agentSecurity := strings.ReplaceAll(string(security), "profiler", "agent")
	agent := daemons.Start(t, program(t, "serviceradar-profiler-agent"),
		fmt.Sprintf(`{"listen_addr": "127.0.0.1:0", "agent_id": "web1", "profiler_address": %q, "security": %s,
			"access": {"roles": {"poller.serviceradar": ["poller"]}, "permissions": {"poller": ["profiling:*"]}}}`, profiler.Address, agentSecurity), nil)
	agent.WaitFor("the profiler is")
	busy := programs.Start(t, "split.c", programs.Options{})
	text := strings.NewReplacer("192.0.2.7:50085", agent.Address, "192.0.2.1:50052", core.address, ":50086", "127.0.0.1:0", "/etc/serviceradar/certs", certs, `"10s`, `"1s`).Replace(guide(t, place, "json")[0])
	var config map[string]any
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	host := config["agents"].(map[string]any)["web1"].(map[string]any)
	host["checks"] = append(host["checks"].([]any), map[string]any{"service_type": "profiler", "service_name": "web1-split", "results_interval": "10m",
		"details": fmt.Sprintf(`{"pid": %d, "duration": 1, "frequency": 499}`, busy.PID)})
	config["data_dir"], config["poll_interval"], config["limits"] = t.TempDir(), "500ms", map[string]any{"heartbeat_seconds": 1}
	changed, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	poller := daemons.Start(t, program(t, "serviceradar-profiler-poller"), string(changed), nil)
	for _, name := range []string{"web1-hottest", "web1-split"} {
		s := core.waitFor(t, "web1", name, 0)
		var o struct {
			Folded  string
			Session struct {
				Spec struct{ Requester string }
			}
		}
		if err := json.Unmarshal(data(t, s), &o); err != nil || !s.GetAvailable() || s.GetSource() != "results" || s.GetPollerId() != "profiler-poller" || o.Session.Spec.Requester != "poller schedule" {
			t.Fatalf("%v %.1000s", err, s.GetMessage())
		}
		if hot := strings.Contains(o.Folded, ";hot_a "); o.Folded == "" || name == "web1-split" && !hot {
			t.Errorf("%s: %.1000s", name, o.Folded)
		}
	}
	until(t, "the summary has the sessions and their hottest functions", func() bool {
		last := object(t, data(t, core.find("web1", "web1-profiler", 0)))
		for n := 0; ; n++ {
			s := core.find("web1", "web1-profiler", n)
			if s == nil {
				break
			}
			last = object(t, data(t, s))
		}
		sessions, _ := last["sessions"].([]any)
		return last["state"] == "ready" && last["available"] == true && len(sessions) >= 2 && strings.Contains(fmt.Sprint(sessions), "hot_a") && strings.Contains(fmt.Sprint(sessions), "poller schedule")
	})
	// After a kill it neither profiles nor tells again in the same slot.
	poller.Kill()
	before := len(core.all())
	poller.Start()
	until(t, "it polls again", func() bool { return len(core.all()) > before+3 })
	first := core.find("web1", "web1-split", 0)
	for n := 1; core.find("web1", "web1-split", n) != nil; n++ { // that one may come again, if it was killed before it knew that core had it
		if again := core.find("web1", "web1-split", n); string(again.GetMessage()) != string(first.GetMessage()) {
			t.Errorf("a slot has two profiles: %.500s", again.GetMessage())
		}
	}
	profiler.Kill()
	until(t, "core is told that the profiler is away", func() bool {
		all := core.all()
		for _, s := range all[len(all)-1].services {
			if s.GetServiceName() == "web1-profiler" && !s.GetAvailable() {
				o := object(t, data(t, s))
				return o["healthy"] == false && o["reason"] != "" && o["code"] != ""
			}
		}
		return false
	})
}
