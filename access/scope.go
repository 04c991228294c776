// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"fmt"
	"maps"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Scope says which processes may be sampled. It is about starting sessions: who
// may read, reads all sessions.
type Scope struct {
	// Allow limits roles to the processes that one of their rules means. A
	// role that is not in it may have any sampled.
	Allow map[string][]Rule `json:"allow"`
	// Never are processes that nobody may have sampled, whatever his role.
	Never []Rule `json:"never"`
	// Hosts limits roles to the hosts that one of their rules means. A role that
	// is not in it may all of them. It is for pollers; what is above is for the
	// services on each host.
	Hosts map[string][]HostRule `json:"hosts,omitempty"`
}

// HostRule means the hosts that have one of the names, if there are any, and fit
// the labels, if there are any.
type HostRule struct {
	Names  []string `json:"names"`  // patterns: web-*
	Labels string   `json:"labels"` // a selector: service=shop,env!=prod
}

// Rule means the processes to which all that it names applies, and of each
// list one entry.
type Rule struct {
	// Users that it runs as, by name, number, or range of numbers ("100000-165535").
	// A process has several (real, effective, saved, of the file system): Allow
	// wants all of them to be meant, Never one.
	Users []string `json:"users"`
	// Cgroups by path, those below included.
	Cgroups []string `json:"cgroups"`
	// Units of systemd by name: nginx.service, postgresql@*.service.
	Units []string `json:"units"`
	// Executables by path, as the process sees it: /usr/sbin/sshd, /opt/vault/*.
	Executables []string `json:"executables"`
	// Names of the main thread, which a process chooses for itself: good against
	// mistakes, not against malice. Only for Never.
	Names []string `json:"names"`
	PIDs  []int    `json:"pids"` // only for Never
}

func (s *Scope) validate(p *Policy) error {
	for _, role := range slices.Sorted(maps.Keys(s.Allow)) {
		if !p.knows(role) {
			return bad(fmt.Sprintf("access.scope.allow is about the role %q, which nothing says what it may", role), "use admin, operator or viewer, or say it in access.permissions")
		}
		for i := range s.Allow[role] {
			r := &s.Allow[role][i]
			if err := r.validate("access.scope.allow." + role); err != nil {
				return err
			}
			if len(r.Names) > 0 || len(r.PIDs) > 0 {
				return bad(fmt.Sprintf("access.scope.allow.%s has names or pids, which any process can get", role), "use users, cgroups, units or executables")
			}
		}
	}
	for i := range s.Never {
		if err := s.Never[i].validate("access.scope.never"); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rule) validate(where string) error {
	if len(r.Users)+len(r.Cgroups)+len(r.Units)+len(r.Executables)+len(r.Names)+len(r.PIDs) == 0 {
		return bad(where+" has a rule that names nothing", "name users, cgroups, units or executables")
	}
	for _, u := range r.Users {
		if low, high, ok := uidRange(u); u == "" || ok && low > high {
			return bad(fmt.Sprintf("%s names the user %q", where, u), "write a name, a number or a range: \"100000-165535\"")
		}
	}
	for _, c := range r.Cgroups {
		if !strings.HasPrefix(c, "/") || path.Clean(c) != c {
			return bad(fmt.Sprintf("%s names the control group %q", where, c), "write its path from the root: /system.slice/nginx.service")
		}
	}
	for what, patterns := range map[string][]string{"unit": r.Units, "executable": r.Executables, "name": r.Names} {
		for _, p := range patterns {
			if _, err := path.Match(p, ""); err != nil || p == "" || what == "executable" && !strings.HasPrefix(p, "/") || what == "unit" && !strings.Contains(p, ".") {
				return bad(fmt.Sprintf("%s names the %s %q", where, what, p), "write units as nginx.service, executables by their path; * and ? stand for any characters but /")
			}
		}
	}
	if slices.ContainsFunc(r.PIDs, func(pid int) bool { return pid <= 0 }) {
		return bad(where+" names a PID that is not positive", "write the number of a process: 1")
	}
	return nil
}

func (r *HostRule) hosts() session.Hosts { return session.Hosts{Names: r.Names, Labels: r.Labels} }

// validateHosts refuses rules about hosts that make no sense.
func (s *Scope) validateHosts(p *Policy) error {
	for _, role := range slices.Sorted(maps.Keys(s.Hosts)) {
		if !p.knows(role) {
			return bad(fmt.Sprintf("access.scope.hosts is about the role %q, which nothing says what it may", role), "use admin, operator or viewer, or say it in access.permissions")
		}
		for i := range s.Hosts[role] {
			of := s.Hosts[role][i].hosts()
			if of.Empty() {
				return bad(fmt.Sprintf("access.scope.hosts.%s has a rule that names nothing", role), "name hosts by names or labels")
			}
			if err := of.Validate(); err != nil {
				return bad(fmt.Sprintf("access.scope.hosts.%s: %v", role, err), "")
			}
		}
	}
	return nil
}

// allowsHost says whether one of the roles may a host.
func (s *Scope) allowsHost(roles []string, h *session.Host) bool {
	return slices.ContainsFunc(roles, func(role string) bool {
		rules, limited := s.Hosts[role]
		return !limited || slices.ContainsFunc(rules, func(r HostRule) bool {
			of := r.hosts()
			return of.Mean(h.Name, h.Labels)
		})
	})
}

// freeOfHosts says whether one of the roles may all hosts.
func (s *Scope) freeOfHosts(roles []string) bool {
	return slices.ContainsFunc(roles, func(role string) bool {
		_, limited := s.Hosts[role]
		return !limited
	})
}

// errUnclear is why it cannot be said whether a rule means a process.
type errUnclear struct{ error }

func unclear(format string, args ...any) error { return errUnclear{fmt.Errorf(format, args...)} }

// sense is what a rule is for, and so which way it leans where a process is
// several things at once.
type sense bool

const (
	forAllow sense = false // all of them must be meant
	forNever sense = true  // one is enough
)

// means says whether a rule means a process. The error is an errUnclear.
func (r *Rule) means(t *target, as sense) (bool, error) {
	if len(r.PIDs) > 0 && !slices.Contains(r.PIDs, t.PID) || len(r.Names) > 0 && !matches(r.Names, t.Name) {
		return false, nil
	}
	if len(r.Users) > 0 {
		uids, err := uids(r.Users)
		if err != nil {
			return false, err
		}
		if !t.runsAs(uids, as) {
			return false, nil
		}
	}
	if len(r.Cgroups)+len(r.Units) > 0 && (t.cgroup == "/.." || strings.HasPrefix(t.cgroup, "/../")) {
		return false, unclear("its control group is outside of ours (%s)", t.cgroup)
	}
	if len(r.Cgroups) > 0 && !slices.ContainsFunc(r.Cgroups, func(c string) bool { return t.isIn(c, as) }) || len(r.Units) > 0 && !matches(r.Units, t.Unit) {
		return false, nil
	}
	if len(r.Executables) == 0 {
		return true, nil
	}
	executable, err := t.executable()
	if err != nil {
		return false, unclear("its executable cannot be seen: %w", err)
	}
	return matches(r.Executables, executable), nil
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name) // the patterns were validated
		return ok
	})
}

