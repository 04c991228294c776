// SPDX-License-Identifier: Apache-2.0

package pollers_test

import (
	"context"
	"crypto/tls"
	"os/exec"
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
	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/pki"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// attempt is a call by plain gRPC. What is allowed may still fail for another
// reason than that it is not.
type attempt struct {
	name string
	call func(context.Context, *grpc.ClientConn) error
}

// attempts are the calls of a poller. The session is one that runs; the process
// is one that has exited, as who may profile it is told.
func attempts(id string, exited int32) []attempt {
	sessions, fleet := sessionv1.NewSessionServiceClient, sessionv1.NewFleetServiceClient
	spec := func() *sessionv1.Spec {
		return &sessionv1.Spec{Hosts: &sessionv1.Hosts{Names: []string{"web1"}}, Pids: []int32{exited}, FrequencyHz: 99, Duration: durationpb.New(time.Second)}
	}
	return []attempt{
		{"start", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := sessions(c).Start(ctx, &sessionv1.StartRequest{Spec: spec()})
			return err
		}},
		{"start for another", func(ctx context.Context, c *grpc.ClientConn) error {
			s := spec()
			s.Requester = "jane@example.org"
			_, err := sessions(c).Start(ctx, &sessionv1.StartRequest{Spec: s})
			return err
		}},
		{"match", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := fleet(c).Match(ctx, &sessionv1.MatchRequest{Spec: spec()})
			return err
		}},
		{"processes", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := fleet(c).ListProcesses(ctx, &sessionv1.ListProcessesRequest{Host: "web1"})
			return err
		}},
		{"hosts", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := fleet(c).ListHosts(ctx, &sessionv1.ListHostsRequest{})
			return err
		}},
		{"get", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := sessions(c).Get(ctx, &sessionv1.GetRequest{Id: id})
			return err
		}},
		{"list", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := sessions(c).List(ctx, &sessionv1.ListRequest{})
			return err
		}},
		{"watch", func(ctx context.Context, c *grpc.ClientConn) error {
			s, err := sessions(c).Watch(ctx, &sessionv1.WatchRequest{Id: id})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}},
		{"fetch", func(ctx context.Context, c *grpc.ClientConn) error {
			s, err := sessions(c).Fetch(ctx, &sessionv1.FetchRequest{Id: id})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}},
		{"cancel", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := sessions(c).Cancel(ctx, &sessionv1.CancelRequest{Id: string(session.NewID())}) // who may is told that there is none
			return err
		}},
		{"health", func(ctx context.Context, c *grpc.ClientConn) error {
			_, err := health.NewHealthClient(c).Check(ctx, &health.HealthCheckRequest{Service: "PollerService"})
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
	}
}

// open are the calls that need no role, as with ServiceRadar's own.
const open = "health, reflection"

const reading = "hosts, get, list, watch, fetch, " + open

// caller is one who calls, and what he may: names of attempts.
type caller struct {
	who   string
	creds credentials.TransportCredentials
	may   string
}

