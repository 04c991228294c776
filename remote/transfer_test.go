// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
)

// shelf is a runner that has one finished profile, in a file, and one session
// that runs for as long as is wanted.
type shelf struct {
	session.Runner
	path   string
	digest string
	size   int64

	mu      sync.Mutex
	offsets []int64 // at which was fetched
	read    atomic.Int64
	closed  chan struct{} // a value for each body that was closed
	ticks   chan session.Session
	watches atomic.Int32
}

// newShelf has a profile of so many bytes, none of which repeat.
func newShelf(t testing.TB, size int64) *shelf {
	t.Helper()
	path := filepath.Join(t.TempDir(), "profile")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, sum), rand.NewChaCha8([32]byte{1}), size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return shelfOf(path, hex.EncodeToString(sum.Sum(nil)), size)
}

func shelfOf(path, digest string, size int64) *shelf {
	return &shelf{path: path, digest: digest, size: size, closed: make(chan struct{}, 100), ticks: make(chan session.Session)}
}

func (s *shelf) Fetch(_ context.Context, _ session.ID, want session.Want) (*session.Content, error) {
	s.mu.Lock()
	s.offsets = append(s.offsets, want.Offset)
	s.mu.Unlock()
	if want.Digest != "" && want.Digest != s.digest {
		return nil, &session.Error{Code: "content_gone", Kind: session.ErrNotFound, Problem: "there is other content by now", Remedy: "fetch it from the beginning"}
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(want.Offset, io.SeekStart); err != nil {
		return nil, err
	}
	return &session.Content{Format: session.FormatPprof, Size: s.size, Offset: want.Offset, Digest: s.digest, Body: &openProfile{f, s}}, nil
}

// openProfile tells the shelf how much was read of a body, and when it was closed.
type openProfile struct {
	*os.File
	shelf *shelf
}

func (c *openProfile) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	c.shelf.read.Add(int64(n))
	return n, err
}

func (c *openProfile) Close() error {
	c.shelf.closed <- struct{}{}
	return c.File.Close()
}

// Watch tells whatever ticks, to whoever watches.
func (s *shelf) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) {
		s.watches.Add(1)
		defer s.watches.Add(-1)
		if !yield(session.Session{ID: id, State: session.StateRunning}, nil) {
			return
		}
		for {
			select {
			case <-ctx.Done():
				yield(session.Session{}, ctx.Err())
				return
			case now := <-s.ticks:
				if !yield(now, nil) || now.State.Final() {
					return
				}
			}
		}
	}
}

// cutter hands connections on to a server, and cuts them after so many bytes
// from there: the first one after the first figure, and so on. Later ones are
// left alone.
type cutter struct {
	net.Listener
	backend string
	after   []int64
	cut     atomic.Int32

	mu    sync.Mutex
	conns []net.Conn
}

func newCutter(t testing.TB, backend string, after ...int64) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, backend: backend, after: after}
	t.Cleanup(func() {
		l.Close()
		c.cutAll()
	})
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			most := int64(1) << 62
			if n < len(after) {
				most = after[n]
			}
			go c.forward(conn, most)
		}
	}()
	return c
}

func (c *cutter) forward(near net.Conn, most int64) {
	defer near.Close()
	far, err := net.Dial("tcp", c.backend)
	if err != nil {
		return
	}
	defer far.Close()
	c.mu.Lock()
	c.conns = append(c.conns, near, far)
	c.mu.Unlock()
	go func() {
		io.Copy(far, near)
		far.Close()
	}()
	if n, _ := io.CopyN(near, far, most); n == most {
		c.cut.Add(1)
		far.Close()
		near.(*net.TCPConn).CloseWrite() // a reset would take from the client what it did not read yet
		io.Copy(io.Discard, near)
	}
}

// cutAll cuts what there is.
func (c *cutter) cutAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// cutClient is a client of a shelf, over mTLS through a cutter.
func cutClient(t testing.TB, s *shelf, after ...int64) (*Client, *cutter) {
	t.Helper()
	dir := certificates(t)
	address := listen(t, dir, func(g *grpc.Server) { NewServer(s, 0).Register(g) })
	cutter := newCutter(t, address, after...)
	return dialed(t, cutter.Addr().String(), clientCredentials(t, auth.Identity(dir, "admin"), address)), cutter
}

// A transfer that is cut goes on where it was, as often as needed, and what
// arrives is whole.
func TestCutAndResumed(t *testing.T) {
	s := newShelf(t, 8<<20)
	client, cutter := cutClient(t, s, 1<<20, 3<<20, 100, 2<<20)
	content, err := client.Fetch(t.Context(), "x", session.Want{})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, content.Body)
	if err != nil || n != s.size || hex.EncodeToString(sum.Sum(nil)) != s.digest {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := content.Body.Close(); err != nil {
		t.Error(err)
	}
	if cutter.cut.Load() != 4 {
		t.Errorf("cut %d times", cutter.cut.Load())
	}
	if len(s.offsets) < 4 || s.offsets[1] < 512<<10 || s.offsets[2] < s.offsets[1]+1<<20 {
		t.Errorf("fetched from %v: what had arrived was sent again", s.offsets)
	}
	for range s.offsets { // nothing stays open at the server
		<-s.closed
	}
}

