// SPDX-License-Identifier: Apache-2.0

package poller

import (
	"cmp"
	"context"

	"github.com/carverauto/serviceradar-profiler/auth"
)

// byName is who asks, for what is kept of it.
func byName(ctx context.Context) string {
	who, err := auth.PeerOf(ctx)
	if err != nil {
		return "request" // this program itself
	}
	return cmp.Or(who.Name(), "request")
}
