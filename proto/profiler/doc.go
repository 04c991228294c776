// SPDX-License-Identifier: Apache-2.0

// Package profiler is the generated code for the interface of ServiceRadar's
// first profiler.
package profiler
