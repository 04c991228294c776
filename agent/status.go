// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// The states of a profiler.
const (
	StateUnknown = "unknown" // it was not asked yet
	StateReady   = "ready"
	StateAway    = "away"
)

// Status is what is known of the profiler.
type Status struct {
	State string
	Since time.Time      // since when it is so
	Err   *session.Error // why it is away
	Last  remote.Report  // what it told last
}

// How often the profiler is asked how it is.
const (
	askEvery   = 2 * time.Second
	askWithin  = 5 * time.Second
	firstRetry = 100 * time.Millisecond
)

// Status is what is known by now. It asks nobody.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// Profiler is the status in the words of a check.
func (a *Agent) Profiler() remote.ProfilerStatus {
	now := a.Status()
	s := remote.ProfilerStatus{Address: a.address, State: now.State, Since: now.Since.UTC().Truncate(time.Second), Version: now.Last.Version}
	if now.Since.IsZero() {
		s.Since = time.Time{}
	}
	if now.Err != nil {
		s.Code, s.Reason = now.Err.Code, now.Err.Error()
	}
	return s
}

// Health is that of sessions: none can be started where the profiler is away.
func (a *Agent) Health() remote.Health {
	now := a.Status()
	switch now.State {
	case StateReady:
		return now.Last.Health
	case StateAway:
		return remote.Health{Reason: fmt.Sprintf("since %s: %v", now.Since.UTC().Format(time.RFC3339), now.Err)}
	}
	return remote.Health{Reason: "the profiler was not asked yet how it is"}
}

// RemoteLimits are what sessions may be at most: the smaller of the profiler's
// limits and the agent's own.
func (a *Agent) RemoteLimits() remote.Limits {
	l, own := a.Status().Last.Limits, a.limits.Load()
	l.MaxSessionDurationSeconds = least(l.MaxSessionDurationSeconds, own.MaxSessionDurationSeconds)
	l.MaxFrequencyHz = least(l.MaxFrequencyHz, own.MaxFrequencyHz)
	return l
}

// least is the smaller one, where 0 is not known.
func least[N ~int](a, b N) N {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// follow asks the profiler how it is, until ctx is over. While it is away it is
// asked less often, and at once when a call found it again.
func (a *Agent) follow(ctx context.Context) {
	retry := firstRetry
	for ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, askWithin)
		report, err := a.ask(asking)
		if errors.Is(err, context.DeadlineExceeded) {
			err = slow(err)
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		wait := askEvery
		if err == nil {
			a.ready(&report)
			retry = firstRetry
		} else {
			a.away(explain(err))
			wait, retry = retry/2+rand.N(retry/2), min(2*retry, askEvery)
		}
		select {
		case <-ctx.Done():
		case <-a.wake:
		case <-time.After(wait):
		}
	}
}

// ready notes that the profiler answered; without a report, that it did
// something else.
func (a *Agent) ready(report *remote.Report) {
	a.mu.Lock()
	before := a.status
	if report != nil {
		a.status.Last = *report
		if before.State != StateReady {
			a.status = Status{State: StateReady, Since: time.Now(), Last: *report}
		}
	}
	a.mu.Unlock()
	switch {
	case report == nil && before.State != StateReady:
		a.askSoon()
	case report != nil && before.State == StateAway:
		a.log.Info("the profiler is back", "version", report.Version, "away_seconds", time.Since(before.Since).Seconds())
	case report != nil && before.State == StateUnknown:
		a.log.Info("the profiler is there", "address", a.address, "version", report.Version)
	case report != nil && before.Last.Version != report.Version:
		a.log.Info("the profiler is another version", "version", report.Version, "before", before.Last.Version)
	}
}

func (a *Agent) away(why *session.Error) {
	a.mu.Lock()
	before := a.status
	if before.State != StateAway {
		a.status.State, a.status.Since = StateAway, time.Now()
	}
	a.status.Err = why
	a.mu.Unlock()
	if before.State != StateAway || before.Err.Code != why.Code {
		a.log.Warn("the profiler is away", "code", why.Code, "error", why.Error())
	}
}

