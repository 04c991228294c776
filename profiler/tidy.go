// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"sync"
	"time"
)

// tidy takes care that unwind tables which no session needs any more do not
// stay in the kernel.
type tidy struct {
	mu     sync.Mutex
	timer  *time.Timer // nil: there is nothing to be done
	ended  bool        // sessions did since it was set
	closed bool
}

// tidyDelay is how long tables stay for sessions to come, which begin with
// whole stacks then.
const tidyDelay = 10 * time.Second

// tidyLater is called when a session ended.
func (r *Recorder) tidyLater() {
	t := &r.tidy
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended = true; t.timer == nil && !t.closed && r.kernel != nil {
		r.setTidy()
	}
}

// setTidy lets the tables be looked at when those are old that are given up
// now. mu is held.
func (r *Recorder) setTidy() {
	r.tidy.ended = false
	r.tidy.timer = time.AfterFunc(tidyDelay+tidyDelay/10, func() {
		r.tidyUnused(tidyDelay)
		t := &r.tidy
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.timer = nil; t.ended && !t.closed {
			r.setTidy()
		}
	})
}

// tidyUnused gives up tables that were not used for some time.
func (r *Recorder) tidyUnused(unused time.Duration) {
	if r.kernel.Tidy(unused) {
		r.spare.another() // the one that waits would keep them
		r.idle.again()
	}
}

func (t *tidy) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}
