// SPDX-License-Identifier: Apache-2.0

package debugfile

import (
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// answers is a debuginfod on loopback, whose answers a test decides on.
type answers struct {
	*httptest.Server
	asked atomic.Int32
	last  atomic.Value // the latest path
}

func serve(t *testing.T, answer http.HandlerFunc) *answers {
	t.Helper()
	a := &answers{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked.Add(1)
		a.last.Store(r.URL.Path)
		answer(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

// content is the debug file of the fixture's program.
func (f *fixture) content(name string) []byte {
	f.t.Helper()
	b, err := os.ReadFile(filepath.Join(f.work, name))
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// asking are the options to ask a server.
func asking(t *testing.T, urls ...string) Options {
	t.Helper()
	return Options{Servers: ServerOptions{URLs: urls, Cache: Cache{Dir: filepath.Join(t.TempDir(), "a", "cache")}}}
}

func TestServer(t *testing.T) {
	f := newFixture(t)
	debug := f.content("program.debug")
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"plain", func(w http.ResponseWriter, r *http.Request) { w.Write(debug) }},
		{"in pieces, of no known length", func(w http.ResponseWriter, r *http.Request) {
			for len(debug) > 0 && r.Context().Err() == nil {
				n := min(1000, len(debug))
				w.Write(debug[:n])
				w.(http.Flusher).Flush()
				debug = debug[n:]
			}
			debug = f.content("program.debug")
		}},
		{"compressed on the way", func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				t.Error("it does not take gzip")
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(debug)
			z.Close()
		}},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, "/elsewhere") {
				http.Redirect(w, r, "/elsewhere"+r.URL.Path, http.StatusFound)
				return
			}
			w.Write(debug)
		}},
	} {
		s := serve(t, c.answer)
		o := asking(t, s.URL+"/base/")
		d, err := f.finder(o).Find(f.object())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if d.File.BuildID() != f.object().File.BuildID() || d.File.Section(".debug_info") == nil {
			t.Errorf("%s: build ID %s", c.name, d.File.BuildID())
		}
		d.File.Close()
		want := "/base/buildid/" + string(d.File.BuildID()) + "/debuginfo"
		if got := s.last.Load().(string); !strings.HasSuffix(got, want) {
			t.Errorf("%s: asked for %s, want %s", c.name, got, want)
		}
		// The second session finds it in the cache.
		before := s.asked.Load()
		if d, err = f.finder(o).Find(f.object()); err != nil {
			t.Errorf("%s, cached: %v", c.name, err)
			continue
		}
		d.File.Close()
		if s.asked.Load() != before {
			t.Errorf("%s: asked again for what is cached", c.name)
		}
		f.private(o.Servers.Cache.Dir)
	}
}

// private wants nobody else to be able to read the cache.
func (f *fixture) private(dir string) {
	f.t.Helper()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		f.t.Errorf("the cache is %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		f.t.Errorf("%d files in the cache, %v, want one", len(entries), err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			f.t.Errorf("%s is %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

func TestServerRefused(t *testing.T) {
	f := newFixture(t)
	debug := f.content("program.debug")
	other := newFixture(t)
	other.run("gcc -g -O1 -DMARK=2 -o program program.c")
	wrong := other.content("program")
	release := make(chan struct{})
	for _, c := range []struct {
		name, why string
		answer    http.HandlerFunc
	}{
		{"nothing there", "no file of this build ID", http.NotFound},
		{"broken", "500 Internal Server Error", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }},
		{"of another build", "it is of another build", func(w http.ResponseWriter, r *http.Request) { w.Write(wrong) }},
		{"not ELF", "not a valid ELF file", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>who are you?</html>") }},
		{"empty", "not a valid ELF file", func(w http.ResponseWriter, r *http.Request) {}},
		{"stripped", "neither symbols nor debug information", func(w http.ResponseWriter, r *http.Request) { w.Write(f.content("stripped")) }},
		{"cut, which its length tells", "unexpected EOF", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(debug)))
			w.Write(debug[:len(debug)/2])
		}},
		{"cut, and nothing tells", "neither symbols nor debug information", func(w http.ResponseWriter, r *http.Request) { w.Write(debug[:len(debug)-100]) }},
		{"too big, as it says", "the file is too big", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(2<<20))
			w.Write(make([]byte, 2<<20))
		}},
		{"too big, and it does not say", "the file is too big", func(w http.ResponseWriter, r *http.Request) {
			for range 64 {
				w.Write(make([]byte, 64<<10))
			}
		}},
		{"too big when decompressed", "the file is too big", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			z.Write(make([]byte, 64<<20))
			z.Close()
		}},
		{"redirected for ever", "redirected more than 3 times", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}},
		{"redirected to a file", "unsupported protocol scheme", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}},
		{"silent", "it took too long", func(w http.ResponseWriter, r *http.Request) { <-release }},
		{"silent in the middle", "it took too long", func(w http.ResponseWriter, r *http.Request) {
			w.Write(debug[:100])
			w.(http.Flusher).Flush()
			<-release
		}},
	} {
		s := serve(t, c.answer)
		o := asking(t, s.URL)
		o.Servers.MaxFile = 1 << 20
		if strings.HasPrefix(c.name, "silent") {
			o.Servers.Time = 300 * time.Millisecond
		}
		finder := f.finder(o)
		for range 2 {
			d, err := finder.Find(f.object())
			if err == nil {
				t.Errorf("%s: found %v", c.name, d)
			} else if !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "debuginfod at 127.0.0.1:") {
				t.Errorf("%s: %v, want %q", c.name, err, c.why)
			}
		}
		if n := s.asked.Load(); n > maxRedirects+1 {
			t.Errorf("%s: asked %d times", c.name, n)
		}
		if entries, err := os.ReadDir(o.Servers.Cache.Dir); len(entries) > 0 {
			t.Errorf("%s: %v is left in the cache, %v", c.name, entries[0], err)
		}
	}
	close(release)
}

