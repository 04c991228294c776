// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"runtime/debug"
)

// version is set by the linker (Makefile).
var version string

// Version is what this was built from: what the Makefile says, else what Go
// recorded of the module.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return cmp.Or(info.Main.Version, "(devel)")
	}
	return "(devel)"
}
