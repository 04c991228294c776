// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/carverauto/serviceradar-profiler/agent"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/hops"
)

// Ours before the real agent in one program, as docs/serviceradar.md has it.
func TestInTheRealAgent(t *testing.T) {
	certs := daemons.Certificates(t)
	inMemory := bufconn.Listen(1 << 20)
	theirs := grpc.NewServer()
	monitoring.RegisterAgentServiceServer(theirs, realAgent{})
	go func() { _ = theirs.Serve(inMemory) }() // it ends by Stop
	t.Cleanup(theirs.Stop)

	client := hops.Dial(t, certs, "agent", profilerAt(t, certs, "127.0.0.1:0", "").Address)
	profiling, err := agent.New(client, client.Report, agent.Options{Limits: agent.DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(profiling.Close)
	gate := hops.Gate(t, profiling, "poller.serviceradar", "admin")
	next, err := remote.DialNext("agent:0", insecure.NewCredentials(), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return inMemory.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.Close() })
	address := hops.Serve(t, certs, "agent", remote.AgentOptions(slog.New(slog.DiscardHandler), next), func(server *grpc.Server) {
		remote.NewServer(gate, 0).Register(server)
		serviceradar.RegisterAgent(server, gate, serviceradar.About{Host: "h", AgentID: "web1", Version: "1", Limits: profiling.RemoteLimits,
			Health: profiling.Health, Profiler: profiling.Profiler, Serving: func() bool { return true }}, next)
	})
	daemons.Until(t, "the profiler is there", func() bool { return profiling.Status().State == agent.StateReady })
	p := &poller{of: august, conn: connect(t, certs, "poller", address), sequences: map[string]string{}}
	all := p.poll(t, []check{{"profiler", "ebpf", "", false}, {"port", "ssh", "127.0.0.1:22", false}})
	if !all["ebpf"].available || object(t, all["ssh"].data)["by"] != "the real agent" {
		t.Errorf("%s %s", all["ebpf"].data, all["ssh"].data)
	}
}

// Sessions as one more service of the real agent's own server, which has
// credentials of gRPC's and knows nothing of ours.
func TestInTheRealAgentsServer(t *testing.T) {
	certs := daemons.Certificates(t)
	client := hops.Dial(t, certs, "agent", profilerAt(t, certs, "127.0.0.1:0", "").Address)
	profiling, err := agent.New(client, client.Report, agent.Options{Limits: agent.DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(profiling.Close)
	gate := hops.Gate(t, profiling, "admin.serviceradar", "admin")

	own, err := tls.LoadX509KeyPair(filepath.Join(certs, "agent.pem"), filepath.Join(certs, "agent-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(certs, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	authority := x509.NewCertPool()
	authority.AppendCertsFromPEM(root)
	theirs := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: authority, ClientAuth: tls.RequireAndVerifyClientCert})))
	monitoring.RegisterAgentServiceServer(theirs, realAgent{})
	remote.NewServer(gate, 0).Register(theirs)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = theirs.Serve(l) }() // it ends by Stop
	t.Cleanup(theirs.Stop)
	daemons.Until(t, "the profiler is there", func() bool { return profiling.Status().State == agent.StateReady })

	spec := session.Spec{PIDs: []int{busy(t).PID}, Duration: time.Second, Frequency: 499}
	admin := hops.Dial(t, certs, "admin", l.Addr().String())
	begun, err := admin.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	for now, err := range admin.Watch(t.Context(), begun.ID) {
		if err != nil {
			t.Fatal(err)
		}
		begun = now
	}
	if begun.State != session.StateSucceeded || begun.Progress.Samples == 0 {
		t.Errorf("%+v", begun)
	}
	if _, err := hops.Dial(t, certs, "poller", l.Addr().String()).Start(t.Context(), spec); !errors.Is(err, session.ErrForbidden) {
		t.Errorf("who has no role may start sessions: %v", err)
	}
	checks := monitoring.NewAgentServiceClient(connect(t, certs, "poller", l.Addr().String()))
	if out, err := checks.GetStatus(t.Context(), &monitoring.StatusRequest{ServiceType: "icmp"}); err != nil || out.GetAgentId() != "real" {
		t.Errorf("%v, %v", out, err)
	}
}

