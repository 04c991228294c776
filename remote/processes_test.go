// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"iter"
	"math"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
)

const (
	largeProfile = 200 << 20
	extraMemory  = 16 << 20 // that either side may take for it
)

// role is what a process of its own does, so that its memory can be told, or
// that it can be killed.
type role struct {
	Hang                   []session.ID // in the middle of these
	Serve                  bool
	CertDir, Address, Dial string
	Path, Digest           string
	Size                   int64
}

// outcome is what it tells.
type outcome struct {
	Address string // the server's
	Extra   int64  // resident memory at its highest, over what it was before
	Fetches []int64
	Digest  string
	Size    int64
}

const roleVariable = "SERVICERADAR_PROFILER_REMOTE_ROLE"

// process is one in a role. It ends when its standard input does.
type process struct {
	*exec.Cmd
	stdin    io.Closer
	outcomes *json.Decoder // that it writes
}

func (r role) start(t *testing.T) *process {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestRole$")
	cmd.Env = append(os.Environ(), roleVariable+"="+string(b))
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && r.Hang == nil {
			t.Error(err)
		}
	})
	return &process{cmd, in, json.NewDecoder(bufio.NewReader(out))}
}

// next is the next outcome.
func (p *process) next(t *testing.T) (o outcome) {
	t.Helper()
	if err := p.outcomes.Decode(&o); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestRole is a process in a role.
func TestRole(t *testing.T) {
	text, ok := os.LookupEnv(roleVariable)
	if !ok {
		t.Skip("it is a part of other tests")
	}
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	switch {
	case r.Serve:
		r.serve(t)
	case r.Hang != nil:
		r.hang(t)
	default:
		r.fetch(t)
	}
}

func tell(t *testing.T, o outcome) {
	if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
		t.Fatal(err)
	}
}

func (r *role) serve(t *testing.T) {
	s := shelfOf(r.Path, r.Digest, r.Size)
	address := listen(t, r.CertDir, func(g *grpc.Server) { NewServer(s, 0).Register(g) })
	before := resident(t)
	tell(t, outcome{Address: address})
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		t.Fatal(err)
	}
	tell(t, outcome{Extra: peak(t) - before, Fetches: s.offsets})
}

func (r *role) fetch(t *testing.T) {
	client := dialed(t, r.Dial, clientCredentials(t, auth.Identity(r.CertDir, "admin"), r.Address))
	for _, err := range client.Watch(t.Context(), "x") { // a connection is up, and not what we count
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	before := resident(t)
	content, err := client.Fetch(t.Context(), "x", session.Want{})
	if err != nil {
		t.Fatal(err)
	}
	defer content.Body.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, content.Body)
	if err != nil {
		t.Fatal(err)
	}
	tell(t, outcome{Extra: peak(t) - before, Digest: hex.EncodeToString(sum.Sum(nil)), Size: n})
}

// hang is a client that stops in the middle of fetching and of watching.
func (r *role) hang(t *testing.T) {
	client := dialed(t, r.Dial, clientCredentials(t, auth.Identity(r.CertDir, "admin"), r.Address))
	for _, id := range r.Hang {
		content, err := client.Fetch(t.Context(), id, session.Want{})
		if err != nil {
			t.Fatal(err)
		}
		defer content.Body.Close()
		next, stop := iter.Pull2(client.Watch(t.Context(), id))
		defer stop()
		if _, err, ok := next(); err != nil || !ok {
			t.Fatal(err)
		}
	}
	tell(t, outcome{})
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		t.Fatal(err)
	}
}

// resident is the memory that this process has now; its peak counts anew.
func resident(t *testing.T) int64 {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return memory(t, "VmRSS")
}

func peak(t *testing.T) int64 { return memory(t, "VmHWM") }

