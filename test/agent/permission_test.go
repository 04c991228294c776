// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	legacy "github.com/carverauto/serviceradar-profiler/proto/profiler"
	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/pki"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// permitted are the calls of an agent, each by plain gRPC. What is allowed may
// still fail for another reason than that it is not.
type permitted struct {
	pid, barred int32
	id          string
}

type attempt struct {
	name string
	call func(context.Context, *grpc.ClientConn) error
}

func (p *permitted) attempts() []attempt {
	agent, sessions, fleet := monitoring.NewAgentServiceClient, sessionv1.NewSessionServiceClient, sessionv1.NewFleetServiceClient
	triggerOf := func(pid int32, requester string) func(context.Context, *grpc.ClientConn) error {
		return func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := agent(c).TriggerProfiling(ctx, &monitoring.TriggerProfilingRequest{ProcessIds: []int32{pid}, DurationSeconds: 1, Requester: requester})
			return err
		}
	}
	return []attempt{
		{"trigger", triggerOf(p.pid, "")},
		{"trigger for another", triggerOf(p.pid, "jane@example.org")},
		{"trigger out of scope", triggerOf(p.barred, "")},
		{"start", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := sessions(c).Start(ctx, &sessionv1.StartRequest{Spec: &sessionv1.Spec{}}) // who may is told that it is wrong
			return err
		}},
		{"start as with the first profiler", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := legacy.NewProfilerServiceClient(c).StartProfiling(ctx, &legacy.StartProfilingRequest{ProcessId: p.pid, DurationSeconds: 1, Frequency: 99})
			return err
		}},
		{"results", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := agent(c).GetResults(ctx, &monitoring.ResultsRequest{ServiceType: "profiler"})
			return err
		}},
		{"results in a stream", func(ctx context.Context, c *grpc.ClientConn) error {
			s, err := agent(c).StreamResults(ctx, &monitoring.ResultsRequest{ServiceType: "profiler"})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}},
		{"get", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := sessions(c).Get(ctx, &sessionv1.GetRequest{Id: p.id})
			return err
		}},
		{"list", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := sessions(c).List(ctx, &sessionv1.ListRequest{})
			return err
		}},
		{"watch", func(ctx context.Context, c *grpc.ClientConn) error {
			s, err := sessions(c).Watch(ctx, &sessionv1.WatchRequest{Id: p.id})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}},
		{"fetch", func(ctx context.Context, c *grpc.ClientConn) error {
			s, err := sessions(c).Fetch(ctx, &sessionv1.FetchRequest{Id: p.id})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}},
		{"cancel", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := sessions(c).Cancel(ctx, &sessionv1.CancelRequest{Id: p.id})
			return err
		}},
		{"list hosts", func(ctx context.Context, c *grpc.ClientConn) error {
			out, err := fleet(c).ListHosts(ctx, &sessionv1.ListHostsRequest{})
			if err == nil && (len(out.GetHosts()) != 1 || out.GetHosts()[0].GetInstance() == "") {
				err = status.Errorf(codes.Internal, "not one host: %v", out)
			}
			return err
		}},
		{"list processes", func(ctx context.Context, c *grpc.ClientConn) error {
			out, err := fleet(c).ListProcesses(ctx, &sessionv1.ListProcessesRequest{})
			has := func(pid int32) bool {
				return slices.ContainsFunc(out.GetProcesses(), func(p *sessionv1.Process) bool { return p.GetPid() == pid })
			}
			if err == nil && (!has(p.pid) || has(p.barred)) {
				err = status.Error(codes.Internal, "it lists not who may be profiled")
			}
			return err
		}},
		{"match", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := fleet(c).Match(ctx, &sessionv1.MatchRequest{Spec: matching(p.pid)})
			return err
		}},
		{"match out of scope", func(ctx context.Context, c *grpc.ClientConn) error {
			out, err := fleet(c).Match(ctx, &sessionv1.MatchRequest{Spec: matching(p.barred)})
			if err == nil && (len(out.GetHosts()) != 1 || len(out.GetHosts()[0].GetPids()) > 0 || out.GetHosts()[0].GetError().GetCode() != "target_not_allowed") {
				err = status.Errorf(codes.Internal, "it means %v", out)
			}
			return err
		}},
		{"status", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := agent(c).GetStatus(ctx, &monitoring.StatusRequest{ServiceType: "profiler"})
			return err
		}},
		{"health", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := health.NewHealthClient(c).Check(ctx, &health.HealthCheckRequest{Service: "AgentService"})
			return err
		}},
		{"reflection", func(ctx context.Context, c *grpc.ClientConn) error {
			s, err := reflection.NewServerReflectionClient(c).ServerReflectionInfo(ctx)
			if err == nil {
				err = s.Send(&reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}})
			}
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}},
		{"the next agent", func(ctx context.Context, c *grpc.ClientConn) error {
			out, err := agent(c).GetStatus(ctx, &monitoring.StatusRequest{ServiceType: "icmp"})
			if err == nil && out.GetAgentId() != "real" {
				err = status.Error(codes.Internal, "it did not come there")
			}
			return err
		}},
	}
}

