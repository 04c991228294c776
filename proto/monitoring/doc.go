// SPDX-License-Identifier: Apache-2.0

// Package monitoring is the generated code for ServiceRadar's interface between
// pollers, agents, checkers and core.
package monitoring
