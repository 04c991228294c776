// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
)

// openKeyed opens a file as a session does.
func openKeyed(t testing.TB, path string) (*object.File, Key) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	id, err := process.IdentifyFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := object.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, KeyOf(f, id)
}

// someObjects are files of this machine that have tables.
func someObjects(t testing.TB) []string {
	t.Helper()
	var paths []string
	for _, name := range []string{"sh", "ls", "cp", "sort", "grep", "sed"} {
		if p, err := exec.LookPath(name); err == nil {
			paths = append(paths, p)
		}
	}
	if len(paths) < 4 {
		t.Fatalf("this machine has only %q", paths)
	}
	return paths
}

func TestCache(t *testing.T) {
	c := NewCache(64 << 20)
	for range 3 {
		for _, p := range someObjects(t) {
			f, key := openKeyed(t, p)
			got, err := c.Tables(f, key)
			if err != nil {
				t.Fatal(err)
			}
			want, _, err := Build(f)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(want) || !slices.Equal(slices.Collect(got[0].Rows()), want[0].Rows) {
				t.Errorf("%s: the cache gives other tables than Build", p)
			}
		}
	}
	if s := c.Stats(); s.Builds != s.Objects || s.Bytes == 0 {
		t.Errorf("%+v: want each object built once", s)
	}
	var none *Cache
	f, key := openKeyed(t, "/bin/sh")
	if tables, err := none.Tables(f, key); err != nil || len(tables) == 0 {
		t.Errorf("no cache: %d tables, %v", len(tables), err)
	}
}

// What was used longest ago goes, and never more is kept than the limit.
func TestCacheBounded(t *testing.T) {
	paths := someObjects(t)
	sizes := make([]int64, len(paths))
	for i, p := range paths {
		c := NewCache(64 << 20)
		f, key := openKeyed(t, p)
		if _, err := c.Tables(f, key); err != nil {
			t.Fatal(err)
		}
		sizes[i] = c.Stats().Bytes
	}
	limit := sizes[0] + sizes[1] + sizes[2] - 1
	c := NewCache(limit)
	use := func(i int) (built bool) {
		before := c.Stats().Builds
		f, key := openKeyed(t, paths[i])
		if _, err := c.Tables(f, key); err != nil {
			t.Fatal(err)
		}
		s := c.Stats()
		if s.Bytes > limit {
			t.Errorf("%d bytes are kept, the limit is %d", s.Bytes, limit)
		}
		return s.Builds > before
	}
	use(0)
	use(1)
	if use(0) {
		t.Error("built again although there was room")
	}
	use(2)
	if use(0) && sizes[0]+sizes[2] <= limit {
		t.Error("what was used lately is gone")
	}
	if !use(1) {
		t.Error("what was used longest ago is still there")
	}
	tiny := NewCache(entryBytes)
	f, key := openKeyed(t, paths[0])
	got, err := tiny.Tables(f, key)
	if err != nil || len(got) == 0 || tiny.Stats().Objects != 0 {
		t.Fatalf("bigger than the cache: %d tables, %v, %+v", len(got), err, tiny.Stats())
	}
	want, _, err := Build(f)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // rows that are not written out can be read again, and in part
		if rows := slices.Collect(got[0].Rows()); !slices.Equal(rows, want[0].Rows) {
			t.Errorf("%d rows of a table that is bigger than the cache, want %d, or others", len(rows), len(want[0].Rows))
		}
		for r := range got[0].Rows() {
			if r != want[0].Rows[0] {
				t.Errorf("the first row is %v, want %v", r, want[0].Rows[0])
			}
			break
		}
	}
}

// Many sessions at once build each table once, and an error is nobody else's.
func TestCacheConcurrent(t *testing.T) {
	paths := someObjects(t)
	c := NewCache(64 << 20)
	small := NewCache(200 << 10) // evicts all the time
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 3 * len(paths) {
				p := paths[(i+n)%len(paths)]
				f, key := openKeyed(t, p)
				a, err1 := c.Tables(f, key)
				b, err2 := small.Tables(f, key)
				if err1 != nil || err2 != nil || !slices.Equal(a[0].Table().Rows, b[0].Table().Rows) {
					t.Errorf("%s: %v, %v, or different tables", p, err1, err2)
				}
			}
		})
	}
	all.Wait()
	if s := c.Stats(); s.Builds != s.Objects {
		t.Errorf("%+v: want each object built once", s)
	}
	if s := small.Stats(); s.Bytes > 200<<10 {
		t.Errorf("%+v", s)
	}
}

// A file without a build ID is known by its inode and time: what others call
// its ID does not see a change in the middle.
func TestCacheWithoutBuildID(t *testing.T) {
	if _, err := exec.LookPath("objcopy"); err != nil {
		missing(t, err)
	}
	dir := t.TempDir()
	keys := map[Key]bool{}
	for _, name := range []string{"a", "b"} {
		p := filepath.Join(dir, name)
		if out, err := exec.Command("objcopy", "--remove-section=.note.gnu.build-id", "/bin/ls", p).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		_, key := openKeyed(t, p)
		keys[key] = true
	}
	if len(keys) != 2 {
		t.Errorf("two files without a build ID have one key: %v", keys)
	}
	_, one := openKeyed(t, "/bin/ls")
	copied := filepath.Join(dir, "copy")
	if out, err := exec.Command("cp", "/bin/ls", copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, two := openKeyed(t, copied); one != two {
		t.Error("a copy with the same build ID has another key")
	}
}
