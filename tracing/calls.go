// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// Parent is the span that work belongs to which outlives the call that asked
// for it. It is all that is kept of the call. Zero is none.
type Parent struct{ of trace.SpanContext }

// ParentOf is the span of a context.
func ParentOf(ctx context.Context) Parent { return Parent{trace.SpanContextFromContext(ctx)} }

// Within is a context whose calls belong to the parent.
func (p Parent) Within(ctx context.Context) context.Context {
	if !p.of.IsValid() {
		return ctx
	}
	return trace.ContextWithSpanContext(ctx, p.of)
}

// Outgoing makes spans of the calls by gRPC that a client makes for somebody
// whose call is traced, and hands his trace on. What a service asks by itself,
// every few seconds, has none, and whoever is asked is told to make none. If
// tracing is off, traces pass through all the same: those behind belong to those
// before.
func (t *Tracing) Outgoing() stats.Handler {
	if t == nil {
		return passing{}
	}
	return &outgoing{t: t}
}

// notConnections is for who looks at calls only.
type notConnections struct{}

// TagConn is of gRPC's interface, as the next one.
func (notConnections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (notConnections) HandleConn(context.Context, stats.ConnStats) {}

// outgoing is not the handler that OpenTelemetry has for clients, which writes
// the sentences of errors into spans: they may name processes.
type outgoing struct {
	notConnections
	t *Tracing
}

// spanKey is where a context of a call has its span.
type spanKey struct{}

// TagRPC begins a span.
func (o *outgoing) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return inject(trace.ContextWithSpanContext(ctx, nobodys()))
	}
	method := strings.TrimPrefix(info.FullMethodName, "/")
	ctx, span := o.t.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.method", method)))
	return context.WithValue(inject(ctx), spanKey{}, span)
}

// nobodys is a trace that is not sampled.
func nobodys() trace.SpanContext {
	var of trace.SpanContextConfig
	binary.BigEndian.PutUint64(of.TraceID[:], rand.Uint64())
	binary.BigEndian.PutUint64(of.TraceID[8:], rand.Uint64()|1) // all zeros would be none
	binary.BigEndian.PutUint64(of.SpanID[:], rand.Uint64()|1)
	return trace.NewSpanContext(of)
}

// inject tells whoever is called of the trace.
func inject(ctx context.Context) context.Context {
	to, ok := metadata.FromOutgoingContext(ctx)
	if !ok {
		to = metadata.MD{}
	}
	propagation.TraceContext{}.Inject(ctx, carrier(to))
	return metadata.NewOutgoingContext(ctx, to)
}

// HandleRPC ends it.
func (o *outgoing) HandleRPC(ctx context.Context, s stats.RPCStats) {
	end, ok := s.(*stats.End)
	if !ok {
		return
	}
	span, ok := ctx.Value(spanKey{}).(trace.Span)
	if !ok {
		return
	}
	code := status.Code(end.Error)
	span.SetAttributes(attribute.String("rpc.response.status_code", code.String()))
	if end.Error != nil {
		span.SetStatus(codes.Error, code.String())
	}
	span.End()
}

// carrier is gRPC's metadata as OpenTelemetry wants them.
type carrier metadata.MD

// Get is of its interface, as the next two.
func (c carrier) Get(key string) string { return strings.Join(metadata.MD(c).Get(key), ",") }

// Set replaces.
func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }

// Keys are all there are.
func (c carrier) Keys() (all []string) {
	for key := range c {
		all = append(all, key)
	}
	return all
}

// passing hands on what a caller said of his trace.
type passing struct{ notConnections }

// TagRPC adds it to a call.
func (passing) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	from, forSomebody := metadata.FromIncomingContext(ctx)
	if !forSomebody {
		return inject(trace.ContextWithSpanContext(ctx, nobodys()))
	}
	to, _ := metadata.FromOutgoingContext(ctx)
	for _, key := range (propagation.TraceContext{}).Fields() {
		if len(to.Get(key)) > 0 { // of a call that is handed on as it is
			continue
		}
		for _, value := range from.Get(key) {
			ctx = metadata.AppendToOutgoingContext(ctx, key, value)
		}
	}
	return ctx
}

// HandleRPC does nothing.
func (passing) HandleRPC(context.Context, stats.RPCStats) {}
