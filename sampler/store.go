// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/carverauto/serviceradar-profiler/unwind"
)

// TableStore has the unwind tables in the kernel of all samplers that are
// opened with it. The table of a library is there once, however many sessions
// walk through it, and is still there when the next one begins. The zero
// TableStore is empty; of a nil one each sampler has tables of its own.
//
// Where a table lies never changes, and none is taken out, because a walk that
// has just begun may look at it. Instead the store begins anew, when most of it
// is out of use ([TableStore.Tidy]) or half of what can be addressed is taken:
// samplers that go on keep the old set of tables to their end, and those that
// are opened later know of the new one only. The price is that tables which both
// need are there twice meanwhile.
type TableStore struct {
	mu     sync.Mutex // never held while a set's is waited for, which may take long
	set    *tableSet  // nil until somebody joins
	closed bool       // nothing is kept any more
}

// idleBytes is what may stay in the kernel though nobody uses it: the tables of
// the C library, and of a program as large as Node.js. The next session on it
// has whole stacks from its first sample on.
const idleBytes = 7 << 20

// join is called by a sampler that begins. It has to leave.
func (s *TableStore) join() *tableSet {
	if s == nil {
		return newTableSet()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return newTableSet()
	}
	if s.set != nil && s.set.halfFull.Load() {
		s.begin()
	}
	if s.set == nil {
		s.set = newTableSet()
	}
	s.set.users.Add(1)
	return s.set
}

// newest says whether a sampler with these maps, of this set, can see all that
// is in the store.
func (s *TableStore) newest(set *tableSet, maps *tableMaps) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed || s.set == set && !set.halfFull.Load() && maps.newestOf(set)
}

// Tidy begins anew if most of what is there was used by no sampler for some
// time, or all of it, unless that is little. It reports whether it did.
func (s *TableStore) Tidy(unused time.Duration) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	set := s.set
	s.mu.Unlock()
	if set == nil {
		return false
	}
	u := set.usage(time.Now().Add(-unused))
	old := u.stale
	if u.used == 0 {
		old = u.room
	}
	if old <= max(idleBytes, u.used) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set != set {
		return false // it did meanwhile
	}
	s.begin()
	return true
}

// begin lets go of the set. mu is held.
func (s *TableStore) begin() {
	if s.set != nil {
		s.set.leave()
		s.set = nil
	}
}

// Close gives back what no sampler uses. It may be called while some do.
func (s *TableStore) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
	s.closed = true
}

// TableNeed is how much room an object may need whose tables are to be made.
type TableNeed struct {
	Key        unwind.Key
	Rows, Code int // bytes of code
}

// tableSet is what a TableStore has between two beginnings.
type tableSet struct {
	users    atomic.Int32 // samplers and the store
	newest   atomic.Int32 // the number of the newest maps
	halfFull atomic.Bool  // so much of what can be addressed is taken or planned

	mu      sync.Mutex
	tables  tables     // what is in the newest maps
	maps    *tableMaps // nil until somebody needs room
	kept    map[unwind.Key]*keptTables
	planned map[unwind.Key]TableNeed
}

// entryBytes is what an object costs besides its tables, of which it may have
// none.
const entryBytes = 256

// keptTables are the tables of an object.
type keptTables struct {
	ids   []TableID
	maps  int32 // the number of the first maps that have them
	bytes int64
	users int
	left  time.Time // when the last user did
}

func newTableSet() *tableSet {
	t := &tableSet{kept: map[unwind.Key]*keptTables{}, planned: map[unwind.Key]TableNeed{}}
	t.users.Store(1)
	return t
}

// leave notes that a sampler is gone, or the store. The last one takes the maps
// away.
func (t *tableSet) leave() {
	if t.users.Add(-1) > 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.maps != nil {
		t.maps.release()
		t.maps = nil
	}
}

// unuse notes what a sampler used and had planned, and does no more.
func (t *tableSet) unuse(used, planned map[unwind.Key]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range used {
		k := t.kept[key]
		if k.users--; k.users == 0 {
			k.left = time.Now()
		}
	}
	for key := range planned {
		delete(t.planned, key)
	}
}

// use finds the tables of an object, for a sampler that did not use them yet
// (or did, and says so).
func (t *tableSet) use(key unwind.Key, already bool) *keptTables {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.find(key, already)
}

// find is use; mu is held.
func (t *tableSet) find(key unwind.Key, already bool) *keptTables {
	k := t.kept[key]
	if k != nil && !already {
		k.users++
	}
	return k
}

