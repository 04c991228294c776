// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"container/list"
	"strings"
	"sync"
	"unsafe"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// Key names what a table is made from: the content of a file.
type Key struct {
	build profile.BuildID
	size  int64
	file  process.FileID // of files without a build ID
}

// KeyOf names an object by its build ID, so that the same library in two
// containers is one; and by the file where it has none, since what object
// gives instead does not see all of the content. id is zero if there is no
// file.
//
// Whoever can run a program on this host can give it the build ID and size of
// another and so spoil the stacks of that: a rule only ever says where on a
// thread's own stack to look, so that is all.
func KeyOf(f *object.File, id process.FileID) Key {
	k := Key{build: f.BuildID(), size: f.Size()}
	if strings.HasPrefix(string(k.build), "hash:") {
		k.file = id
	}
	return k
}

// Cache keeps tables, so that another session need not build them again. It is
// bounded: what was used longest ago goes first. It may be used by many
// goroutines; of those that want the same tables at the same time one builds
// them. A nil Cache keeps nothing.
type Cache struct {
	limit int64

	mu     sync.Mutex
	bytes  int64
	kept   map[Key]*cached
	oldest list.List // of *cached, the latest used at the back
	builds int
}

// cached are the tables of one object, or a promise of them.
type cached struct {
	key    Key
	ready  chan struct{} // closed when what follows is there
	tables []Draft
	err    error
	bytes  int64
	place  *list.Element // nil until they are kept
}

// entryBytes is what an entry costs besides its rows; there are objects without
// any.
const entryBytes = 256

// NewCache makes a cache of at most so many bytes.
func NewCache(limit int64) *Cache { return &Cache{limit: limit, kept: map[Key]*cached{}} }

// Tables returns what Build makes of f, which key names. What is kept is written
// out, what is too large for it is not.
func (c *Cache) Tables(f *object.File, key Key) ([]Draft, error) {
	if c == nil {
		return new(builder).build(f)
	}
	c.mu.Lock()
	e := c.kept[key]
	if e != nil {
		if e.place != nil {
			c.oldest.MoveToBack(e.place)
		}
		c.mu.Unlock()
		<-e.ready
		return e.tables, e.err
	}
	e = &cached{key: key, ready: make(chan struct{})}
	c.kept[key] = e
	c.builds++
	c.mu.Unlock()
	e.tables, e.err = new(builder).build(f)
	c.keep(e)
	close(e.ready)
	return e.tables, e.err
}

// keep makes room for an entry. Errors are not kept: reading may go better
// another time.
func (c *Cache) keep(e *cached) {
	e.bytes = entryBytes
	for i := range e.tables {
		e.bytes += int64(e.tables[i].most) * int64(unsafe.Sizeof(Row{}))
	}
	fits := e.err == nil && e.bytes <= c.limit
	if fits {
		e.tables = Drafts(Written(e.tables))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !fits {
		delete(c.kept, e.key)
		return
	}
	for c.bytes+e.bytes > c.limit {
		old := c.oldest.Remove(c.oldest.Front()).(*cached)
		c.bytes -= old.bytes
		delete(c.kept, old.key)
	}
	c.bytes += e.bytes
	e.place = c.oldest.PushBack(e)
}

// CacheStats is what a cache holds and did.
type CacheStats struct {
	Objects int
	Bytes   int64
	Builds  int // tables that had to be built, ever
}

// Stats tells how the cache fares.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheStats{Objects: c.oldest.Len(), Bytes: c.bytes, Builds: c.builds}
}
