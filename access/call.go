// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
)

// call is one call of one peer, and what was decided about it.
type call struct {
	g        *Gate
	who      auth.Peer
	name     string // of the call
	roles    []string
	spec     *session.Spec     // of start and match
	hosts    *session.Hosts    // of hosts and processes
	selector *session.Selector // of processes
	session  session.ID        // of get, watch, fetch and cancel
	targets  []*target         // that were looked at
	passed   bool              // what went wrong, went wrong behind the gate
}

// admit finds out who calls, and whether he may.
//
// What was asked for is in the line of the audit also where he may not.
func (g *Gate) admit(ctx context.Context, asked call, what Permission) (*call, error) {
	c := &asked
	c.g = g
	who, err := auth.PeerOf(ctx)
	if err != nil {
		refusal := notPermitted("peer_unknown", err.Error(), "")
		c.decided(c.session, refusal)
		return nil, refusal
	}
	c.who = who
	if err := c.tooOften(); err != nil {
		return nil, err
	}
	p := g.policy.Load()
	c.roles = p.rolesOf(&who)
	if len(p.may(c.roles, what)) == 0 {
		refusal := c.notAllowed(c.roles, what)
		c.decided(c.session, refusal)
		return nil, refusal
	}
	return c, nil
}

// notAllowed says what is lacking, and where it would have to be said.
func (c *call) notAllowed(roles []string, what Permission) *session.Error {
	name := c.who.Name()
	if len(roles) == 0 {
		return notPermitted("no_role", fmt.Sprintf("%q has no role here", name),
			fmt.Sprintf("give it one in this service's configuration: \"access\": {\"roles\": {%q: [\"operator\"]}}", name))
	}
	return notPermitted("not_permitted", fmt.Sprintf("%q may not %s: its role %s lacks %s", name, c.name, strings.Join(roles, ", "), what),
		"ask whoever configures this service for another role (access.roles)")
}

// tooOften refuses who asks too often.
func (c *call) tooOften() error {
	wait, tell, silent := c.g.rate.wait(c.who.Name())
	if wait == 0 {
		return nil
	}
	wait = max(wait, 50*time.Millisecond).Round(10 * time.Millisecond)
	refusal := &session.Error{Code: "rate_limited", Kind: session.ErrBusy, RetryAfter: wait,
		Problem: fmt.Sprintf("%q asks too often", c.who.Name()), Remedy: fmt.Sprintf("try again in %v, or raise access.rate in this service's configuration", wait)}
	if tell {
		c.decided(c.session, refusal, slog.Int("more_since_last", silent))
	}
	return refusal
}

// mayAskFor refuses to act for others who may not. Nobody can have another
// one's name written into a session.
func (c *call) mayAskFor(requester string) error {
	if requester == "" || c.who.Is(requester) && requester != auth.IdentityAny {
		return nil
	}
	if len(c.g.policy.Load().may(c.roles, PermissionDelegate)) > 0 {
		return nil
	}
	return notPermitted("requester_not_allowed", fmt.Sprintf("%q may not start sessions on behalf of %q", c.who.Name(), requester),
		"leave the requester out, or ask for a role with "+string(PermissionDelegate))
}

// mayProfile refuses targets out of scope. Whether there is such a process at
// all, the runner knows better.
func (c *call) mayProfile(pid int) error {
	t, err := look(pid, 0)
	if errors.Is(err, fs.ErrNotExist) {
		c.targets = append(c.targets, &target{PID: pid})
		return nil
	}
	if err != nil {
		return outOfScope(&target{PID: pid}, unclear("it cannot be looked at: %w", err))
	}
	c.targets = append(c.targets, t)
	return c.inScope(t)
}

func (c *call) inScope(t *target) error {
	p := c.g.policy.Load()
	roles := p.rolesOf(&c.who) // by now: it may have changed
	start := p.may(roles, PermissionStart)
	if len(start) == 0 {
		return c.notAllowed(roles, PermissionStart)
	}
	if err := p.Scope.decide(start, t); err != nil {
		return outOfScope(t, err)
	}
	return nil
}

func outOfScope(t *target, why error) *session.Error {
	name := fmt.Sprintf("process %d", t.PID)
	if t.Name != "" {
		name += fmt.Sprintf(" (%s, user %s", t.Name, t.User)
		if t.Unit != "" {
			name += ", unit " + t.Unit
		}
		name += ")"
	}
	code := "target_not_allowed"
	var doubt errUnclear
	if errors.As(why, &doubt) {
		code = "target_unclear"
	}
	return notPermitted(code, fmt.Sprintf("%s may not be profiled: %v", name, why), "ask whoever configures this service (access.scope)")
}

// free says that nothing about a process matters.
func (c *call) free() bool {
	p := c.g.policy.Load()
	may := p.may(p.rolesOf(&c.who), PermissionStart)
	return len(p.Scope.Never) == 0 && len(may) > 0 && p.Scope.free(may)
}

// passOn marks an error as the runner's.
func (c *call) passOn(err error) error {
	c.passed = true
	return err
}

// guard stands for a call while its session waits and runs.
type guard struct{ c *call }

// Permit asks the rules again, as they are by now.
func (g *guard) Permit(pid int, start uint64) error {
	if g.c.free() {
		return nil
	}
	t, err := look(pid, start)
	if err == nil {
		err = g.c.inScope(t)
	} else if errors.Is(err, fs.ErrNotExist) {
		return err
	} else {
		err = outOfScope(&target{PID: pid}, unclear("it cannot be looked at: %w", err))
	}
	if err != nil {
		g.c.revoked(t, err)
	}
	return err
}

// Ended writes down how it ended.
func (g *guard) Ended(s session.Session) { g.c.ended(&s) }
