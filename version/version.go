// SPDX-License-Identifier: Apache-2.0

// Package version is what this program was built from.
package version

import (
	"cmp"
	"runtime/debug"
)

// version is set by the linker (Makefile).
var version string

// String is what this was built from: what the Makefile says, else what Go
// recorded of the module.
func String() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return cmp.Or(info.Main.Version, "(devel)")
	}
	return "(devel)"
}