// A server that is down, or has nothing, leaves it to the next; one that is
// slow does not take all of the time.
func TestServersInOrder(t *testing.T) {
	f := newFixture(t)
	release := make(chan struct{})
	defer close(release)
	slow := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	empty := serve(t, http.NotFound)
	down := serve(t, http.NotFound)
	down.Close()
	good := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(f.content("program.debug")) })
	o := asking(t, down.URL, empty.URL, slow.URL, good.URL)
	o.Servers.Time = 8 * time.Second
	d, err := f.finder(o).Find(f.object())
	if err != nil {
		t.Fatal(err)
	}
	d.File.Close()
	if empty.asked.Load() != 1 || slow.asked.Load() != 1 || good.asked.Load() != 1 {
		t.Errorf("asked %d, %d and %d times", empty.asked.Load(), slow.asked.Load(), good.asked.Load())
	}
}

// What is on a disk is not asked for; what has no build ID cannot be.
func TestServerUnneeded(t *testing.T) {
	s := serve(t, http.NotFound)
	f := newFixture(t)
	f.put("program.debug", f.idPath("usr/lib/debug"))
	f.found("by build ID", f.object(), asking(t, s.URL), f.idPath("/usr/lib/debug"))
	f = newFixture(t)
	f.withoutID()
	if _, err := f.finder(asking(t, s.URL)).Find(f.object()); err == nil {
		t.Error("found something")
	}
	if n := s.asked.Load(); n != 0 {
		t.Errorf("asked %d times", n)
	}
}

// numbered is a debug file with a build ID of one's own.
func (f *fixture) numbered(id profile.BuildID) []byte {
	f.t.Helper()
	f.run("gcc -g -O1 -DMARK=1 -Wl,--build-id=0x" + string(id) + " -o numbered program.c")
	return f.content("numbered")
}

func TestCache(t *testing.T) {
	f := newFixture(t)
	one := f.numbered("0101")
	dir := filepath.Join(t.TempDir(), "cache")
	c := Cache{Dir: dir, MaxBytes: int64(len(one))*2 + 100}
	add := func(id profile.BuildID) {
		t.Helper()
		b := f.numbered(id)
		o, err := c.add(id, func(to *os.File) error { _, err := to.Write(b); return err })
		if err != nil {
			t.Fatal(err)
		}
		o.Close()
	}
	has := func(id profile.BuildID) bool {
		o := c.open(id)
		if o == nil {
			return false
		}
		o.Close()
		return true
	}
	add("0101")
	add("0202")
	// 0101 was added first, but 0202 is what was not used for longest.
	old := time.Now().Add(-time.Hour)
	for _, id := range []string{"0101", "0202"} {
		if err := os.Chtimes(filepath.Join(dir, id+cacheSuffix), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if !has("0101") {
		t.Fatal("0101 is gone")
	}
	add("0303")
	if has("0202") || !has("0101") || !has("0303") {
		t.Errorf("after one too many: %v %v %v", has("0101"), has("0202"), has("0303"))
	}
	// What somebody else has put there, or has spoiled, is not used.
	f.write(filepath.Join(dir, "0404"+cacheSuffix), "spoiled")
	if err := os.Rename(filepath.Join(dir, "0101"+cacheSuffix), filepath.Join(dir, "0505"+cacheSuffix)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "0303"+cacheSuffix), filepath.Join(dir, "0606"+cacheSuffix)); err != nil {
		t.Fatal(err)
	}
	if has("0404") || has("0505") || has("0606") {
		t.Error("used what is not what it is called")
	}
	// What was left unfinished long ago goes, what somebody writes now stays.
	for _, name := range []string{"old", "new"} {
		f.write(filepath.Join(dir, name+partSuffix), "unfinished")
	}
	if err := os.Chtimes(filepath.Join(dir, "old"+partSuffix), old.Add(-partAge), old.Add(-partAge)); err != nil {
		t.Fatal(err)
	}
	c.shrink(dir)
	if _, err := os.Stat(filepath.Join(dir, "old"+partSuffix)); err == nil {
		t.Error("an old unfinished file stays")
	}
	if _, err := os.Stat(filepath.Join(dir, "new"+partSuffix)); err != nil {
		t.Error(err)
	}
	// Nothing of what fails stays.
	before, _ := os.ReadDir(dir)
	if _, err := c.add("0707", func(to *os.File) error { to.Write(one); return os.ErrDeadlineExceeded }); err == nil {
		t.Error("no error")
	}
	if _, err := c.add("0707", func(to *os.File) error { _, err := to.Write(one); return err }); err == nil {
		t.Error("took a file of another build ID")
	}
	if after, _ := os.ReadDir(dir); len(after) != len(before) {
		t.Errorf("%d files, %d before", len(after), len(before))
	}
}

func TestServerURLs(t *testing.T) {
	for _, c := range []struct {
		url string
		ok  bool
	}{
		{"https://debuginfod.example.org", true}, {"http://127.0.0.1:8002/base", true},
		{"debuginfod.example.org", false}, {"file:///etc", false}, {"https://", false}, {"http://[", false}, {"", false},
	} {
		o := ServerOptions{URLs: []string{c.url}}
		if err := o.Validate(); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.url, err)
		}
	}
}