// uids says which users are meant. Names are looked up each time: users come
// and go, and sessions do not start often.
func uids(names []string) (func(uint32) bool, error) {
	var ranges [][2]uint32
	for _, name := range names {
		low, high, ok := uidRange(name)
		if !ok {
			u, err := user.Lookup(name)
			var unknown user.UnknownUserError
			if errors.As(err, &unknown) {
				continue // then no process is his
			}
			if err != nil {
				return nil, unclear("the user %q cannot be looked up: %w", name, err)
			}
			if low, high, ok = uidRange(u.Uid); !ok {
				return nil, unclear("the user %q has the number %q", name, u.Uid)
			}
		}
		ranges = append(ranges, [2]uint32{low, high})
	}
	return func(uid uint32) bool {
		return slices.ContainsFunc(ranges, func(r [2]uint32) bool { return r[0] <= uid && uid <= r[1] })
	}, nil
}

// uidRange reads a number, or two with a dash in between.
func uidRange(text string) (low, high uint32, ok bool) {
	first, last, two := strings.Cut(text, "-")
	if !two {
		last = first
	}
	l, err := strconv.ParseUint(first, 10, 32)
	if err != nil {
		return 0, 0, false
	}
	h, err := strconv.ParseUint(last, 10, 32)
	return uint32(l), uint32(h), err == nil
}

// decide says whether a process may be sampled by somebody with these roles:
// those of his that may start. The error, if it may not, says why.
func (s *Scope) decide(roles []string, t *target) error {
	for i := range s.Never {
		if meant, err := s.Never[i].means(t, forNever); err != nil {
			return err // it may be meant
		} else if meant {
			return errors.New("it is one of those that nobody may profile")
		}
	}
	if s.free(roles) {
		return nil
	}
	var doubt error
	for _, role := range roles {
		for i := range s.Allow[role] {
			meant, err := s.Allow[role][i].means(t, forAllow)
			if meant {
				return nil
			}
			doubt = errors.Join(doubt, err)
		}
	}
	if doubt != nil {
		return doubt
	}
	return errors.New("it is not one of those that the role may profile")
}

// free says whether one of the roles has no limits of its own.
func (s *Scope) free(roles []string) bool {
	return slices.ContainsFunc(roles, func(role string) bool {
		_, limited := s.Allow[role]
		return !limited
	})
}