// lines are the two pieces of Go of docs/serviceradar.md about the real agent,
// the second one after the first.
func lines(t *testing.T) (alone, both string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/serviceradar.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "### In the real agent\n")
	section, _, _ = strings.Cut(section, "\n## ")
	pieces := strings.Split(section, "```go\n")
	if len(pieces) != 3 {
		t.Fatalf("there are %d pieces of Go", len(pieces)-1)
	}
	alone, _, _ = strings.Cut(pieces[1], "```")
	more, _, _ := strings.Cut(pieces[2], "```")
	return alone, alone + more
}

// embedding is a program with such lines, and with messages of its own that have
// ServiceRadar's names. What the lines take for granted is around them.
func embedding(imports []string, body string) string {
	quoted := []string{}
	for _, i := range imports {
		quoted = append(quoted, strconv.Quote(i))
	}
	return `package main

import (
	"context"
	"log/slog"
	"net"

	"google.golang.org/grpc"
	grpccreds "google.golang.org/grpc/credentials"
	` + strings.Join(quoted, "\n\t") + `

	_ "github.com/carverauto/serviceradar-profiler/test/theirs"
)

func embed(theirs *grpc.Server, credentials, serverCredentials grpccreds.TransportCredentials, policy access.Policy, audit, log *slog.Logger,
	inMemory func(context.Context, string) (net.Conn, error), host, ip, id, version string) error {
	` + body + `
	return err
}

func main() {
	_ = embed
	println("started")
}
`
}

// A program with ServiceRadar's own messages that has the lines of
// docs/serviceradar.md in it is built. With those for sessions it starts as it
// is; with those for checks, when it is linked as the document says.
func TestBesideTheirMessages(t *testing.T) {
	const policy = "-X google.golang.org/protobuf/reflect/protoregistry.conflictPolicy=ignore"
	page, err := os.ReadFile("../../docs/serviceradar.md")
	if err != nil || !strings.Contains(strings.ReplaceAll(string(page), "\n", " "), policy) {
		t.Fatalf("docs/serviceradar.md does not say %s: %v", policy, err)
	}
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	replace := []string{}
	add := func(virtual, text string) {
		file := filepath.Join(dir, strings.ReplaceAll(virtual, "/", "_"))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		replace = append(replace, fmt.Sprintf("%q: %q", filepath.Join(root, virtual), file))
	}
	generated, err := os.ReadFile(filepath.Join(root, "proto/monitoring/monitoring.pb.go"))
	if err != nil {
		t.Fatal(err)
	}
	alone, both := lines(t)
	ours := []string{module + "access", module + "agent", module + "remote"}
	add("test/theirs/messages.go", string(generated))
	add("test/alone/main.go", embedding(ours, alone))
	add("test/both/main.go", embedding(append(ours, module+"serviceradar", "google.golang.org/grpc/credentials/insecure"), both))
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, []byte(`{"Replace": {`+strings.Join(replace, ",")+`}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		program, flags string
		starts         bool
	}{
		{"alone", "", true},
		{"both", "", false},
		{"both", policy, true},
	} {
		file := filepath.Join(dir, c.program)
		if out, err := exec.Command("go", "build", "-overlay", overlay, "-ldflags", c.flags, "-o", file, module+"test/"+c.program).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		out, err := exec.Command(file).CombinedOutput()
		if started := strings.Contains(string(out), "started"); started != c.starts {
			t.Errorf("%s, linked with %q: %v\n%s", c.program, c.flags, err, out)
		}
	}
}

const module = "github.com/carverauto/serviceradar-profiler/"
