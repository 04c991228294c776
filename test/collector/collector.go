// SPDX-License-Identifier: Apache-2.0

// Package collector takes in traces as a collector of OpenTelemetry does, by the
// same protocol, for tests of who sends them.
package collector

import (
	"context"
	"encoding/hex"
	"net"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/carverauto/serviceradar-profiler/test/daemons"
)

// Collector is one that listens.
type Collector struct {
	collector.UnimplementedTraceServiceServer
	Address string

	mu      sync.Mutex
	spans   []Span
	headers metadata.MD
}

// Span is one that has arrived.
type Span struct {
	*otlp.Span
	Service string // whose it is
}

// Start starts one, which ends with the test.
func Start(t testing.TB, options ...grpc.ServerOption) *Collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Collector{Address: l.Addr().String()}
	s := grpc.NewServer(options...)
	collector.RegisterTraceServiceServer(s, c)
	go func() { _ = s.Serve(l) }() // it ends by Stop
	t.Cleanup(s.Stop)
	return c
}

// Variables turn on tracing to it in a program, the names of whose variables
// begin so.
func (c *Collector) Variables(prefix string) []string {
	prefix += "TRACING_"
	return []string{prefix + "ENABLED=true", prefix + "ENDPOINT=" + c.Address, prefix + "BATCH_TIMEOUT=100ms"}
}

// Export is of OpenTelemetry's interface.
func (c *Collector) Export(ctx context.Context, m *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers, _ = metadata.FromIncomingContext(ctx)
	for _, of := range m.GetResourceSpans() {
		service := Text(of.GetResource().GetAttributes(), "service.name")
		for _, s := range of.GetScopeSpans() {
			for _, span := range s.GetSpans() {
				c.spans = append(c.spans, Span{span, service})
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// Spans are all that have arrived, and the headers that the last came with.
func (c *Collector) Spans() ([]Span, metadata.MD) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans), c.headers
}

// Await waits for a span of a trace that is wanted.
func (c *Collector) Await(t testing.TB, what, trace string, wanted func(*Span) bool) (found Span) {
	t.Helper()
	daemons.Until(t, "a span: "+what, func() bool {
		all, _ := c.Spans()
		i := slices.IndexFunc(all, func(s Span) bool { return hex.EncodeToString(s.GetTraceId()) == trace && wanted(&s) })
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}

// Text is the value of an attribute.
func Text(all []*common.KeyValue, key string) string {
	for _, a := range all {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}