// Who has the front already is sent the rest.
func TestFetchTheRest(t *testing.T) {
	s := newShelf(t, 1<<20)
	client, _ := cutClient(t, s)
	content, err := client.Fetch(t.Context(), "x", session.Want{Offset: 1<<20 - 7, Digest: s.digest})
	if err != nil {
		t.Fatal(err)
	}
	defer content.Body.Close()
	if b, err := io.ReadAll(content.Body); err != nil || len(b) != 7 || content.Offset != 1<<20-7 {
		t.Errorf("%d bytes from %d: %v", len(b), content.Offset, err)
	}
	_, err = client.Fetch(t.Context(), "x", session.Want{Offset: 7, Digest: digestOf("other")})
	var e *session.Error
	if !errors.As(err, &e) || e.Code != "content_gone" {
		t.Error(err)
	}
}

// A server that does not come back is an error, after a while, and not an end.
func TestCutForGood(t *testing.T) {
	s := newShelf(t, 4<<20)
	client, cutter := cutClient(t, s, 1<<20)
	client.resumeFor = 200 * time.Millisecond
	content, err := client.Fetch(t.Context(), "x", session.Want{})
	if err != nil {
		t.Fatal(err)
	}
	defer content.Body.Close()
	cutter.Close()
	_, err = io.Copy(io.Discard, content.Body)
	var e *session.Error
	if !errors.As(err, &e) || e.Code != "unreachable" && e.Code != "connection_lost" {
		t.Error(err)
	}
	if _, again := content.Body.Read(make([]byte, 1)); again != err {
		t.Errorf("then %v", again)
	}
}

// A reader that is slow keeps the server waiting, with little in between.
func TestSlowReader(t *testing.T) {
	s := newShelf(t, 16<<20)
	client, _ := cutClient(t, s)
	content, err := client.Fetch(t.Context(), "x", session.Want{})
	if err != nil {
		t.Fatal(err)
	}
	defer content.Body.Close()
	const most = window + 4*DefaultChunkSize
	var have int64
	buf := make([]byte, 1<<20)
	for have < s.size {
		for range 10 { // if the server went on meanwhile, it would be far ahead
			if ahead := s.read.Load() - have; ahead > most {
				t.Fatalf("the server is %d bytes ahead", ahead)
			}
			time.Sleep(2 * time.Millisecond)
		}
		n, err := io.ReadFull(content.Body, buf)
		if err != nil {
			t.Fatal(err)
		}
		have += int64(n)
	}
}

// Closing a body early ends the call at the server, also while somebody reads.
func TestCloseEarly(t *testing.T) {
	s := newShelf(t, 8<<20)
	client, _ := cutClient(t, s)
	content, err := client.Fetch(t.Context(), "x", session.Want{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(content.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := content.Body.Close(); err != nil {
		t.Fatal(err)
	}
	<-s.closed
	if _, err := io.Copy(io.Discard, content.Body); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("reading after Close: %v", err)
	}
	if len(s.offsets) != 1 {
		t.Errorf("fetched from %v", s.offsets)
	}
}

// A watcher survives a cut, and is told the end.
func TestWatchGoesOn(t *testing.T) {
	s := newShelf(t, 1)
	client, cutter := cutClient(t, s)
	var seen []session.State
	for now, err := range client.Watch(t.Context(), "x") {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, now.State)
		switch len(seen) {
		case 1, 2:
			cutter.cutAll()
		case 3:
			go func() {
				s.ticks <- session.Session{ID: "x", State: session.StateRunning, Progress: session.Progress{Samples: 7}}
				s.ticks <- session.Session{ID: "x", State: session.StateSucceeded}
			}()
		case 4:
			if now.Progress.Samples != 7 {
				t.Errorf("%+v", now)
			}
		}
	}
	if len(seen) != 5 || seen[4] != session.StateSucceeded {
		t.Errorf("%v", seen)
	}
}

// Who stops watching is gone at the server too.
func TestStopWatching(t *testing.T) {
	s := newShelf(t, 1)
	client, _ := cutClient(t, s)
	for _, err := range client.Watch(t.Context(), "x") {
		if err != nil {
			t.Fatal(err)
		}
		if n := s.watches.Load(); n != 1 {
			t.Errorf("%d watch", n)
		}
		break
	}
	for s.watches.Load() != 0 {
		time.Sleep(time.Millisecond)
	}
}

// What a call costs beside what it asks for, over mTLS on the loopback interface.
func BenchmarkCall(b *testing.B) {
	client := serveRunner(b, &answering{})
	for b.Loop() {
		if _, err := client.Get(b.Context(), "x"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFetch(b *testing.B) {
	s := newShelf(b, 32<<20)
	client, _ := cutClient(b, s)
	b.SetBytes(s.size)
	for b.Loop() {
		content, err := client.Fetch(b.Context(), "x", session.Want{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, content.Body); err != nil {
			b.Fatal(err)
		}
		if err := content.Body.Close(); err != nil {
			b.Fatal(err)
		}
		<-s.closed
	}
}
