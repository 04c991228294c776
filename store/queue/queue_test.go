// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/carverauto/serviceradar-profiler/session"
)

func opened(t *testing.T, dir string, limits Limits) *Queue {
	t.Helper()
	q, err := Open(dir, limits)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func put(t *testing.T, q *Queue, kind Kind, data ...string) {
	t.Helper()
	for _, d := range data {
		if err := q.Put(kind, []byte(d)); err != nil {
			t.Fatal(err)
		}
	}
}

// holds checks what is in the queue, in order.
func holds(t *testing.T, q *Queue, want ...string) []Item {
	t.Helper()
	items, err := q.Peek(math.MaxInt, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, item := range items {
		got = append(got, string(item.Data))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the queue has %q, not %q", got, want)
	}
	s := q.Stats()
	if s.Items != len(want) || s.Bytes != onDisk(t, q.dir) {
		t.Errorf("%d items of %d bytes are counted, and there are %d of %d", s.Items, s.Bytes, len(want), onDisk(t, q.dir))
	}
	return items
}

func onDisk(t *testing.T, dir string) (n int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := parseName(e.Name()); ok {
			n += info.Size()
		}
	}
	return n
}

func dropped(t *testing.T, q *Queue, summaries, results, damaged uint64) {
	t.Helper()
	s := q.Stats()
	if s.Dropped[Summary] != summaries || s.Dropped[Result] != results || s.Damaged != damaged {
		t.Errorf("the counts are %+v, not %d, %d and %d", s, summaries, results, damaged)
	}
}

func TestInOrder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "anew")
	q := opened(t, dir, Limits{})
	holds(t, q)
	put(t, q, Summary, "one", "two")
	put(t, q, Result, "three", "")
	put(t, q, Summary, strings.Repeat("five", 100_000))
	for range 2 {
		items := holds(t, q, "one", "two", "three", "", strings.Repeat("five", 100_000))
		if items[1].Kind != Summary || items[2].Kind != Result || items[0].ID >= items[1].ID {
			t.Errorf("%v %v", items[1].Kind, items[2].Kind)
		}
		q = opened(t, dir, Limits{})
	}
	items := holds(t, q, "one", "two", "three", "", strings.Repeat("five", 100_000))
	for range 2 { // the second time they are gone already
		if err := q.Ack(items[0].ID, items[2].ID); err != nil {
			t.Fatal(err)
		}
		holds(t, q, "two", "", strings.Repeat("five", 100_000))
	}
	q = opened(t, dir, Limits{})
	put(t, q, Result, "six")
	for _, item := range holds(t, q, "two", "", strings.Repeat("five", 100_000), "six") {
		if err := q.Ack(item.ID); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, q)
	holds(t, opened(t, dir, Limits{}))
	dropped(t, q, 0, 0, 0)
}

func TestPeekSome(t *testing.T) {
	q := opened(t, t.TempDir(), Limits{})
	put(t, q, Result, "12345", "678", "9", "0123456789")
	for _, c := range []struct {
		items int
		bytes int64
		want  int
	}{{0, 100, 0}, {1, 100, 1}, {3, 100, 3}, {100, 100, 4}, {100, 9, 3}, {100, 8, 2}, {100, 7, 1}, {100, 5, 1}, {100, 4, 1}, {100, 0, 1}} {
		items, err := q.Peek(c.items, c.bytes)
		if err != nil || len(items) != c.want {
			t.Errorf("of %d items and %d bytes there are %d, not %d: %v", c.items, c.bytes, len(items), c.want, err)
		}
	}
}

func TestArrived(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Limits{})
	select {
	case <-q.Arrived():
		t.Error("something arrived in an empty queue")
	default:
	}
	put(t, q, Summary, "a", "b") // nobody takes notice: Put does not wait
	<-q.Arrived()
	<-opened(t, dir, Limits{}).Arrived()
}

// The oldest summaries go first, then the oldest results; a summary does not
// drive out a result.
func TestBounds(t *testing.T) {
	for what, limits := range map[string]Limits{"items": {MaxItems: 4}, "bytes": {MaxBytes: int64(4 * len(encode(Summary, []byte("s1"))))}} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			q := opened(t, dir, limits)
			put(t, q, Summary, "s1")
			put(t, q, Result, "r1")
			put(t, q, Summary, "s2", "s3")
			put(t, q, Result, "r2")
			holds(t, q, "r1", "s2", "s3", "r2")
			put(t, q, Summary, "s4")
			holds(t, q, "r1", "s3", "r2", "s4")
			q = opened(t, dir, limits)
			dropped(t, q, 2, 0, 0)
			put(t, q, Result, "r3", "r4")
			holds(t, q, "r1", "r2", "r3", "r4")
			put(t, q, Summary, "s5")
			holds(t, q, "r1", "r2", "r3", "r4")
			dropped(t, q, 5, 0, 0)
			put(t, q, Result, "r5")
			holds(t, q, "r2", "r3", "r4", "r5")
			q = opened(t, dir, limits)
			dropped(t, q, 5, 1, 0)
			// Lower limits than before.
			limits.MaxBytes, limits.MaxItems = limits.MaxBytes/2, limits.MaxItems/2
			q = opened(t, dir, limits)
			holds(t, q, "r4", "r5")
			dropped(t, q, 5, 3, 0)
		})
	}
}

