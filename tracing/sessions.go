// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Runner makes spans of the sessions that a runner starts: each in the trace of
// the call that asked for it. Put it right before the runner, behind all that
// may refuse. It is the runner itself if tracing is off.
func (t *Tracing) Runner(r session.Runner) session.Runner {
	if t == nil {
		return r
	}
	return &runner{r, t}
}

// Fleet is Runner for a fleet: spans are of its sessions, whatever is asked of
// its hosts besides.
func (t *Tracing) Fleet(f session.Fleet) session.Fleet {
	if t == nil {
		return f
	}
	return &fleet{f, &runner{f, t}}
}

type fleet struct {
	session.Fleet
	traced *runner
}

func (f *fleet) Start(ctx context.Context, spec session.Spec) (session.Session, error) {
	return f.traced.Start(ctx, spec)
}

type runner struct {
	session.Runner
	t *Tracing
}

// Start begins a session.
func (r *runner) Start(ctx context.Context, spec session.Spec) (session.Session, error) {
	if of := trace.SpanContextFromContext(ctx); of.IsSampled() {
		ctx = session.WithGuard(ctx, &guard{session.GuardOf(ctx), r.t, of})
	}
	return r.Runner.Start(ctx, spec)
}

// guard hears of the session's end.
type guard struct {
	next session.Guard // nil: whoever asks may
	t    *Tracing
	of   trace.SpanContext
}

// Permit is for others to say.
func (g *guard) Permit(pid int, start uint64) error {
	if g.next == nil {
		return nil
	}
	return g.next.Permit(pid, start)
}

// Ended makes the spans, of what is known only now.
func (g *guard) Ended(s session.Session) {
	if g.next != nil {
		g.next.Ended(s)
	}
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), g.of)
	ctx, all := g.t.tracer.Start(ctx, "session", trace.WithTimestamp(s.Created), trace.WithAttributes(
		attribute.String("session.id", string(s.ID)), attribute.String("session.request_id", s.Spec.RequestID), attribute.String("session.state", string(s.State)),
		attribute.String("session.ended_by", string(s.EndedBy)), attribute.Int("session.frequency_hz", int(s.Spec.Frequency)), attribute.Bool("session.children", s.Spec.Children),
		attribute.Int64("session.samples", int64(s.Progress.Samples)), attribute.Int64("session.lost", int64(s.Progress.Lost)), attribute.Int64("session.truncated", int64(s.Progress.Truncated)),
	))
	if s.Err != nil {
		all.SetAttributes(attribute.String("error.type", s.Err.Code))
	}
	if s.State == session.StateFailed {
		all.SetStatus(codes.Error, s.Err.Code) // its sentence may name processes
	}
	part := func(name string, from, to time.Time) {
		_, span := g.t.tracer.Start(ctx, name, trace.WithTimestamp(from))
		span.End(trace.WithTimestamp(to))
	}
	if s.Started.IsZero() {
		part("wait", s.Created, s.Ended)
	} else {
		part("wait", s.Created, s.Started)
		sampled := s.Started.Add(s.Progress.Elapsed)
		part("sample", s.Started, sampled)
		part("symbolize", sampled, s.Ended)
	}
	all.End(trace.WithTimestamp(s.Ended))
}
