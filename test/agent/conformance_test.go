// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"testing"

	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session/sessiontest"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/hops"
)

// inOneProcess is an agent before this host.
func inOneProcess(t *testing.T) sessiontest.Fixture {
	s := hops.Sessions(t)
	return hops.Fixture(hops.Agent(t, hops.Host(s), func(context.Context) (remote.Report, error) {
		return remote.Report{Version: "this", Health: remote.Health(s.Health())}, nil
	}))
}

// The contract of session.Runner, and of session.Fleet, in one process.
func TestConformance(t *testing.T) {
	hops.Needs(t)
	sessiontest.Run(t, inOneProcess)
}

func TestFleetConformance(t *testing.T) {
	hops.Needs(t)
	sessiontest.RunFleet(t, inOneProcess)
}

// overTwoHops is client, agent and profiler, each with its gate, and mTLS on
// both ways.
func overTwoHops(t *testing.T) sessiontest.Fixture {
	certs := daemons.Certificates(t)
	return hops.Fixture(hops.Dial(t, certs, "admin", hops.Real(t, certs, "admin.serviceradar")))
}

// The same over the network.
func TestConformanceOverTwoHops(t *testing.T) {
	hops.Needs(t)
	sessiontest.Run(t, overTwoHops)
}

func TestFleetConformanceOverTwoHops(t *testing.T) {
	hops.Needs(t)
	sessiontest.RunFleet(t, overTwoHops)
}
