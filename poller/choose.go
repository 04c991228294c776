// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/carverauto/serviceradar-profiler/session"
)

// choose finds the hosts that a spec means, by name. p.mu is held.
func (p *Poller) choose(spec *session.Spec) ([]*host, error) {
	hosts, err := p.mean(spec.Hosts)
	if err != nil {
		return nil, err
	}
	if most := spec.Hosts.Most; most > 0 && most < len(hosts) {
		hosts = pick(hosts, most, spec.RequestID)
	}
	if len(spec.PIDs) > 0 && len(hosts) > 1 {
		return nil, session.Invalid("pids_of_many_hosts", fmt.Sprintf("PIDs are given, and %d hosts are meant", len(hosts)), "name one host, or choose processes by name, unit, container or cgroup")
	}
	if most := p.limits.MaxHostsPerSession; len(hosts) > most {
		return nil, session.Invalid("too_many_hosts", fmt.Sprintf("%d hosts are meant, and a session may have %d (limits.max_hosts_per_session in the poller's configuration)", len(hosts), most),
			"choose fewer by name or label, or some of them at random")
	}
	return hosts, nil
}

// mean are the hosts that are meant, in order of their names; the only one there
// is where nothing is asked for. Hosts.Most is not looked at. p.mu is held.
func (p *Poller) mean(of session.Hosts) ([]*host, error) {
	if of.Empty() {
		if len(p.names) != 1 {
			return nil, session.Invalid("no_host", fmt.Sprintf("no host is named, and this poller has %d", len(p.names)), "name one, or some by a pattern or by labels; srprof hosts lists them")
		}
		return []*host{p.hosts[p.names[0]]}, nil
	}
	if len(of.Names) == 0 && of.Labels == "" {
		of.All = true // only a number was given
	}
	for _, name := range of.Names { // a slip of the pen must not make the session smaller
		if p.hosts[name] == nil && !strings.ContainsAny(name, `*?[\`) {
			return nil, noSuchHost(fmt.Sprintf("there is no host %q", name))
		}
	}
	var hosts []*host
	for _, name := range p.names {
		if h := p.hosts[name]; of.Mean(name, h.labels) {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) == 0 {
		return nil, noSuchHost("no host is meant by " + of.String())
	}
	return hosts, nil
}

func noSuchHost(problem string) *session.Error {
	return session.Invalid("no_such_host", problem, "srprof hosts lists those of this poller's configuration (agents)")
}

// pick picks some at random: the same ones for the same request.
func pick(hosts []*host, most int, request string) []*host {
	seed := fnv.New64a()
	seed.Write([]byte(request)) // never fails
	var chosen []*host
	source := rand.New(rand.NewPCG(seed.Sum64(), 0))
	if request == "" {
		source = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	for _, i := range source.Perm(len(hosts))[:most] {
		chosen = append(chosen, hosts[i])
	}
	slices.SortFunc(chosen, func(a, b *host) int { return strings.Compare(a.name, b.name) })
	return chosen
}
