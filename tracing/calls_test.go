// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// behind is a service that notes what it is told of the caller's trace.
type behind struct {
	grpc_health_v1.UnimplementedHealthServer
	told chan metadata.MD
}

func (b *behind) Check(ctx context.Context, in *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	b.told <- md
	if in.GetService() != "" {
		return nil, errors.New("process 4242 (vault) is not for you")
	}
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

// before is a client of it, whose calls are seen by t.
func before(t *testing.T, of *Tracing) (grpc_health_v1.HealthClient, *behind) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &behind{told: make(chan metadata.MD, 1)}
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, b)
	go func() { _ = s.Serve(l) }() // it ends by Stop
	t.Cleanup(s.Stop)
	c, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStatsHandler(of.Outgoing()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return grpc_health_v1.NewHealthClient(c), b
}

// recording is a tracing that keeps its spans.
func recording() (*Tracing, *tracetest.SpanRecorder) {
	r := tracetest.NewSpanRecorder()
	p := sdk.NewTracerProvider(sdk.WithSpanProcessor(r), sdk.WithSampler(sdk.ParentBased(sdk.AlwaysSample())))
	return &Tracing{provider: p, tracer: p.Tracer("")}, r
}

const parentHeader = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func parent(t *testing.T, flags trace.TraceFlags) trace.SpanContext {
	t.Helper()
	id, err := trace.TraceIDFromHex("0af7651916cd43dd8448eb211c80319c")
	if err != nil {
		t.Fatal(err)
	}
	span, err := trace.SpanIDFromHex("b7ad6b7169203331")
	if err != nil {
		t.Fatal(err)
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: flags})
}

// A call for somebody who is traced has a span, below his and before that of
// whoever is called; a sentence that may name somebody is not in it.
func TestOutgoing(t *testing.T) {
	of, spans := recording()
	c, b := before(t, of)
	ctx := metadata.AppendToOutgoingContext(trace.ContextWithSpanContext(t.Context(), parent(t, trace.FlagsSampled)), "traceparent", "wrong", "x-other", "kept")
	if _, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	told := <-b.told
	if _, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "x"}); err == nil {
		t.Fatal("it is no error")
	}
	<-b.told
	ended := spans.Ended()
	if len(ended) != 2 {
		t.Fatalf("%d spans", len(ended))
	}
	good, bad := ended[0], ended[1]
	if good.Name() != "grpc.health.v1.Health/Check" || good.SpanKind() != trace.SpanKindClient || good.Status().Code != codes.Unset || good.Parent().SpanID() != parent(t, 1).SpanID() {
		t.Errorf("%+v", good)
	}
	want := "00-" + good.SpanContext().TraceID().String() + "-" + good.SpanContext().SpanID().String() + "-01"
	if got := told.Get("traceparent"); len(got) != 1 || got[0] != want || told.Get("x-other")[0] != "kept" {
		t.Errorf("%v, want %s", told, want)
	}
	if bad.Status().Code != codes.Error || bad.Status().Description != "Unknown" || strings.Contains(bad.Status().Description, "4242") {
		t.Errorf("%+v", bad.Status())
	}
}

// What a service asks by itself is traced by nobody, and what is not sampled
// stays so behind it.
func TestOutgoingUntraced(t *testing.T) {
	of, spans := recording()
	for _, by := range []*Tracing{of, nil} {
		c, b := before(t, by)
		for range 2 {
			if _, err := c.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
				t.Fatal(err)
			}
			told := propagation.TraceContext{}.Extract(t.Context(), carrier(<-b.told))
			if got := trace.SpanContextFromContext(told); !got.IsValid() || got.IsSampled() {
				t.Errorf("%v", got)
			}
		}
	}
	c, b := before(t, of)
	if _, err := c.Check(trace.ContextWithSpanContext(t.Context(), parent(t, 0)), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join((<-b.told).Get("traceparent"), ","); !strings.HasPrefix(got, parentHeader[:36]) || !strings.HasSuffix(got, "-00") {
		t.Errorf("%q", got)
	}
	if n := len(spans.Ended()); n > 0 {
		t.Errorf("%d spans", n)
	}
}

// A service that traces nothing passes on what it was told.
func TestPassing(t *testing.T) {
	c, b := before(t, nil)
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("traceparent", parentHeader, "tracestate", "a=1", "authorization", "Bearer x"))
	for range 2 {
		if _, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
			t.Fatal(err)
		}
		told := <-b.told
		if got := told.Get("traceparent"); len(got) != 1 || got[0] != parentHeader || len(told.Get("tracestate")) != 1 || len(told.Get("authorization")) > 0 {
			t.Errorf("%v", told)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", parentHeader) // as of a call that is handed on as it is
	}
}

// Work that outlives its call belongs to it still, and holds nothing else of it.
func TestParent(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(trace.ContextWithSpanContext(t.Context(), parent(t, 1)), key{}, "held"))
	p := ParentOf(ctx)
	cancel()
	later := p.Within(t.Context())
	if got := trace.SpanContextFromContext(later); !got.Equal(parent(t, 1)) || later.Value(key{}) != nil || later.Err() != nil {
		t.Errorf("%v, %v, %v", got, later.Value(key{}), later.Err())
	}
	if got := ParentOf(t.Context()).Within(t.Context()); got != t.Context() {
		t.Error("no parent is another context")
	}
}
