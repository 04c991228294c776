// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
)

// free is a port that nobody has at this moment.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// The commands of docs/serviceradar.md, on a host with a real agent: only ports
// and the directory are others, and it waits until a service listens.
func TestInFiveMinutes(t *testing.T) {
	b, err := os.ReadFile("../../docs/serviceradar.md")
	if err != nil {
		t.Fatal(err)
	}
	_, guide, found := strings.Cut(string(b), "### In five minutes\n")
	guide, _, _ = strings.Cut(guide, "\n### ")
	blocks := strings.Split(guide, "```sh\n")[1:]
	if !found || len(blocks) != 3 {
		t.Fatalf("%d blocks of commands", len(blocks))
	}
	etc := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(filepath.Join(etc, "certs"), auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	_, realPort, err := net.SplitHostPort(realAgentAt(t, filepath.Join(etc, "certs")))
	if err != nil {
		t.Fatal(err)
	}
	real := fmt.Sprintf(`{"agent_id": "web1", "listen_addr": ":%s", "checkers_dir": "/etc/serviceradar/checkers", "service_type": "grpc", "service_name": "AgentService", "partition": "default",
		"security": {"mode": "mtls", "cert_dir": %q, "server_name": "127.0.0.1", "role": "agent", "tls": {"cert_file": "agent.pem", "key_file": "agent-key.pem", "ca_file": "root.pem"}}}`, realPort, etc+"/certs")
	if err := os.WriteFile(filepath.Join(etc, "agent.json"), []byte(real), 0o644); err != nil {
		t.Fatal(err)
	}
	profilerPort, agentPort := free(t), free(t)
	script := "set -e\n"
	for _, block := range blocks {
		commands, _, _ := strings.Cut(block, "```")
		script += commands
		for _, port := range []string{"50084", "50085"} {
			if strings.Contains(commands, "--config") && strings.Contains(commands, port) {
				script += fmt.Sprintf("until (exec 3<>/dev/tcp/127.0.0.1/%s) 2>/dev/null; do sleep 0.05; kill -0 $!; done\n", port)
			}
		}
	}
	script = strings.NewReplacer("/etc/serviceradar", etc, "50084", profilerPort, "50085", agentPort, "50051", realPort).Replace(script)
	script += "test -s flame.html\necho done\nwait\n"
	c := exec.Command("bash", "-c", script)
	c.Env = append(os.Environ(), "PATH="+daemons.Path("")+":"+os.Getenv("PATH"), "SRPROF_AGENT_PROFILER_ADDRESS=127.0.0.1:"+profilerPort) // which is the default but for the port
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	file, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c.Stdout, c.Stderr = file, file
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	defer func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // its services; they may be gone
		<-ended
	}()
	said := func() string {
		b, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	daemons.Until(t, "all commands are done", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%v\n%s\n%s", err, script, said())
		default:
		}
		return strings.Contains(said(), "\ndone\n")
	})
	conn := connect(t, filepath.Join(etc, "certs"), "poller", "127.0.0.1:"+agentPort)
	p := &poller{of: january, conn: conn, sequences: map[string]string{}}
	all := p.poll(t, []check{{"profiler", "ebpf-profiler", "", false}, {"profiler", "ebpf-profiler-results", "", true}, {"icmp", "ping", "192.0.2.1", false}})
	if o := object(t, all["ebpf-profiler"].data); !all["ebpf-profiler"].available || o["healthy"] != true {
		t.Errorf("%s", all["ebpf-profiler"].data)
	}
	if o := object(t, all["ping"].data); o["by"] != "the real agent" {
		t.Errorf("%s", all["ping"].data)
	}
	if o := object(t, all["ebpf-profiler-results"].data); !all["ebpf-profiler-results"].available || o["session_id"] == nil {
		t.Errorf("%s", all["ebpf-profiler-results"].data)
	}
}
