// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/sampler"
)

// listen begins to hear of forks and mappings, then reads the mappings that
// are there already.
func (c *collector) listen() error {
	n, err := c.sampler.Notices()
	if err != nil {
		return err
	}
	c.draining.Lock()
	c.notices = n
	c.draining.Unlock()
	c.mu.Lock()
	for _, t := range c.targets {
		switch err := t.readMaps(&c.objects); {
		case errors.Is(err, fs.ErrPermission):
			c.meta.Warn(fmt.Sprintf("the mappings of process %d may not be read, so its functions have no names (grant CAP_SYS_PTRACE)", t.id.PID))
		case errors.Is(err, fs.ErrNotExist):
			c.meta.Warn(fmt.Sprintf("process %d exited before its mappings were read, so its functions have no names", t.id.PID))
		}
	}
	c.mu.Unlock()
	if tables, ok := c.sampler.(sampler.Tables); ok {
		c.feeder.run(tables)
	}
	c.heard.Go(func() {
		for n.Wait() {
			c.mu.Lock()
			n.Read(c.hear)
			c.heardAll()
			c.mu.Unlock()
		}
	})
	return nil
}

// hear takes in one notice. c.mu is held. What a new process needs to be
// sampled well comes first; what takes time is left to heardAll and others.
func (c *collector) hear(n sampler.Notice) {
	switch n.Kind {
	case sampler.NoticeForked:
		c.hearFork(n)
		return
	case sampler.NoticeMissed:
		c.catchUp()
		for _, t := range c.targets {
			t.reread = false
			_ = t.readMaps(&c.objects) // a process that is gone keeps what is known of it
			t.threads = 0
		}
		return
	}
	t := c.targets[n.PID]
	if t == nil {
		return
	}
	switch n.Kind {
	case sampler.NoticeExecuted:
		t.executed()
		c.reconsider(t, true)
	case sampler.NoticeMapped:
		c.hearMapped(t, &n.Mapping, n.Time)
	case sampler.NoticeThread:
		if t.threads > 0 {
			t.threads++
		}
	case sampler.NoticeExited:
		c.hearExit(t)
	}
}

// heardAll is called after the notices that came together. c.mu is held.
func (c *collector) heardAll() {
	if err := c.feeder.tell(); err != nil {
		c.meta.Warn(err.Error())
	}
	for _, t := range c.over {
		if t.running && c.targets[t.id.PID] == t {
			t.look() // for its CPU time, while its parent has not fetched it
			t.running = false
			c.drop(t)
		}
	}
	c.over = c.over[:0]
	if len(c.objects.unfed) > 0 {
		c.feeder.changed()
	}
}

// hearFork lets a child be sampled like its parent, whose mappings it has.
func (c *collector) hearFork(n sampler.Notice) {
	if c.targets[n.PID] != nil {
		// The PID of a target was born anew: that is another process. What was
		// sampled up to now is the old one's.
		c.catchUp()
	}
	delete(c.barred, n.PID)
	parent := c.targets[n.Parent]
	born := parent != nil && c.spec.Children && !c.barred[n.Parent]
	if old := c.targets[n.PID]; old != nil {
		old.running = false
		c.drop(old)
		if c.late && !born { // so is what is just being drained
			c.reborn = append(c.reborn, old)
		} else {
			c.forget(old)
		}
	}
	if !born {
		return
	}
	if err := c.sampler.AddChild(n.PID, n.Parent); err != nil {
		c.meta.Warn(fmt.Sprintf("child process %d was not sampled: %v", n.PID, err))
		return
	}
	child := &target{
		id: process.ID{PID: n.PID}, name: parent.name, command: parent.command, space: parent.space.Clone(),
		files: process.OpenFiles(n.PID), runtime: parent.runtime, running: true, told: parent.told, threads: 1,
	}
	child.inherit(parent.made, &c.objects)
	c.targets[n.PID] = child
}

// mappedToRun is about how long it takes from mapping a library to running it:
// the dynamic linker has its data to map and relocations to do. Whoever hears
// of a mapping later than that does not know of the samples since the last
// drain whether they are from before or after it.
const mappedToRun = 200 * time.Microsecond

// hearMapped notes that a target has other code mapped now.
func (c *collector) hearMapped(t *target, m *process.Mapping, at time.Duration) {
	of := t.know(m, &c.objects)
	if old := t.space.Lookup(m.Start); old != nil && old.Mapping == *m && old.Of.object == of.object {
		return // its protection was changed and changed back, as JIT compilers do
	}
	if t.ambiguous(m, of.object) {
		if monotonic()-at > mappedToRun {
			t.doubted = append(t.doubted, *m)
		}
		c.catchUp()
	}
	t.space.Insert(*m, of)
	t.told = false
}

// catchUp drains in the middle of notices, because samples from before the next
// one mean something else than those after it. c.mu is held, but not while it
// drains. In the middle of a drain there is nothing to be done: what the notice
// puts in doubt stays so until the end of it.
func (c *collector) catchUp() {
	if c.late {
		return
	}
	c.mu.Unlock()
	defer c.mu.Lock()
	_ = c.drainWith(func() {}) // an error shows at the next drain
}

// hearLate takes in what nobody has heard of yet. It is called when a drain has
// its samples and before it looks at them: whatever was mapped when one of them
// was taken is known then, or in doubt.
func (c *collector) hearLate() {
	if c.notices == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = true
	c.notices.Read(c.hear)
	c.late = false
	c.reconsiderAll()
	c.heardAll()
}

// hearExit notes that a thread of a target ended.
func (c *collector) hearExit(t *target) {
	switch {
	case t.threads > 1:
		t.threads--
	case t.threads == 1:
		c.over = append(c.over, t) // it was the last: no need to look
	default:
		if t.look(); !t.running {
			c.drop(t)
		}
	}
}

func (c *collector) stopListening() {
	if c.notices == nil {
		return
	}
	c.feeder.end()
	c.notices.Stop()
	c.heard.Wait()
	c.draining.Lock()
	c.notices.Close()
	c.notices = nil
	c.draining.Unlock()
}
