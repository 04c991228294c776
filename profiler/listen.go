// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/sampler"
)

// listen begins to hear of forks and mappings, then reads the mappings that
// are there already.
func (c *collector) listen() error {
	n, err := sampler.OpenNotices()
	if err != nil {
		return err
	}
	c.notices = n
	c.mu.Lock()
	for _, t := range c.targets {
		if err := t.readMaps(); errors.Is(err, fs.ErrPermission) {
			c.meta.Warn(fmt.Sprintf("the mappings of process %d may not be read, so its functions have no names (grant CAP_SYS_PTRACE)", t.id.PID))
		}
	}
	c.mu.Unlock()
	c.feeder.run(c.sampler)
	c.heard.Go(func() {
		for n.Wait() {
			c.mu.Lock()
			n.Read(c.hear)
			c.mu.Unlock()
		}
	})
	return nil
}

// hear takes in one notice. c.mu is held.
func (c *collector) hear(n sampler.Notice) {
	if n.Kind == sampler.NoticeForked {
		c.hearFork(n)
		return
	}
	if n.Kind == sampler.NoticeMissed {
		for _, t := range c.targets {
			t.reread = false
			_ = t.readMaps() // a process that is gone keeps what is known of it
		}
		c.feeder.changed()
		return
	}
	t := c.targets[n.PID]
	if t == nil {
		return
	}
	switch n.Kind {
	case sampler.NoticeExecuted:
		t.executed()
		c.feeder.changed()
	case sampler.NoticeMapped:
		t.space.Insert(n.Mapping)
		t.told = false
		c.feeder.changed()
	case sampler.NoticeExited:
		if t.look(); !t.running {
			c.drop(t)
		}
	}
}

func (c *collector) hearFork(n sampler.Notice) {
	if old := c.targets[n.PID]; old != nil {
		// The PID of a target was born anew: that is another process.
		old.running = false
		c.drop(old)
		c.forget(old)
	}
	parent := c.targets[n.Parent]
	if parent == nil || !c.spec.Children {
		return
	}
	child := &target{
		id: process.ID{PID: n.PID}, name: parent.name, command: parent.command, space: parent.space.Clone(),
		files: process.OpenFiles(n.PID), running: true,
	}
	if stat, err := process.ReadStat(n.PID); err == nil {
		child.id = stat.ID
	} // else it has exited already; what it mapped is known all the same
	if err := c.sampler.AddTarget(n.PID); err != nil {
		c.meta.Warn(fmt.Sprintf("child process %d was not sampled: %v", n.PID, err))
		return
	}
	c.targets[n.PID] = child
	c.feeder.changed()
}

func (c *collector) stopListening() {
	if c.notices == nil {
		return
	}
	c.feeder.end()
	c.notices.Stop()
	c.heard.Wait()
	c.notices.Close()
	c.notices = nil
}
