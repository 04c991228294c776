// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"google.golang.org/grpc/credentials"

	"github.com/carverauto/serviceradar-profiler/auth"
)

// identities are the credentials with which others are called: the profiler, and
// the next agent (nil if there is none).
type identities struct {
	profiler, next credentials.TransportCredentials
}

func (s *settings) identities() (_ *identities, err error) {
	var ids identities
	if ids.profiler, err = s.profilerSecurity().ClientCredentials(s.ProfilerAddress); err != nil {
		return nil, s.source.Wrong("profiler_security", err)
	}
	if s.NextAgentAddress != "" {
		if ids.next, err = s.nextSecurity().ClientCredentials(s.NextAgentAddress); err != nil {
			return nil, s.source.Wrong("next_agent_security", err)
		}
	}
	return &ids, nil
}

// reread looks for new files of both.
func (i *identities) reread() error {
	err := auth.Reread(i.profiler)
	if i.next != nil {
		err = errors.Join(err, auth.Reread(i.next))
	}
	return err
}
