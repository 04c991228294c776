// SPDX-License-Identifier: Apache-2.0

// Package queue keeps reports until they were delivered: a bounded queue on the
// disk, so that neither the absence of who takes them nor a crash loses any.
//
// Each item is a file, NUMBER.KIND, written beside its name, flushed and renamed,
// so that it is there whole or not at all when [Queue.Put] has returned. Its
// number is its place. What is read back is checked all the same (item.go).
//
// When there is no more room the oldest summaries go first: they tell of a state
// that later ones tell of too. A result is told of once, so it goes only for
// other results. Each that goes is counted, also over crashes; what is being
// delivered goes last.
//
// Delivery is at least once: an item that was sent and not acknowledged before a
// crash comes again. One process at a time may have a directory; the store
// beside it sees to that.
package queue

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Kind says what an item is.
type Kind string

// The kinds of items.
const (
	Summary Kind = "summary" // a state, of which a later one tells more
	Result  Kind = "result"  // what is told of once
)

var kinds = []Kind{Summary, Result}

// Limits bound a queue; 0 means no limit.
type Limits struct {
	MaxBytes int64 // of all items together
	MaxItems int
}

// Item is one in the queue.
type Item struct {
	ID   uint64 // later ones have greater ones
	Kind Kind
	Data []byte
}

// Queue is an open queue. Its methods may be called from any goroutine.
type Queue struct {
	dir     string
	limits  Limits
	arrived chan struct{}

	mu      sync.Mutex
	entries []entry // oldest first
	next    uint64
	used    int64
	// taken are those that Peek told of and that are neither acknowledged nor
	// told of again.
	taken  map[uint64]bool
	counts counts
}

// entry is an item on the disk.
type entry struct {
	id   uint64
	kind Kind
	size int64 // of its file
}

func (e entry) name() string { return fmt.Sprintf("%020d.%s", e.id, e.kind) }

// parseName is the entry that a file of that name is.
func parseName(name string) (entry, bool) {
	var e entry
	for _, e.kind = range kinds {
		_, err := fmt.Sscanf(name, "%d."+string(e.kind), &e.id)
		if err == nil && e.name() == name {
			return e, true
		}
	}
	return entry{}, false
}

