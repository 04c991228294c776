// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"runtime/debug"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
)

// idle gives memory back to the system when no session runs any more. Go's own
// way to do so takes minutes, and does not begin while nothing is allocated; and
// of the program itself it knows nothing.
type idle struct {
	mu       sync.Mutex
	sessions int
	timer    *time.Timer
	closed   bool
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
	i.sessions--
	i.later()
}

// again says that something was done between sessions.
func (i *idle) again() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed {
		i.later()
	}
}

// later gives memory back in a moment, if no session runs. mu is held.
func (i *idle) later() {
	if i.sessions == 0 {
		i.stop()
		i.timer = time.AfterFunc(idleDelay, func() {
			debug.FreeOSMemory()
			_ = process.ForgetPages() // else they stay
		})
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
	i.closed = true
	i.stop()
}
