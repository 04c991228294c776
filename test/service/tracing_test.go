// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/collector"
)

// named waits for the spans of a trace until there is one of that name.
func named(t *testing.T, c *collector.Collector, trace, name string) map[string]collector.Span {
	t.Helper()
	c.Await(t, name, trace, func(s *collector.Span) bool { return s.GetName() == name })
	found := map[string]collector.Span{}
	all, _ := c.Spans()
	for _, s := range all {
		if hex.EncodeToString(s.GetTraceId()) == trace {
			found[s.GetName()] = s
		}
	}
	return found
}

func traced(c *collector.Collector, more ...string) func(*service) {
	return func(s *service) {
		s.command.Env = append(append(os.Environ(), c.Variables("SRPROF_PROFILER_")...), more...)
	}
}

// A session is in the trace of whoever asked for it: the call, and when it
// waited, sampled and looked for names.
func TestTraces(t *testing.T) {
	r := collector.Start(t)
	s := start(t, "", traced(r, "SRPROF_PROFILER_TRACING_INSECURE=true", `SRPROF_PROFILER_TRACING_HEADERS={"x-token": "hunter2"}`))
	c := s.runner(t, "admin")
	p := target(t)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-"+parent+"-01") // W3C Trace Context, 3.2
	started, err := c.Start(ctx, session.Spec{PIDs: []int{p.PID}, Duration: time.Second, Frequency: 499, RequestID: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	last := final(t, c, started.ID)
	spans := named(t, r, trace, "session")
	var call collector.Span
	for name := range spans {
		if strings.HasSuffix(name, "/Start") {
			call = spans[name]
		}
	}
	all := spans["session"]
	if call.Span == nil || hex.EncodeToString(call.GetParentSpanId()) != parent || string(all.GetParentSpanId()) != string(call.GetSpanId()) {
		t.Fatalf("call %v, session %v", call, all)
	}
	if collector.Text(all.GetAttributes(), "session.id") != string(last.ID) || collector.Text(all.GetAttributes(), "session.state") != "succeeded" || collector.Text(all.GetAttributes(), "session.request_id") != "r1" {
		t.Errorf("%v", all)
	}
	at := all.GetStartTimeUnixNano()
	for _, name := range []string{"wait", "sample", "symbolize"} { // one after the other, without a gap
		part := spans[name]
		if part.Span == nil || string(part.GetParentSpanId()) != string(all.GetSpanId()) || part.GetStartTimeUnixNano() != at || part.GetEndTimeUnixNano() < at {
			t.Fatalf("%s: %v, after %d", name, part, at)
		}
		at = part.GetEndTimeUnixNano()
	}
	if at != all.GetEndTimeUnixNano() {
		t.Errorf("the parts end at %d, the session at %d", at, all.GetEndTimeUnixNano())
	}
	if d := spans["sample"].GetEndTimeUnixNano() - spans["sample"].GetStartTimeUnixNano(); time.Duration(d) != last.Progress.Elapsed {
		t.Errorf("it sampled for %v, not %v", time.Duration(d), last.Progress.Elapsed)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	s.signal(t, syscall.SIGTERM)
	s.ended(t)
	arrived, headers := r.Spans()
	if headers.Get("x-token")[0] != "hunter2" {
		t.Errorf("headers %v", headers)
	}
	for _, span := range arrived {
		if span.Service != "serviceradar-profiler" || strings.Contains(span.String(), "grpc.health") || strings.Contains(span.String(), "hunter2") {
			t.Error(span)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if log := strings.Join(s.raw, "\n"); strings.Contains(log, "hunter2") {
		t.Error("a secret is in the log")
	}
}

// By TLS, both ways, to a collector with a certificate of the same authority.
func TestTracesByTLS(t *testing.T) {
	dir := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(dir, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	creds, err := auth.Identity(dir, "agent").ServerCredentials("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	for name, variables := range map[string][]string{
		"both ways":      {"SRPROF_PROFILER_TRACING_TLS_CA_FILE=" + file("root.pem"), "SRPROF_PROFILER_TRACING_TLS_CERT_FILE=" + file("profiler.pem"), "SRPROF_PROFILER_TRACING_TLS_KEY_FILE=" + file("profiler-key.pem")},
		"server's alone": {"SRPROF_PROFILER_TRACING_TLS_CA_FILE=" + file("root.pem")},
	} {
		t.Run(name, func(t *testing.T) {
			use := creds
			if name != "both ways" {
				if use, err = credentials.NewServerTLSFromFile(file("agent.pem"), file("agent-key.pem")); err != nil {
					t.Fatal(err)
				}
			}
			r := collector.Start(t, grpc.Creds(use))
			s := start(t, "", traced(r, variables...))
			c := s.runner(t, "admin")
			const trace = "0af7651916cd43dd8448eb211c80319d"
			ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-b7ad6b7169203331-01")
			if _, err := c.List(ctx, session.Filter{}); err != nil {
				t.Fatal(err)
			}
			r.Await(t, "any", trace, func(*collector.Span) bool { return true })
		})
	}
}

// A collector that is not there, or does not answer, costs lines of the log, and
// not many; sessions go on.
func TestTracesWithoutCollector(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it takes connections, by the kernel, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for name, address := range map[string]string{"silent": silent.Addr().String(), "gone": gone.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			s := start(t, `"grace_period_seconds": 0`, traced(&collector.Collector{Address: address}, "SRPROF_PROFILER_TRACING_INSECURE=true"))
			c := s.runner(t, "admin")
			p := target(t)
			for range 3 {
				started, err := c.Start(t.Context(), session.Spec{PIDs: []int{p.PID}, Duration: 500 * time.Millisecond, Frequency: 499, RequestID: time.Now().String()})
				if err != nil {
					t.Fatal(err)
				}
				if last := final(t, c, started.ID); last.State != session.StateSucceeded {
					t.Errorf("%+v", last)
				}
			}
			s.signal(t, syscall.SIGTERM)
			if state := s.ended(t); state.ExitCode() != 0 {
				t.Errorf("it ended with %v", state)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if n := strings.Count(strings.Join(s.raw, "\n"), "traces cannot be sent"); n > 2 {
				t.Errorf("it is told %d times", n)
			}
		})
	}
}
