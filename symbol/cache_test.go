// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
)

func keep(c *Cache, inode uint64, name string, addrs ...profile.ObjAddr) {
	var ls []lookup
	for _, a := range addrs {
		ls = append(ls, lookup{addr: a})
	}
	c.put(process.FileID{Inode: inode}, ls, func(l lookup) []profile.Frame {
		return []profile.Frame{{Name: fmt.Sprintf("%s+%d", name, l.addr)}}
	})
}

func known(c *Cache, inode uint64, addrs ...profile.ObjAddr) (names []string, rest int) {
	var ls []lookup
	for _, a := range addrs {
		ls = append(ls, lookup{addr: a})
	}
	left := c.get(process.FileID{Inode: inode}, ls, func(_ lookup, fs []profile.Frame) { names = append(names, fs[0].Name) })
	return names, len(left)
}

// What was put is found again, for that file only, until it is too old.
func TestCache(t *testing.T) {
	c := NewCache(1 << 20)
	keep(c, 1, "f", 10, 20)
	if names, rest := known(c, 1, 10, 15, 20); fmt.Sprint(names) != "[f+10 f+20]" || rest != 1 {
		t.Errorf("found %v, %d left", names, rest)
	}
	if names, rest := known(c, 2, 10); len(names) != 0 || rest != 1 {
		t.Errorf("another file has %v", names)
	}
	keep(c, 0, "vdso", 1)
	if names, _ := known(c, 0, 1); len(names) != 0 {
		t.Errorf("without a file there is %v", names)
	}
	c.put(process.FileID{Inode: 3}, []lookup{{addr: 1}}, func(lookup) []profile.Frame { return []profile.Frame{profile.UnknownFrame(nil)} })
	if names, _ := known(c, 3, 1); len(names) != 0 {
		t.Errorf("kept that there is no name: %v", names)
	}
	c.files[process.FileID{Inode: 1}].Value.(*cachedFile).since = time.Now().Add(-2 * cacheAge)
	if names, _ := known(c, 1, 10); len(names) != 0 {
		t.Errorf("after %v there is %v", 2*cacheAge, names)
	}
}

// It never holds more than its limit, and keeps what was used last.
func TestCacheLimit(t *testing.T) {
	const limit = 20_000
	c := NewCache(limit)
	keep(c, 1, "first", 1, 2, 3)
	for i := range profile.ObjAddr(1000) {
		keep(c, uint64(2+i), "other", i+1)
		if names, _ := known(c, 1, 2); len(names) != 1 {
			t.Fatalf("what is always used was dropped after %d files", i)
		}
		if c.Size() > limit {
			t.Fatalf("%d bytes of %d", c.Size(), limit)
		}
	}
	if names, _ := known(c, 2, 1); len(names) != 0 {
		t.Error("what was used longest ago is still there")
	}
	keep(NewCache(1), 1, "big", 1, 2, 3) // more than there is room for at all
}

func TestCacheConcurrent(t *testing.T) {
	c := NewCache(10_000)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range profile.ObjAddr(500) {
				keep(c, uint64(i%20), "f", i)
				known(c, uint64(g), i)
			}
		})
	}
	all.Wait()
}
