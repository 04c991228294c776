// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// The audit has a line for each decision and for each end of a session. Who
// reads it looks for the message "access" and the fields below; docs/security.md
// lists them. Never in it: arguments and environment of a process, and what was
// sampled.

const maxAudited = 16 // targets in a line, so that one stays a line

// decided writes down what a call was answered. An error that came from behind
// the gate is the result of an allowed call, not a refusal.
func (c *call) decided(id session.ID, err error, more ...slog.Attr) {
	level, answer := slog.LevelInfo, "allowed"
	if err != nil && !c.passed {
		level, answer = slog.LevelWarn, "refused"
	}
	attrs := append(c.attrs(answer), slog.String("session", clip(string(id))))
	if err != nil {
		attrs = append(attrs, slog.String("code", codeOf(err)))
	}
	c.write(level, append(attrs, more...))
}

// revoked writes down that what had been allowed is not any more.
func (c *call) revoked(t *target, err error) {
	attrs := c.attrs("revoked")
	if t != nil {
		attrs = append(attrs, slog.Any("target", t))
	}
	c.write(slog.LevelWarn, append(attrs, slog.String("code", codeOf(err))))
}

// ended writes down the end of a session that was allowed.
func (c *call) ended(s *session.Session) {
	attrs := append(c.with(s.Targets).attrs("ended"), slog.String("session", string(s.ID)), slog.String("state", string(s.State)),
		slog.Float64("seconds", s.Progress.Elapsed.Seconds()), slog.Uint64("samples", s.Progress.Samples))
	if s.Err != nil {
		attrs = append(attrs, slog.String("code", s.Err.Code))
	}
	c.write(slog.LevelInfo, attrs)
}

// with is a call with the targets that its session came to have: what a selector
// means may be something else by its turn.
func (c *call) with(sampled []profile.Target) *call {
	if c.g.remote || c.spec.Select.Empty() {
		return c
	}
	came := *c
	came.targets = nil
	for _, s := range sampled {
		i := slices.IndexFunc(c.targets, func(t *target) bool { return t.PID == s.PID })
		switch {
		case i >= 0:
			came.targets = append(came.targets, c.targets[i])
		default:
			t, err := look(s.PID, 0)
			if err != nil || t.Name != s.Name { // it is gone
				t = &target{PID: s.PID, Name: s.Name}
			}
			came.targets = append(came.targets, t)
		}
	}
	return &came
}

func (c *call) attrs(answer string) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("answer", answer),
		slog.String("call", c.name),
		slog.String("peer", c.who.Name()),
		slog.String("peer_address", c.who.Address),
		slog.Any("roles", c.roles),
	}
	if c.who.Serial != "" {
		attrs = append(attrs, slog.String("certificate_serial", c.who.Serial))
	}
	hosts, selector := c.hosts, c.selector
	if c.spec != nil {
		hosts, selector = &c.spec.Hosts, &c.spec.Select
	}
	if hosts != nil && !hosts.Empty() {
		attrs = append(attrs, slog.String("hosts", clip(hosts.String())))
	}
	if selector != nil && !selector.Empty() {
		attrs = append(attrs, slog.String("selector", clip(selector.String())))
	}
	if c.spec == nil {
		return attrs
	}
	return append(attrs, c.specAttrs()...)
}

// specAttrs are what was asked for, and which processes that meant.
func (c *call) specAttrs() []slog.Attr {
	targets := c.targets
	if c.g.remote || len(targets) == 0 { // they are not here, or it was refused before they were looked at
		targets = nil
		for _, pid := range c.spec.PIDs {
			targets = append(targets, &target{PID: pid})
		}
	}
	attrs := []slog.Attr{slog.String("request_id", clip(c.spec.RequestID)), slog.String("on_behalf_of", clip(c.spec.Requester)),
		slog.Float64("duration_seconds", c.spec.Duration.Seconds()), slog.Int("frequency_hz", int(c.spec.Frequency)), slog.Bool("children", c.spec.Children)}
	if n := len(targets); n > maxAudited {
		attrs = append(attrs, slog.Int("more_targets", n-maxAudited))
	}
	return append(attrs, slog.Any("targets", targets[:min(len(targets), maxAudited)]))
}

func (c *call) write(level slog.Level, attrs []slog.Attr) {
	c.g.audit.LogAttrs(context.Background(), level, "access", attrs...)
}

// codeOf is the stable name of an error.
func codeOf(err error) string {
	var e *session.Error
	switch {
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "call_ended"
	}
	return "internal"
}

// clip bounds what a stranger sent.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