// Open opens the queue that is in a directory, and makes it if it is not there.
// If the limits are lower than they were, what is too much goes.
func Open(dir string, limits Limits) (*Queue, error) {
	q := &Queue{dir: dir, limits: limits, arrived: make(chan struct{}, 1), next: 1, taken: map[uint64]bool{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, q.failed(err)
	}
	if err := os.Remove(filepath.Join(dir, unfinished)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, q.failed(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, q.failed(err)
	}
	for _, f := range files {
		e, ok := parseName(f.Name())
		if !ok || !f.Type().IsRegular() {
			continue // a stranger's
		}
		info, err := f.Info()
		if err != nil {
			return nil, q.failed(err)
		}
		e.size = info.Size()
		q.entries = append(q.entries, e)
		q.used += e.size
		q.next = max(q.next, e.id+1)
	}
	slices.SortFunc(q.entries, func(a, b entry) int { return cmp.Compare(a.id, b.id) })
	if err := q.settle(); err != nil {
		return nil, q.failed(err)
	}
	if len(q.entries) > 0 {
		q.arrived <- struct{}{}
	}
	return q, nil
}

// settle removes what a crash left counted and not removed, and what is beyond
// the limits.
func (q *Queue) settle() (err error) {
	if q.counts, err = readCounts(q.dir); err != nil {
		return err
	}
	going := len(q.counts.Going) > 0
	if going {
		if err := q.discard(q.counts.clone()); err != nil {
			return err
		}
	}
	if _, err := q.makeRoom(nil); err != nil || !going {
		return err
	}
	// Numbers may come again in a queue that was empty.
	if err := syncDir(q.dir); err != nil {
		return err
	}
	return q.counts.write(q.dir)
}

// Put appends an item. If it has no room in a queue of more important ones it is
// counted as dropped, without an error; one that alone is beyond the limits is
// refused (report_too_large). After an error the item is not in the queue.
func (q *Queue) Put(kind Kind, data []byte) error {
	if !slices.Contains(kinds, kind) {
		return fmt.Errorf("an item cannot be a %q", kind)
	}
	b := encode(kind, data)
	q.mu.Lock()
	defer q.mu.Unlock()
	e := entry{q.next, kind, int64(len(b))}
	if q.limits.MaxBytes > 0 && e.size > q.limits.MaxBytes {
		return &session.Error{Code: "report_too_large", Kind: session.ErrTooLarge, Problem: fmt.Sprintf("a report of %d bytes does not fit into a queue of %d", e.size, q.limits.MaxBytes),
			Remedy: "raise the limit of the queue"}
	}
	if fits, err := q.makeRoom(&e); err != nil || !fits {
		return q.failed(err)
	}
	if err := writeFile(q.dir, e.name(), b); err != nil {
		if left := os.Remove(filepath.Join(q.dir, e.name())); left != nil && !errors.Is(left, fs.ErrNotExist) {
			err = errors.Join(err, left)
		}
		return q.failed(err)
	}
	q.next++
	q.entries = append(q.entries, e)
	q.used += e.size
	select {
	case q.arrived <- struct{}{}:
	default:
	}
	return nil
}

// makeRoom drops what has to go so that one more item fits: the oldest
// summaries, and then the oldest results, unless that item is a summary. If all
// that does not suffice, that item goes itself, which is what false says.
func (q *Queue) makeRoom(e *entry) (bool, error) {
	used, items := q.used, len(q.entries)
	if e != nil {
		used, items = used+e.size, items+1
	}
	beyond := func() bool {
		return q.limits.MaxBytes > 0 && used > q.limits.MaxBytes || q.limits.MaxItems > 0 && items > q.limits.MaxItems
	}
	if !beyond() {
		return true, nil
	}
	c := q.counts.clone()
	for _, v := range q.byWorth(e != nil && e.kind == Summary) {
		if !beyond() {
			break
		}
		used, items = used-v.size, items-1
		c.Dropped[v.kind]++
		c.Going = append(c.Going, v.id)
	}
	fits := !beyond()
	if !fits { // all that is in the way is worth more
		c = q.counts.clone()
		c.Dropped[e.kind]++
	}
	return fits, q.discard(c)
}

// byWorth are the items in the order in which they go.
func (q *Queue) byWorth(summariesOnly bool) []entry {
	var all []entry
	for _, taken := range []bool{false, true} {
		for _, kind := range kinds {
			if kind != Summary && summariesOnly {
				continue
			}
			for _, e := range q.entries {
				if e.kind == kind && q.taken[e.id] == taken {
					all = append(all, e)
				}
			}
		}
	}
	return all
}

// discard removes the items that go, once they are counted.
func (q *Queue) discard(c counts) error {
	if err := c.write(q.dir); err != nil {
		return err
	}
	// From here on they are gone, even those whose files cannot be removed now.
	var errs []error
	going := c.Going
	c.Going = nil
	for _, id := range going {
		name := q.forget(id)
		if name == "" {
			continue
		}
		if err := os.Remove(filepath.Join(q.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			c.Going = append(c.Going, id)
		}
	}
	q.counts = c
	return errors.Join(errs...)
}

// forget takes an item off the list, and names its file; "" if it is not there.
func (q *Queue) forget(id uint64) string {
	i, found := q.find(id)
	if !found {
		return ""
	}
	e := q.entries[i]
	q.entries = slices.Delete(q.entries, i, i+1)
	q.used -= e.size
	delete(q.taken, id)
	return e.name()
}

func (q *Queue) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(q.entries, id, func(e entry, id uint64) int { return cmp.Compare(e.id, id) })
}

// Peek tells of the oldest items and leaves them where they are: what was
// delivered is to be acknowledged, the rest comes again. It tells of so many
// items at most, and of so many bytes of data unless the first one alone has
// more. Items that cannot be read back are removed and counted as damaged.
func (q *Queue) Peek(most int, bytes int64) ([]Item, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.taken)
	var items []Item
	c := q.counts.clone()
	for _, e := range q.entries {
		if len(items) == most {
			break
		}
		data, err := q.read(e)
		if errors.Is(err, errDamaged) {
			c.Damaged++
			c.Going = append(c.Going, e.id)
			continue
		}
		if err != nil {
			return nil, q.failed(err)
		}
		if bytes -= int64(len(data)); bytes < 0 && len(items) > 0 {
			break
		}
		items = append(items, Item{e.id, e.kind, data})
	}
	if len(c.Going) > len(q.counts.Going) {
		if err := q.discard(c); err != nil {
			return nil, q.failed(err)
		}
	}
	for _, item := range items {
		q.taken[item.ID] = true
	}
	return items, nil
}

// read is the data of an item.
func (q *Queue) read(e entry) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(q.dir, e.name()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	return decode(b, e.kind)
}

// Ack removes items that were delivered. It is no error if one is gone already.
func (q *Queue) Ack(ids ...uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range ids {
		i, found := q.find(id)
		if !found {
			continue
		}
		if err := os.Remove(filepath.Join(q.dir, q.entries[i].name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return q.failed(err) // it comes again
		}
		q.forget(id)
	}
	return nil
}

// Arrived has an element when something was put into the queue since the last
// one was taken, or lay there when it was opened.
func (q *Queue) Arrived() <-chan struct{} { return q.arrived }

// Stats are the counts of a queue.
type Stats struct {
	Items   int
	Bytes   int64
	Dropped map[Kind]uint64 // ever, for lack of room
	Damaged uint64          // ever: could not be read back
}

// Stats counts.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Stats{Items: len(q.entries), Bytes: q.used, Dropped: q.counts.clone().Dropped, Damaged: q.counts.Damaged}
}

// failed makes of an error of the file system one that says what to do.
func (q *Queue) failed(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &session.Error{Code: "disk_full", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("there is no room on the disk of %s", q.dir), Cause: err,
			Remedy: "make room, or name a data directory on another disk"}
	}
	return &session.Error{Code: "queue_unavailable", Kind: session.ErrUnavailable, Problem: "reports cannot be kept or read", Cause: err,
		Remedy: fmt.Sprintf("see that this program may write to %s, and that its disk works", q.dir)}
}
