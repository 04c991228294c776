// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"google.golang.org/grpc/credentials"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/checks"
)

// identities are the credentials with which others are called. Those who must
// have the same name in their certificates share them: ten thousand hosts are
// one set of files.
type identities struct {
	agents map[string]credentials.TransportCredentials // by that name; empty: the name that is dialed
	core   credentials.TransportCredentials            // nil: there is no core
}

// newIdentities makes sure of those that a configuration needs.
func newIdentities(s *settings) (_ *identities, err error) {
	all := &identities{agents: map[string]credentials.TransportCredentials{}}
	for _, name := range slices.Sorted(maps.Keys(s.Agents)) {
		a := s.Agents[name]
		for _, address := range []string{a.Address, a.ProfilerAddress} {
			if address == "" {
				continue
			}
			if _, err := all.of(s, &a, address); err != nil {
				return nil, s.source.Wrong("security", err)
			}
		}
	}
	if s.CoreAddress == "" {
		return all, nil
	}
	security := &s.Security
	if s.CoreSecurity != nil {
		security = s.CoreSecurity
	}
	if all.core, err = security.ClientCredentials(s.CoreAddress); err != nil {
		return nil, s.source.Wrong("core_security", err)
	}
	return all, nil
}

// of are those for an agent at one of its addresses.
func (i *identities) of(s *settings, a *checks.Agent, address string) (credentials.TransportCredentials, error) {
	security := s.Security
	security.ServerName = cmp.Or(a.ServerName, security.ServerName)
	if s.plain() { // is looked at for each address
		return security.ClientCredentials(address)
	}
	if creds, ok := i.agents[security.ServerName]; ok {
		return creds, nil
	}
	creds, err := security.ClientCredentials(address)
	if err == nil {
		i.agents[security.ServerName] = creds
	}
	return creds, err
}

// reread looks for new files of all of them.
func (i *identities) reread() error {
	var all []error
	for _, c := range i.agents {
		all = append(all, auth.Reread(c))
	}
	if i.core != nil {
		all = append(all, auth.Reread(i.core))
	}
	return errors.Join(all...)
}
