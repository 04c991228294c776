// SPDX-License-Identifier: Apache-2.0

package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

var _ session.Fleet = (*Gate)(nil)

// NewFleet is the gate before a fleet of other hosts. Of their processes it
// knows nothing: its scope is by host, and whose processes may be sampled is for
// the gate on each host to say.
func NewFleet(fleet session.Fleet, policy *Policy, audit *slog.Logger) (*Gate, error) {
	return newGate(fleet, true, policy, audit)
}

// fleet is what is behind the gate, where that knows hosts.
func (g *Gate) fleet() (session.Fleet, error) {
	if f, ok := g.runner.(session.Fleet); ok {
		return f, nil
	}
	return nil, session.Unsupported("not_supported", "this service knows its sessions, and nothing of hosts and processes", "name processes by their PIDs", nil)
}

// Hosts lets through who may read. Those out of scope are not told of.
func (g *Gate) Hosts(ctx context.Context, h session.Hosts) ([]session.Host, error) {
	c, err := g.admit(ctx, call{name: "hosts", hosts: &h}, PermissionRead)
	if err != nil {
		return nil, err
	}
	all, err := g.hosts(ctx, h)
	if err == nil && g.remote {
		all = c.hostsInScope(all)
	}
	c.decided("", c.passOn(err))
	return all, err
}

func (g *Gate) hosts(ctx context.Context, h session.Hosts) ([]session.Host, error) {
	f, err := g.fleet()
	if err != nil {
		return nil, err
	}
	return f.Hosts(ctx, h)
}

// Processes lets through who may start sessions. Processes that he may not have
// sampled are not told of.
func (g *Gate) Processes(ctx context.Context, host string, s session.Selector, most int) (shown []session.Process, err error) {
	of := session.Hosts{}
	if host != "" {
		of.Names = []string{host}
	}
	c, err := g.admit(ctx, call{name: "processes", hosts: &of, selector: &s}, PermissionStart)
	if err != nil {
		return nil, err
	}
	defer func() { c.decided("", err) }()
	f, err := g.fleet()
	if err != nil {
		return nil, c.passOn(err)
	}
	if g.remote {
		if err := c.mayUse(ctx, of); err != nil {
			return nil, err
		}
	}
	if g.remote || c.free() {
		shown, err = f.Processes(ctx, host, s, most)
		return shown, c.passOn(err)
	}
	wanted := s
	if s.Hottest { // it may be out of scope, and then it is another one
		wanted = session.Selector{}
	}
	all, err := f.Processes(ctx, host, wanted, 0)
	switch {
	case err != nil:
	case s.Hottest:
		shown, err = c.hottestInScope(ctx, all)
	default:
		shown, err = c.processesInScope(ctx, all, most)
	}
	return shown, c.passOn(err)
}