// callers are all kinds of them, with the roles that access gives. The last ones
// do not get as far as a call.
func (s *site) callers(t *testing.T) []caller {
	t.Helper()
	others := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(others, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	shows := func(change func(*tls.Config)) credentials.TransportCredentials {
		c := &tls.Config{RootCAs: pki.Pool(t, s.certs), ServerName: "localhost"}
		change(c)
		return credentials.NewTLS(c)
	}
	with := func(c tls.Certificate) credentials.TransportCredentials {
		return shows(func(to *tls.Config) { to.Certificates = []tls.Certificate{c} })
	}
	of := func(name string) credentials.TransportCredentials {
		return with(pki.Issue(t, s.certs, name, time.Hour))
	}
	return []caller{
		{"admin", with(pki.Pair(t, s.certs, "admin")), "start, start for another, match, processes, cancel, " + reading},
		{"operator", of("olivia"), "start, match, processes, cancel, " + reading},
		{"viewer", of("victor"), reading},
		{"a role of its own", of("sally"), "start, match, processes, " + open},
		{"a role for other hosts", of("otto"), reading + ", cancel"},
		{"nobody's role", of("mallory"), open},
		{"a stolen profiler's certificate", with(pki.Pair(t, s.certs, "profiler")), open},
		{"a stolen agent's certificate", with(pki.Pair(t, s.certs, "agent")), open},
		{"the poller's own certificate", with(pki.Pair(t, s.certs, "poller")), open},
		{"no certificate", shows(func(*tls.Config) {}), ""},
		{"an expired one", with(pki.Issue(t, s.certs, "admin.serviceradar", -time.Hour)), ""},
		{"one of another authority", with(pki.Pair(t, others, "admin")), ""},
		{"TLS 1.2", shows(func(c *tls.Config) {
			c.Certificates, c.MaxVersion = []tls.Certificate{pki.Pair(t, s.certs, "admin")}, tls.VersionTLS12
		}), ""},
		{"plaintext", insecure.NewCredentials(), ""},
	}
}

// roles are what the callers have.
var roles = object{
	"roles": object{"admin.serviceradar": []string{"admin"}, "olivia": []string{"operator"}, "victor": []string{"viewer"}, "sally": []string{"starter"}, "otto": []string{"elsewhere"}},
	"permissions": object{"starter": []string{"profiling:start"},
		"elsewhere": []string{"profiling:start", "profiling:read", "profiling:cancel"}},
	"scope": object{"hosts": object{"elsewhere": []object{{"names": []string{"db*"}}}}},
	"rate":  often,
}

// Who may call what at a poller: each cell.
func TestWhoMayWhat(t *testing.T) {
	s := newSite(t, object{"access": roles})
	target := programs.Start(t, "shared.c", programs.Options{})
	running, err := s.client(t, "admin", s.poller.Address).Start(t.Context(), session.Spec{Hosts: session.Hosts{Names: []string{"web1"}}, PIDs: []int{target.PID}, Duration: 5 * time.Minute, Frequency: 99})
	if err != nil {
		t.Fatal(err)
	}
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	for _, c := range s.callers(t) {
		t.Run(c.who, func(t *testing.T) {
			for _, a := range attempts(string(running.ID), int32(gone.Process.Pid)) {
				hold(t, c, s.poller.Address, a)
			}
		})
	}
}

// hold makes sure of one cell.
func hold(t *testing.T, c caller, address string, a attempt) {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(c.creds))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // to see that it hangs
	defer cancel()
	err = a.call(ctx, conn)
	want, got := slices.Contains(strings.Split(c.may, ", "), a.name), true
	switch code := status.Code(err); code {
	case codes.PermissionDenied:
		got = false
	case codes.Unavailable:
		got = c.may != ""
		if got {
			t.Errorf("%s: %v", a.name, err)
		}
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition:
	default:
		t.Errorf("%s: %v", a.name, err)
	}
	if got != want {
		t.Errorf("%s is allowed: %v, want %v: %v", a.name, got, want, err)
	}
}

// Certificates of components start nothing anywhere but where they are to: those
// of a profiler and of an agent nothing at another host's agent, and a poller
// answers no checks.
func TestStolenCertificates(t *testing.T) {
	s := newSite(t, nil)
	other := s.agentBefore(t, s.profiler.Address) // of another host
	target := programs.Start(t, "shared.c", programs.Options{})
	spec := session.Spec{PIDs: []int{target.PID}, Duration: time.Second, Frequency: 99}
	for _, c := range []struct {
		certificate, at, address string
		code                     string // empty: it may
	}{
		{"poller", "the agent", s.agent.Address, ""},
		{"profiler", "the agent", s.agent.Address, "no_role"},
		{"agent", "another host's agent", other.Address, "no_role"},
		{"admin", "the agent", s.agent.Address, "no_role"}, // people come through the poller
		{"profiler", "the profiler", s.profiler.Address, "no_role"},
		{"poller", "the profiler", s.profiler.Address, "no_role"},
		{"profiler", "the poller", s.poller.Address, "no_role"},
		{"agent", "the poller", s.poller.Address, "no_role"},
	} {
		_, err := s.client(t, c.certificate, c.address).Start(t.Context(), spec)
		if got := codeOf(err); got != c.code {
			t.Errorf("the certificate of the %s at %s: %v, want code %q", c.certificate, c.at, err, c.code)
		}
	}
	conn, err := grpc.NewClient(s.poller.Address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pki.Pool(t, s.certs), ServerName: "localhost",
		Certificates: []tls.Certificate{pki.Pair(t, s.certs, "admin")}})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := monitoring.NewAgentServiceClient(conn).GetStatus(t.Context(), &monitoring.StatusRequest{ServiceType: "profiler"}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a poller answers checks: %v", err)
	}
}
