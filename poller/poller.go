// SPDX-License-Identifier: Apache-2.0

// Package poller is a fleet of many hosts: a session.Fleet whose sessions
// survive what happens to it, to the hosts and to the network between them. A
// session is written down before anything is sent, each host is asked under a
// request ID that was written down, too, and what a host says is written down
// before anybody else hears it. So at any moment what is in the store is enough
// to go on: no session is lost, and none runs twice. Why, what it costs and
// where it ends is in docs/decisions/durable-sessions.md.
package poller

import (
	"log/slog"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// Options are what a poller needs. The store is its caller's to close, after
// the poller.
type Options struct {
	Store  store.Store
	Hosts  []HostConfig
	Limits Limits
	Log    *slog.Logger // nil: no lines

	// Changed, if it is not nil, is told when a session begins to sample and
	// when it has ended; also of one that ended while no poller ran. It must be
	// quick, and ask nothing here.
	Changed func(session.Session)
}

// HostConfig is a host of the fleet.
type HostConfig struct {
	Name    string
	Address string // at which it is asked, for what is told of it
	Labels  map[string]string
	Fleet   session.Fleet // a fleet of one; mostly a remote.Client, which connects when it is first asked
}

// Health is how the poller itself is.
type Health struct {
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"` // why it is not
	Running int    `json:"running"`          // sessions
	Queued  int    `json:"queued"`
}
