// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

var _ session.Fleet = (*Agent)(nil)

// fleet is the profiler, where that knows its host.
func (a *Agent) fleet() (session.Fleet, error) {
	if f, ok := a.profiler.(session.Fleet); ok {
		return f, nil
	}
	return nil, &session.Error{Code: codeTooOld, Kind: errors.ErrUnsupported, Problem: "the profiler knows its sessions, and nothing of its host", Remedy: "name processes by their PIDs"}
}

// Hosts tells of this host, as the profiler on it does; where that cannot be
// asked, why. Instance is that of the profiler: sessions end with it, and not
// with the agent.
func (a *Agent) Hosts(ctx context.Context, of session.Hosts) ([]session.Host, error) {
	if err := of.Validate(); err != nil {
		return nil, err
	}
	all, err := within(a, ctx, func(ctx context.Context) ([]session.Host, error) {
		f, err := a.fleet()
		if err != nil {
			return nil, err
		}
		return f.Hosts(ctx, session.Hosts{})
	})
	if err != nil {
		without, ok := a.withoutProfiler(err)
		if !ok {
			return nil, err
		}
		all = []session.Host{without}
	}
	var meant []session.Host
	for _, h := range all {
		if of.Empty() || of.Mean(h.Name, h.Labels) || of.Mean(a.host, h.Labels) {
			meant = append(meant, h)
		}
	}
	return meant, nil
}

// withoutProfiler is this host when the profiler on it cannot be asked; not ok
// if the error says something else.
func (a *Agent) withoutProfiler(err error) (h session.Host, ok bool) {
	var e *session.Error
	if !errors.As(err, &e) {
		return h, false
	}
	now := a.Status()
	h = session.Host{Name: a.host, Version: now.Last.Version, Err: e, Since: time.Now()}
	switch e.Code {
	case codeUnavailable, codeSlow, codeNotTrusted:
		h.State = session.HostAway
	case codeTooOld:
		h.State = session.HostUnsupported
	case codeNotPermitted:
		h.State = session.HostUnhealthy
	default:
		return h, false
	}
	if now.State == StateAway {
		h.Since = now.Since
	}
	return h, true
}

// Processes asks the profiler.
func (a *Agent) Processes(ctx context.Context, host string, s session.Selector, most int) ([]session.Process, error) {
	if host == a.host {
		host = ""
	}
	return within(a, ctx, func(ctx context.Context) ([]session.Process, error) {
		f, err := a.fleet()
		if err != nil {
			return nil, err
		}
		return f.Processes(ctx, host, s, most)
	})
}

// Match asks the profiler.
func (a *Agent) Match(ctx context.Context, spec session.Spec) ([]session.Match, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	if err := a.limits.Load().check(&spec); err != nil {
		return nil, err
	}
	a.here(&spec)
	return within(a, ctx, func(ctx context.Context) ([]session.Match, error) {
		f, err := a.fleet()
		if err != nil {
			return nil, err
		}
		return f.Match(ctx, spec)
	})
}

// here leaves this host out where it is named as the agent knows it: in a
// container the profiler may know another name.
func (a *Agent) here(spec *session.Spec) {
	if spec.Hosts.Mean(a.host, nil) {
		spec.Hosts = session.Hosts{}
	}
}
