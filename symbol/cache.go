// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"container/list"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// Cache keeps the frames of addresses, so that another session need not look
// for them again. It is bounded: the file that was asked for longest ago goes
// first, with all its addresses. It may be used by many goroutines. A nil
// Cache keeps nothing.
//
// Files are told apart by identity, not by build ID: anybody can give a program
// the build ID of another one, and would choose the names that are shown for
// it.
type Cache struct {
	limit int

	mu     sync.Mutex
	bytes  int
	files  map[process.FileID]*list.Element // of *cachedFile
	oldest list.List                        // the latest used at the back
}

// cachedFile is what is known of one file.
type cachedFile struct {
	id     process.FileID
	since  time.Time
	frames map[profile.ObjAddr][]profile.Frame
	bytes  int
}

const (
	// cacheAge is how long names are kept: a debug package that was installed
	// meanwhile may say more.
	cacheAge   = 10 * time.Minute
	frameBytes = 96 // of a profile.Frame, and a map's entry for it, without its texts
)

// NewCache makes a cache of about so many bytes.
func NewCache(limit int) *Cache {
	return &Cache{limit: limit, files: map[process.FileID]*list.Element{}}
}

// Size is how many bytes are kept, about.
func (c *Cache) Size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// get calls found for each address of a file that is known.
func (c *Cache) get(id process.FileID, lookups []lookup, found func(l lookup, frames []profile.Frame)) (rest []lookup) {
	if c == nil || id == (process.FileID{}) {
		return lookups
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.files[id]
	if e == nil {
		return lookups
	}
	f := e.Value.(*cachedFile)
	if time.Since(f.since) > cacheAge {
		c.drop(e)
		return lookups
	}
	c.oldest.MoveToBack(e)
	for _, l := range lookups {
		if frames := f.frames[l.addr]; frames != nil {
			found(l, frames)
		} else {
			rest = append(rest, l)
		}
	}
	return rest
}

// put keeps the frames of addresses of a file; they must not change any more.
func (c *Cache) put(id process.FileID, lookups []lookup, frames func(l lookup) []profile.Frame) {
	if c == nil || id == (process.FileID{}) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.files[id]
	if e == nil {
		e = c.oldest.PushBack(&cachedFile{id: id, since: time.Now(), frames: map[profile.ObjAddr][]profile.Frame{}})
		c.files[id] = e
	}
	f := e.Value.(*cachedFile)
	for _, l := range lookups {
		fs := frames(l)
		if f.frames[l.addr] != nil || len(fs) == 0 || fs[0].Unknown {
			continue
		}
		size := 0
		for i := range fs {
			size += frameBytes + len(fs[i].Name) + len(fs[i].SystemName) + len(fs[i].File)
		}
		f.frames[l.addr] = fs
		f.bytes += size
		c.bytes += size
	}
	for c.bytes > c.limit && c.oldest.Len() > 0 {
		c.drop(c.oldest.Front())
	}
}

// drop forgets a file. mu must be held.
func (c *Cache) drop(e *list.Element) {
	f := c.oldest.Remove(e).(*cachedFile)
	delete(c.files, f.id)
	c.bytes -= f.bytes
}