// What is being delivered stays as long as something else can go.
func TestTaken(t *testing.T) {
	q := opened(t, t.TempDir(), Limits{MaxItems: 3})
	put(t, q, Summary, "s1", "s2", "s3")
	if _, err := q.Peek(2, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	put(t, q, Summary, "s4", "s5")
	holds(t, q, "s1", "s2", "s5") // and now all are
	put(t, q, Summary, "s6")
	items := holds(t, q, "s2", "s5", "s6")
	if err := q.Ack(items[0].ID - 1); err != nil { // one that is gone
		t.Error(err)
	}
	dropped(t, q, 3, 0, 0)
}

func TestTooLarge(t *testing.T) {
	q := opened(t, t.TempDir(), Limits{MaxBytes: 100})
	put(t, q, Result, "stays")
	var e *session.Error
	if err := q.Put(Result, make([]byte, 100)); !errors.As(err, &e) || e.Code != "report_too_large" || !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("beyond the limit: %v", err)
	}
	if err := q.Put("odd", nil); err == nil {
		t.Error("an item of an odd kind was taken")
	}
	holds(t, q, "stays")
	dropped(t, q, 0, 0, 0)
}

// What cannot be read back is counted, and does not hold up the others.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Limits{})
	const n = 8
	for i := range n {
		put(t, q, Result, fmt.Sprint("item ", i))
	}
	file := func(i int) string { return filepath.Join(dir, entry{id: uint64(i + 1), kind: Result}.name()) }
	change := func(i int, f func(b []byte) []byte) {
		b, err := os.ReadFile(file(i))
		if err == nil {
			err = os.WriteFile(file(i), f(b), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	change(0, func(b []byte) []byte { return nil })
	change(1, func(b []byte) []byte { return b[:len(b)-1] })
	change(2, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	change(3, func(b []byte) []byte { b[4] = 's'; return b })
	change(4, func(b []byte) []byte { return append(b, 'x') })
	if err := os.Remove(file(5)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "stranger"), []byte("stays"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, unfinished), []byte("goes"), 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, q, "item 6", "item 7")
	dropped(t, q, 0, 0, 6)
	q = opened(t, dir, Limits{})
	holds(t, q, "item 6", "item 7")
	dropped(t, q, 0, 0, 6)
	if _, err := os.Stat(filepath.Join(dir, "stranger")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, unfinished)); err == nil {
		t.Error("what was not finished is still there")
	}
	if err := os.WriteFile(filepath.Join(dir, countsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	dropped(t, opened(t, dir, Limits{}), 0, 0, 1)
}

// A crash between the count and the removal: each is counted once, and is gone.
func TestCountedAndThere(t *testing.T) {
	dir := t.TempDir()
	q := opened(t, dir, Limits{})
	put(t, q, Result, "one", "two")
	c := q.counts.clone()
	c.Dropped[Result]++
	c.Going = []uint64{1}
	if err := c.write(dir); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		q = opened(t, dir, Limits{})
		items := holds(t, q, "two")
		dropped(t, q, 0, 1, 0)
		if err := q.Ack(items[0].ID); err != nil {
			t.Fatal(err)
		}
		q = opened(t, dir, Limits{})
		put(t, q, Result, "two") // under the number of one that had to go
	}
}

func TestAtOnce(t *testing.T) {
	q := opened(t, t.TempDir(), Limits{MaxItems: 50})
	const putters, each = 8, 25
	var wg sync.WaitGroup
	for i := range putters {
		wg.Go(func() {
			for n := range each {
				if err := q.Put(kinds[n%2], []byte(fmt.Sprint(i, " ", n))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	seen, onTheWay := map[string]bool{}, uint64(0)
	for last := false; !last; {
		select {
		case <-q.Arrived():
		case <-done:
			last = true
		}
		items, err := q.Peek(7, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		if !last { // nobody puts any more
			onTheWay += uint64(len(items))
		}
		for _, item := range items {
			if seen[string(item.Data)] {
				t.Errorf("%q came twice", item.Data)
			}
			seen[string(item.Data)] = true
			if err := q.Ack(item.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := q.Stats()
	n := uint64(len(seen)+s.Items) + s.Dropped[Summary] + s.Dropped[Result]
	if n < putters*each || n > putters*each+onTheWay {
		t.Errorf("%d were taken, and the counts are %+v: not %d together, nor with the %d that may have been dropped between being looked at and being taken", len(seen), s, putters*each, onTheWay)
	}
}

func FuzzDecode(f *testing.F) {
	for _, k := range kinds {
		f.Add(encode(k, nil))
		f.Add(encode(k, []byte("data")))
	}
	f.Add([]byte(`{"dropped":{"result":1},"going":[1,2]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, k := range kinds {
			data, err := decode(b, k)
			if err == nil && !bytes.Equal(encode(k, data), b) {
				t.Errorf("%q is taken for a %s of %q", b, k, data)
			}
			if err != nil && !errors.Is(err, errDamaged) {
				t.Error(err)
			}
		}
		if e, ok := parseName(string(b)); ok && e.name() != string(b) {
			t.Errorf("%q is taken for %s", b, e.name())
		}
		parseCounts(b).clone()
	})
}