// What is made besides what is planned, when maps are made: a libc and a few
// more, by dlopen.
const (
	spareRows = 50_000
	spareCode = 8 << 20
)

// plan makes sure that there is room for tables to come, and returns what of it
// was not planned by others.
func (t *tableSet) plan(needs []TableNeed) (fresh []unwind.Key, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range needs {
		if _, ok := t.planned[n.Key]; !ok && t.kept[n.Key] == nil {
			t.planned[n.Key] = n
			fresh = append(fresh, n.Key)
		}
	}
	rows, code := 0, 0
	for _, n := range t.planned {
		rows, code = rows+n.Rows, code+n.Code
	}
	chunks, blocks := t.tables.roomFor(rows, code)
	t.taken(chunks)
	if t.maps != nil && t.maps.hold(chunks, blocks) {
		return fresh, nil
	}
	chunks, blocks = t.tables.roomFor(rows+rows/8+spareRows, code+code/8+spareCode)
	return fresh, t.grow(chunks, blocks)
}

// add puts the tables of an object into the kernel, unless another sampler was
// faster.
func (t *tableSet) add(key unwind.Key, all []unwind.Draft, already bool) (*keptTables, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.find(key, already); k != nil {
		return k, nil
	}
	before := t.tables.bytes()
	ids, err := t.put(all)
	if err != nil {
		return nil, err
	}
	k := &keptTables{ids: ids, maps: t.maps.number, users: 1, bytes: entryBytes + t.tables.bytes() - before}
	t.kept[key] = k
	delete(t.planned, key)
	return k, nil
}

// put finds room for tables, and fills it. The error is ErrNoRoom if the maps
// are full. mu is held.
func (t *tableSet) put(all []unwind.Draft) ([]TableID, error) {
	chunks, blocks := t.tables.need(all)
	if t.maps == nil || !t.maps.hold(chunks, blocks) {
		if t.maps != nil { // half as much again as is there, so that it does not happen with every library
			chunks = max(chunks, min(maxChunks, chunks+t.maps.rows.MaxEntries()/2))
			blocks += t.maps.pages.MaxEntries() / 2
		}
		if err := t.grow(chunks, blocks); err != nil {
			return nil, err
		}
	}
	before := t.tables
	ids := make([]TableID, len(all))
	for i := range all {
		id, err := t.tables.add(&all[i])
		if err != nil {
			t.tables = before // nobody knows of what was filled
			return nil, err
		}
		ids[i] = id
	}
	t.taken(t.tables.chunks)
	return ids, nil
}

// taken notes how many chunks are, or are going to be.
func (t *tableSet) taken(chunks uint32) {
	if chunks > maxChunks/2 {
		t.halfFull.Store(true)
	}
}

// grow makes bigger maps, with the same at the same places: a map cannot grow.
// A walk that was loaded with smaller ones stays right, and does not see what
// comes from now on. mu is held.
func (t *tableSet) grow(chunks, blocks uint32) error {
	if chunks > maxChunks {
		t.halfFull.Store(true)
		return ErrNoRoom
	}
	number := int32(1)
	if t.maps != nil {
		number += t.maps.number
		blocks = max(blocks, t.maps.pages.MaxEntries())
		chunks = max(chunks, t.maps.rows.MaxEntries())
	}
	m, err := newTableMaps(number, chunks, blocks)
	if err != nil {
		return err
	}
	if old := t.maps; old != nil {
		if err := t.tables.copyTo(m.rows, m.pages); err != nil {
			m.release()
			return err
		}
		old.release()
	}
	t.maps = m
	t.newest.Store(number)
	t.tables.rows, t.tables.pages = m.rows, m.pages
	return nil
}

// atLeast makes maps of a size if there are none yet that big.
func (t *tableSet) atLeast(rows, code int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	chunks, blocks := new(tables).roomFor(rows, code)
	if t.maps != nil && t.maps.hold(chunks, blocks) {
		return nil
	}
	return t.grow(chunks, blocks)
}

// take is the newest maps, which somebody made before; the caller releases
// them.
func (t *tableSet) take() *tableMaps {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.maps.users.Add(1)
	return t.maps
}

// tableUsage is how many bytes a set has.
type tableUsage struct {
	used  int64 // by samplers, or not long ago
	stale int64 // not since
	room  int64 // of the newest maps
}

func (t *tableSet) usage(since time.Time) (u tableUsage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.kept {
		if k.users > 0 || k.left.After(since) {
			u.used += k.bytes
		} else {
			u.stale += k.bytes
		}
	}
	if t.maps != nil {
		u.room = t.maps.bytes()
	}
	return u
}
