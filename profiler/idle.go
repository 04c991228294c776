// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"runtime/debug"
	"sync"
	"time"
)

// idle gives memory back to the system when no session runs any more. Go's own
// way to do so takes minutes, and does not begin while nothing is allocated.
type idle struct {
	mu       sync.Mutex
	sessions int
	timer    *time.Timer
}

// idleDelay leaves time to write the profile of the last session, and for a
// next one to come.
const idleDelay = 3 * time.Second

func (i *idle) begin() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sessions++
	i.stop()
}

func (i *idle) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.sessions--; i.sessions == 0 {
		i.stop()
		i.timer = time.AfterFunc(idleDelay, debug.FreeOSMemory)
	}
}

// stop forgets what was to be done later. mu is held.
func (i *idle) stop() {
	if i.timer != nil {
		i.timer.Stop()
		i.timer = nil
	}
}

func (i *idle) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stop()
}