func memory(t *testing.T, key string) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(key + `:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no %s in %s", key, b)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// A large profile passes with little memory on either side, is cut in the
// middle, and goes on. A machine that leaves the garbage collector no CPU only
// adds to that memory, so the least of several times is what it takes.
func TestLargeProfile(t *testing.T) {
	if testing.Short() {
		t.Skip("200 MB")
	}
	s := newShelf(t, largeProfile)
	client, server := int64(math.MaxInt64), int64(math.MaxInt64)
	for try := 0; try < 4 && max(client, server) >= extraMemory; try++ {
		c, v := passLarge(t, s)
		client, server = min(client, c), min(server, v)
		t.Logf("client %.1f MB, server %.1f MB", float64(c)/1e6, float64(v)/1e6)
	}
	if max(client, server) >= extraMemory {
		t.Errorf("the client took %d bytes, and the server %d", client, server)
	}
}

// passLarge is the memory that both sides took for it.
func passLarge(t *testing.T, s *shelf) (atClient, atServer int64) {
	t.Helper()
	dir := certificates(t)
	r := role{Serve: true, CertDir: dir, Path: s.path, Digest: s.digest, Size: s.size}
	server := r.start(t)
	at := server.next(t)
	cutter := newCutter(t, at.Address, largeProfile/2)
	r.Serve, r.Address, r.Dial = false, at.Address, cutter.Addr().String()
	fetched := r.start(t).next(t)
	if err := server.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	served := server.next(t)
	if fetched.Digest != s.digest || fetched.Size != s.size {
		t.Errorf("%d bytes with digest %s arrived", fetched.Size, fetched.Digest)
	}
	if len(served.Fetches) != 2 || served.Fetches[1] < largeProfile/4 || cutter.cut.Load() != 1 {
		t.Errorf("it was fetched from %v", served.Fetches)
	}
	return fetched.Extra, served.Extra
}

// Clients that do not go on reading cost the server little: 40 of them.
func TestStalledReaders(t *testing.T) {
	const each = 600 << 10 // a chunk that is read, one that waits, and what belongs to a call
	s := newShelf(t, 4<<20)
	dir := certificates(t)
	server := role{Serve: true, CertDir: dir, Path: s.path, Digest: s.digest, Size: s.size}.start(t)
	address := server.next(t).Address
	for range 4 {
		client := dialed(t, address, clientCredentials(t, auth.Identity(dir, "admin"), address))
		for range 10 {
			content, err := client.Fetch(t.Context(), "x", session.Want{})
			if err != nil {
				t.Fatal(err)
			}
			defer content.Body.Close()
			if _, err := content.Body.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(200 * time.Millisecond) // so that the server can send what it may
	if err := server.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	extra := server.next(t).Extra
	t.Logf("%.1f MB", float64(extra)/1e6)
	if extra > 40*each {
		t.Errorf("40 readers that stalled took %d bytes", extra)
	}
}

// A client that is killed in the middle leaves nothing at the server.
func TestKilledClient(t *testing.T) {
	s := newShelf(t, 8<<20)
	dir := certificates(t)
	address := listen(t, dir, func(g *grpc.Server) { NewServer(s, 0).Register(g) })
	client := role{Hang: []session.ID{"x"}, CertDir: dir, Address: address, Dial: address}.start(t)
	client.next(t)
	if s.watches.Load() != 1 || len(s.closed) != 0 || serving() == 0 {
		t.Fatalf("%d watch, %d bodies are closed, %d goroutines", s.watches.Load(), len(s.closed), serving())
	}
	if err := client.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.closed
	for s.watches.Load() != 0 || serving() != 0 {
		time.Sleep(time.Millisecond)
	}
}

// serving counts the goroutines that serve connections and calls.
func serving() int {
	buf := make([]byte, 4<<20)
	all := buf[:runtime.Stack(buf, true)]
	return bytes.Count(all, []byte("grpc.(*Server).serveStreams(")) + bytes.Count(all, []byte("grpc.(*Server).handleStream("))
}
