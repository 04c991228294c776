// SPDX-License-Identifier: Apache-2.0

// Package checks is what a poller of ServiceRadar does: it asks the agents of
// its configuration for their checks, again and again, and reports to core what
// they say, as ServiceRadar's own poller does it (docs/serviceradar.md). Checks
// of type profiler are ours: how profiling stands on a host, and profiles by a
// schedule.
package checks

// requester is on whose behalf scheduled profiles are asked for.
const requester = "poller schedule"
