// SPDX-License-Identifier: Apache-2.0

package pollers_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/collector"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// A session is one trace, from whoever asked the poller for it to the profiler
// of the host: each call is below the one that led to it. An agent that does not
// trace itself does not tear it.
func TestOneTrace(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for name, prefixes := range map[string][]string{
		"all three trace":   {"SRPROF_POLLER_", "SRPROF_AGENT_", "SRPROF_PROFILER_"},
		"the agent doesn't": {"SRPROF_POLLER_", "SRPROF_PROFILER_"},
	} {
		t.Run(name, func(t *testing.T) {
			c := collector.Start(t)
			for _, prefix := range prefixes {
				for _, variable := range append(c.Variables(prefix), prefix+"TRACING_INSECURE=true") {
					key, value, _ := strings.Cut(variable, "=")
					t.Setenv(key, value)
				}
			}
			s := newSite(t, nil)
			admin := s.client(t, "admin", s.poller.Address)
			target := programs.Start(t, "shared.c", programs.Options{})
			ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-"+parent+"-01") // W3C Trace Context, 3.2
			begun, err := admin.Start(ctx, session.Spec{Hosts: session.Hosts{Names: []string{"web1"}}, PIDs: []int{target.PID}, Duration: time.Second, Frequency: 99})
			if err != nil {
				t.Fatal(err)
			}
			daemons.Until(t, "the session has succeeded", func() bool {
				now, err := admin.Get(t.Context(), begun.ID)
				return err == nil && now.State == session.StateSucceeded
			})
			below := func(above []byte, service, method string, kind otlp.Span_SpanKind) []byte {
				t.Helper()
				return c.Await(t, service+": "+method, trace, func(s *collector.Span) bool {
					return s.Service == service && strings.HasSuffix(s.GetName(), method) && s.GetKind() == kind && bytes.Equal(s.GetParentSpanId(), above)
				}).GetSpanId()
			}
			const (
				ofPoller, ofAgent, ofProfiler = "serviceradar-profiler-poller", "serviceradar-profiler-agent", "serviceradar-profiler"
				asked, asks, within           = otlp.Span_SPAN_KIND_SERVER, otlp.Span_SPAN_KIND_CLIENT, otlp.Span_SPAN_KIND_INTERNAL
			)
			first, err := hex.DecodeString(parent)
			if err != nil {
				t.Fatal(err)
			}
			began := below(first, ofPoller, "SessionService/Start", asked)
			below(began, ofPoller, "session", within)
			for _, method := range []string{"SessionService/Start", "SessionService/Fetch"} { // which the poller does by itself
				at := below(began, ofPoller, method, asks)
				if len(prefixes) == 3 {
					at = below(at, ofAgent, method, asked)
					at = below(at, ofAgent, method, asks)
				}
				at = below(at, ofProfiler, method, asked)
				if method == "SessionService/Start" {
					below(at, ofProfiler, "session", within)
				}
			}
			spans, _ := c.Spans()
			for _, s := range spans {
				if hex.EncodeToString(s.GetTraceId()) != trace && s.Service != ofPoller {
					t.Errorf("%s: %s is asked by services of one another, and is traced", s.Service, s.GetName())
				}
			}
		})
	}
}