func (a *Agent) askSoon() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// outcome notes what a call says of the profiler, and makes of its error what
// whoever called can understand.
func (a *Agent) outcome(ctx context.Context, err error) error {
	switch {
	case err == nil:
		a.ready(nil)
		return nil
	case errors.Is(ctx.Err(), context.Canceled): // by the caller: it says nothing of the profiler
		return err
	}
	var e *session.Error
	if !errors.As(err, &e) {
		return err
	}
	switch trouble(e) {
	case "":
		return err
	case codeNotPermitted:
		return explain(err)
	}
	why := explain(err)
	a.askSoon()
	if since := a.Status(); since.State == StateAway {
		with := *why
		with.Problem += fmt.Sprintf(" since %s", since.Since.UTC().Format(time.RFC3339))
		return &with
	}
	return why
}

// Codes of what is between an agent and its profiler.
const (
	codeUnavailable  = "profiler_unavailable"
	codeSlow         = "profiler_slow"
	codeTooOld       = "profiler_too_old"
	codeNotTrusted   = "profiler_not_trusted"
	codeNotPermitted = "agent_not_permitted"
)

// trouble is the code of an error that is about the way to the profiler, and
// not about a session; else "".
func trouble(e *session.Error) string {
	switch e.Code {
	case "unreachable", "connection_lost":
		return codeUnavailable
	case "deadline", codeSlow:
		return codeSlow
	case "not_supported":
		return codeTooOld
	case "tls_refused", "handshake_failed", "no_tls", "tls_too_old", "closed_at_once", "insecure_not_loopback", "workload_api_unavailable":
		return codeNotTrusted
	case "no_role", "not_permitted", "requester_not_allowed", "peer_unknown":
		return codeNotPermitted
	}
	if strings.HasPrefix(e.Code, "certificate_") || strings.HasPrefix(e.Code, "server_") { // of package auth
		return codeNotTrusted
	}
	return ""
}

// explain says what is wrong between an agent and its profiler.
func explain(err error) *session.Error {
	var e *session.Error
	if !errors.As(err, &e) {
		return &session.Error{Code: codeUnavailable, Kind: session.ErrUnavailable, Problem: "the profiler of this host cannot be asked", Cause: err}
	}
	said := &session.Error{Code: trouble(e), Kind: session.ErrUnavailable, Cause: cause{e}, RetryAfter: e.RetryAfter, Undone: e.Undone}
	switch said.Code {
	case codeUnavailable:
		said.Problem, said.Remedy, said.RetryAfter = "the profiler of this host cannot be reached", "see whether serviceradar-profiler runs there, and profiler_address in the agent's configuration", time.Second
	case codeSlow:
		said.Problem, said.Remedy, said.RetryAfter = "the profiler of this host does not answer in time", "try again; if it stays so, start serviceradar-profiler there again", time.Second
	case codeTooOld:
		said.Kind = errors.ErrUnsupported
		said.Problem, said.Remedy = "what answers at profiler_address is no profiler of this version", "install serviceradar-profiler and its agent in the same version"
	case codeNotTrusted:
		said.Problem, said.Remedy = "the agent and the profiler of this host do not trust each other", "see profiler_security in the agent's configuration, and security in the profiler's"
	case codeNotPermitted:
		said.Problem, said.Remedy = "the profiler of this host does not permit this to its agent", `give the agent's identity a role with "profiling:*" in the profiler's configuration (access.roles)`
	default: // the profiler's own words
		return e
	}
	return said
}

// cause is what was said below, in a sentence of its own; its kind stays there,
// because it was meant for the agent and not for who asks the agent.
type cause struct{ e *session.Error }

// Error is its text.
func (c cause) Error() string {
	if c.e.Cause != nil {
		return c.e.Problem + ": " + c.e.Cause.Error()
	}
	return c.e.Problem
}

func slow(err error) error {
	var e *session.Error
	return &session.Error{Code: codeSlow, Kind: session.ErrUnavailable, Problem: "no answer in time", Cause: err, Undone: errors.As(err, &e) && e.Undone}
}

// body is a profile on its way: what breaks it is explained, too.
type body struct {
	io.ReadCloser
	ctx   context.Context
	agent *Agent
}

// Read is of io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, fs.ErrClosed) {
		err = b.agent.outcome(b.ctx, err)
	}
	return n, err
}