// processesInScope are the first ones that may be sampled.
func (c *call) processesInScope(ctx context.Context, all []session.Process, most int) ([]session.Process, error) {
	if most <= 0 {
		most = len(all)
	}
	var shown []session.Process
	for _, p := range all {
		if len(shown) == most {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if t, err := look(p.PID, 0); err == nil && c.inScope(t) == nil {
			shown = append(shown, p)
		}
	}
	return shown, nil
}

// Match lets through who may start sessions, and answers what Start would be
// refused with.
func (g *Gate) Match(ctx context.Context, spec session.Spec) (matches []session.Match, err error) {
	c, err := g.admit(ctx, call{name: "match", spec: &spec}, PermissionStart)
	if err != nil {
		return nil, err
	}
	var refused error
	defer func() { c.decided("", cmp.Or(err, refused)) }()
	if err := spec.Validate(); err != nil {
		return nil, c.passOn(err)
	}
	f, err := g.fleet()
	if err != nil {
		return nil, c.passOn(err)
	}
	if g.remote {
		if err := c.mayUse(ctx, spec.Hosts); err != nil {
			return nil, err
		}
		matches, err = f.Match(ctx, spec)
		return matches, c.passOn(err)
	}
	if matches, err = f.Match(ctx, spec); err != nil {
		return nil, c.passOn(err)
	}
	for i := range matches {
		m := &matches[i]
		if m.PIDs, err = c.narrowed(ctx, &spec, m.PIDs); err != nil {
			if m.Err = asError(err); m.Err == nil {
				return nil, c.passOn(err)
			}
			continue
		}
		if refused = c.mayProfileAll(m.PIDs); refused != nil {
			m.PIDs, m.Err = nil, asError(refused)
		}
	}
	return matches, nil
}

// resolve has a selector's processes found behind the gate, so that it is known
// here which ones they are.
func (c *call) resolve(ctx context.Context, spec *session.Spec) error {
	f, err := c.g.fleet()
	if err != nil {
		return err
	}
	matches, err := f.Match(ctx, *spec)
	if err != nil {
		return err
	}
	for _, m := range matches {
		if m.Err != nil {
			return m.Err
		}
		pids, err := c.narrowed(ctx, spec, m.PIDs)
		if err != nil {
			return err
		}
		spec.PIDs, spec.Again = append(spec.PIDs, pids...), true
	}
	if len(spec.PIDs) == 0 {
		return fmt.Errorf("%s: no process was named, and no reason", spec.Select.String())
	}
	return nil
}

// narrowed is what a selector means to who may not have all of it. The hottest
// process is then the hottest one that he may have sampled: anything else stays
// as it is, to be allowed or refused.
func (c *call) narrowed(ctx context.Context, spec *session.Spec, pids []int) ([]int, error) {
	if !spec.Select.Hottest || c.free() || len(pids) != 1 {
		return pids, nil
	}
	if t, err := look(pids[0], 0); err == nil && c.inScope(t) == nil {
		return pids, nil
	}
	f, err := c.g.fleet()
	if err != nil {
		return nil, err
	}
	all, err := f.Processes(ctx, "", session.Selector{}, 0)
	if err != nil {
		return nil, err
	}
	shown, err := c.hottestInScope(ctx, all)
	if err != nil {
		return nil, err
	}
	if len(shown) == 0 {
		return nil, &session.Error{Code: "host_idle", Kind: fs.ErrNotExist, Problem: fmt.Sprintf("no process of this host that %q may profile uses CPU time just now", c.who.Name()),
			Remedy: "name a process, or try again when one does; srprof ps lists those that may be profiled"}
	}
	return []int{shown[0].PID}, nil
}

// hottestInScope is the hottest process that may be sampled, of all of them.
func (c *call) hottestInScope(ctx context.Context, all []session.Process) ([]session.Process, error) {
	busy := slices.DeleteFunc(all, func(p session.Process) bool { return p.CPU <= 0 || p.Command == "" || session.Ours(p.Command) })
	return c.processesInScope(ctx, busy, 1)
}

// mayProfileAll refuses all of them if one is out of scope.
func (c *call) mayProfileAll(pids []int) error {
	for _, pid := range pids {
		err := c.mayProfile(pid)
		if err != nil && !c.spec.Select.Empty() && len(pids) > 1 {
			e := *asError(err)
			e.Problem = fmt.Sprintf("%s is %d processes, and one of them is not allowed: %s", c.spec.Select.String(), len(pids), e.Problem)
			e.Remedy = "choose others, or " + e.Remedy
			return &e
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// asError is a refusal as what it is.
func asError(err error) *session.Error {
	var e *session.Error
	errors.As(err, &e)
	return e
}

// mayUse refuses hosts that are out of scope.
func (c *call) mayUse(ctx context.Context, of session.Hosts) error {
	p := c.g.policy.Load()
	start := p.may(p.rolesOf(&c.who), PermissionStart)
	if len(start) == 0 {
		return c.notAllowed(c.roles, PermissionStart)
	}
	if p.Scope.freeOfHosts(start) {
		return nil
	}
	hosts, err := c.g.hosts(ctx, of)
	if err != nil {
		return c.passOn(err)
	}
	if of.Empty() && len(hosts) > 1 {
		return c.passOn(session.Invalid("no_host", "there are several hosts, and none of them is named", "name one; srprof hosts lists them"))
	}
	for i := range hosts {
		if !p.Scope.allowsHost(start, &hosts[i]) {
			return notPermitted("host_out_of_scope", fmt.Sprintf("%q may not profile on the host %s", c.who.Name(), hosts[i].Name), "leave it out, or ask whoever configures this service (access.scope.hosts)")
		}
	}
	return nil
}

// hostsInScope are those that may be told of.
func (c *call) hostsInScope(all []session.Host) []session.Host {
	p := c.g.policy.Load()
	read := p.may(c.roles, PermissionRead)
	var shown []session.Host
	for i := range all {
		if p.Scope.allowsHost(read, &all[i]) {
			shown = append(shown, all[i])
		}
	}
	return shown
}

// fleetGuard stands for a call to a fleet while its session waits and runs.
type fleetGuard struct{ guard }

// hostsTime bounds how long it takes to tell which hosts are meant.
const hostsTime = 10 * time.Second

// Permit asks the rules again, which here are about hosts and not processes.
func (g *fleetGuard) Permit(int, uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), hostsTime)
	defer cancel()
	err := g.c.mayUse(ctx, g.c.spec.Hosts)
	if errors.Is(err, session.ErrForbidden) {
		g.c.revoked(nil, err)
	}
	return err
}