// matching is a spec that is only asked about.
func matching(pid int32) *sessionv1.Spec {
	return &sessionv1.Spec{Pids: []int32{pid}, Duration: durationpb.New(time.Second), FrequencyHz: 99}
}

// open are the calls that need no role, as with a real agent: its own checks
// have no permissions either.
const open = "status, health, reflection, the next agent"

const reading = "results, results in a stream, get, list, watch, fetch, list hosts, " + open

// choosing are the calls of who starts sessions, and looks for processes first.
const choosing = "list processes, match, match out of scope, "

// Who may call what: each cell.
func TestWhoMayWhat(t *testing.T) {
	certs := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(certs, auth.Tryout{KeepKey: true}); err != nil {
		t.Fatal(err)
	}
	daemons.Readable(t, certs)
	others := daemons.Certificates(t)
	profiler := profilerAt(t, certs, "127.0.0.1:0", "")
	barred := programs.Start(t, "shared.c", programs.Options{})
	agent := start(t, "serviceradar-profiler-agent", fmt.Sprintf(`{"listen_addr": "127.0.0.1:0", "profiler_address": %q, "security": %s, "next_agent_address": %q,
		"access": {"roles": {"admin.serviceradar": ["admin"], "poller.serviceradar": ["operator"], "agent.serviceradar": ["viewer"], "starter": ["starter"]},
		"permissions": {"starter": ["profiling:start"]}, "scope": {"never": [{"pids": [%d]}]}, %s}}`,
		profiler.Address, security(certs, "agent"), realAgentAt(t, certs), barred.PID, often), nil)
	agent.WaitFor("the profiler is")
	p := &permitted{pid: int32(busy(t).PID), barred: int32(barred.PID)}
	out := trigger(t, connect(t, certs, "admin", agent.Address), &monitoring.TriggerProfilingRequest{ProcessIds: []int32{p.pid}, DurationSeconds: 300, Requester: "jane@example.org"})
	if p.id = out.GetSessionId(); p.id == "" {
		t.Fatalf("%v", out)
	}
	ours := func(name string) credentials.TransportCredentials {
		creds, err := auth.Identity(certs, name).ClientCredentials(agent.Address)
		if err != nil {
			t.Fatal(err)
		}
		return creds
	}
	byHand := func(change func(*tls.Config)) credentials.TransportCredentials {
		c := &tls.Config{RootCAs: pki.Pool(t, certs), ServerName: "localhost", Certificates: []tls.Certificate{pki.Pair(t, certs, "admin")}}
		change(c)
		return credentials.NewTLS(c)
	}
	for _, c := range []struct {
		who   string
		creds credentials.TransportCredentials
		may   string
	}{
		{"admin", ours("admin"), "trigger, trigger for another, start, start as with the first profiler, cancel, " + choosing + reading},
		{"operator", ours("poller"), "trigger, start, start as with the first profiler, cancel, " + choosing + reading},
		{"viewer", ours("agent"), reading},
		{"a role of its own", byHand(func(c *tls.Config) { c.Certificates = []tls.Certificate{pki.Issue(t, certs, "starter", time.Hour)} }),
			"trigger, start, start as with the first profiler, " + choosing + open},
		{"another component's certificate", ours("profiler"), open},
		{"no certificate", byHand(func(c *tls.Config) { c.Certificates = nil }), ""},
		{"an expired one", byHand(func(c *tls.Config) {
			c.Certificates = []tls.Certificate{pki.Issue(t, certs, "admin.serviceradar", -time.Hour)}
		}), ""},
		{"one of another authority", byHand(func(c *tls.Config) { c.Certificates = []tls.Certificate{pki.Pair(t, others, "admin")} }), ""},
		{"TLS 1.2", byHand(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), ""},
		{"plaintext", insecure.NewCredentials(), ""},
	} {
		conn, err := grpc.NewClient(agent.Address, grpc.WithTransportCredentials(c.creds))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		allowed := strings.Split(c.may, ", ")
		for _, a := range p.attempts() {
			ctx, cancel := context.WithTimeout(t.Context(), aPollersTime)
			err := a.call(ctx, conn)
			cancel()
			want, got := "refused", "allowed"
			for _, may := range allowed {
				if may == a.name {
					want = "allowed"
				}
			}
			switch code := status.Code(err); {
			case c.may == "" && code == codes.Unavailable, c.may != "" && code == codes.PermissionDenied:
				got = "refused"
			case code != codes.OK && code != codes.InvalidArgument && code != codes.FailedPrecondition:
				t.Errorf("%s: %s: %v", c.who, a.name, err)
			}
			if got != want {
				t.Errorf("%s: %s is %s, want %s: %v", c.who, a.name, got, want, err)
			}
		}
	}
}
