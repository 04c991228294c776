// SPDX-License-Identifier: Apache-2.0

// Package access decides who may do what. [Gate] stands before any
// [session.Runner]: it asks for the role of whoever calls ([Policy], in
// ServiceRadar's words), whose processes that role may have sampled, and how
// often somebody asks, and writes each decision down.
//
// What is not allowed is refused; nothing is allowed by default.
package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Permission is one thing that can be allowed, spelled as ServiceRadar does.
type Permission string

// The permissions. In a configuration "profiling:*" and "*" are all of them.
const (
	PermissionStart    Permission = "profiling:start"
	PermissionRead     Permission = "profiling:read"     // get, list, watch, fetch; other people's sessions too
	PermissionCancel   Permission = "profiling:cancel"   // other people's sessions too
	PermissionDelegate Permission = "profiling:delegate" // to start on behalf of somebody else
)

var permissions = []Permission{PermissionStart, PermissionRead, PermissionCancel, PermissionDelegate}

// builtIn are the roles that are there without being written down.
var builtIn = map[string][]Permission{
	"admin":    {"*"},
	"operator": {PermissionStart, PermissionRead, PermissionCancel},
	"viewer":   {PermissionRead},
}

// Policy is the object "access" of the configuration. Its zero value allows
// nobody anything.
type Policy struct {
	// Roles are whose they are: by identity, as [auth.Peer.Is] understands it.
	Roles map[string][]string `json:"roles"`
	// Permissions are what other roles than admin, operator and viewer may.
	Permissions map[string][]Permission `json:"permissions"`
	Scope       Scope                   `json:"scope"`
	Rate        Rate                    `json:"rate"`
}

// DefaultPolicy allows nobody anything. It is what a configuration is read over.
func DefaultPolicy() Policy {
	return Policy{Roles: map[string][]string{}, Permissions: map[string][]Permission{},
		Scope: Scope{Allow: map[string][]Rule{}, Never: []Rule{}}, Rate: Rate{PerSecond: defaultPerSecond, Burst: defaultBurst}}
}

// Empty says that nobody has a role.
func (p *Policy) Empty() bool {
	for _, roles := range p.Roles {
		if len(roles) > 0 {
			return false
		}
	}
	return true
}

// Validate refuses what makes no sense before a runner of one host, or may mean
// something else than it seems to. Errors are *session.Error.
func (p *Policy) Validate() error {
	if len(p.Scope.Hosts) > 0 {
		return bad("access.scope.hosts is about the hosts of a fleet, and this service is on one host", "write it into a poller's configuration")
	}
	return p.validate()
}

// ValidateFleet is Validate for before a fleet of other hosts.
func (p *Policy) ValidateFleet() error {
	if len(p.Scope.Allow)+len(p.Scope.Never) > 0 {
		return bad("access.scope.allow and access.scope.never are about the processes of a host, which this service does not see", "write them into the configurations of the agents and profilers, and access.scope.hosts here")
	}
	if err := p.Scope.validateHosts(p); err != nil {
		return err
	}
	return p.validate()
}

func (p *Policy) validate() error {
	for _, role := range slices.Sorted(maps.Keys(p.Permissions)) {
		if err := p.checkRole(role); err != nil {
			return err
		}
	}
	for _, identity := range slices.Sorted(maps.Keys(p.Roles)) {
		if err := auth.CheckIdentity(identity); err != nil {
			return bad("access.roles: "+err.Error(), "")
		}
		for _, role := range p.Roles[identity] {
			if !p.knows(role) {
				return bad(fmt.Sprintf("access.roles gives %q the role %q, which nothing says what it may", identity, role),
					"use admin, operator or viewer, or say it in access.permissions")
			}
		}
	}
	if err := p.Scope.validate(p); err != nil {
		return err
	}
	return p.Rate.validate()
}

func (p *Policy) checkRole(role string) error {
	if role == "" || strings.TrimSpace(role) != role {
		return bad(fmt.Sprintf("access.permissions has a role called %q", role), "give it a name")
	}
	if _, ok := builtIn[role]; ok {
		return bad(fmt.Sprintf("access.permissions says what the role %s may, which is fixed", role), "use a role of another name")
	}
	for _, has := range p.Permissions[role] {
		if !slices.ContainsFunc(permissions, has.covers) {
			return bad(fmt.Sprintf("access.permissions gives the role %s %q, which is no permission", role, has),
				"there are "+join(permissions)+", and profiling:* and * for all")
		}
	}
	return nil
}

func (p *Policy) knows(role string) bool {
	_, own := p.Permissions[role]
	_, fixed := builtIn[role]
	return own || fixed
}

// covers says whether to have h is to have the permission w.
func (h Permission) covers(w Permission) bool {
	if h == "*" || h == w {
		return true
	}
	area, all := strings.CutSuffix(string(h), ":*")
	return all && strings.HasPrefix(string(w), area+":")
}

// rolesOf are the roles of a peer, by name.
func (p *Policy) rolesOf(who *auth.Peer) []string {
	var roles []string
	for identity, has := range p.Roles {
		if who.Is(identity) {
			roles = append(roles, has...)
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// may are those of the roles that have a permission.
func (p *Policy) may(roles []string, what Permission) []string {
	var may []string
	for _, role := range roles {
		has, ok := builtIn[role]
		if !ok {
			has = p.Permissions[role]
		}
		if slices.ContainsFunc(has, func(h Permission) bool { return h.covers(what) }) {
			may = append(may, role)
		}
	}
	return may
}

func bad(problem, remedy string) error { return session.Invalid("bad_access", problem, remedy) }

func join[S ~string](all []S) string {
	words := make([]string, len(all))
	for i, s := range all {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}
