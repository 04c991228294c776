// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// service is a profiler that serves over mTLS, with certificates as srprof
// certs makes them.
type service struct {
	dir     string // with certs/ and profiler.json
	address string
	command *exec.Cmd
	log     syncBuffer
}

// syncBuffer is written by a process while a test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// serve starts a profiler with these limits and waits until it answers.
func serve(t *testing.T, limits map[string]any) *service {
	t.Helper()
	s := &service{dir: t.TempDir(), address: freeAddress(t)}
	if out, err := exec.Command(daemons.Path("srprof"), "certs", "--dir", filepath.Join(s.dir, "certs")).CombinedOutput(); err != nil {
		t.Fatalf("srprof certs: %v: %s", err, out)
	}
	s.configure(t, limits)
	s.start(t)
	return s
}

// configure writes a configuration: the example, for this address, with these
// certificates and limits.
func (s *service) configure(t *testing.T, limits map[string]any) {
	t.Helper()
	example, err := exec.Command(daemons.Path("serviceradar-profiler"), "config", "example").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(example, &all); err != nil {
		t.Fatal(err)
	}
	all["listen_addr"] = s.address
	of := func(key string) map[string]any {
		object, ok := all[key].(map[string]any)
		if !ok {
			t.Fatalf("the example has no %s: %s", key, example)
		}
		return object
	}
	of("security")["cert_dir"] = filepath.Join(s.dir, "certs")
	maps.Copy(of("profiler"), limits)
	if access, ok := all["access"].(map[string]any); ok { // a test asks more often than people do
		access["rate"] = map[string]any{"per_second": 10000, "burst": 10000}
	}
	config, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, "profiler.json"), config, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// freeAddress is one that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *service) start(t *testing.T) {
	t.Helper()
	s.command = exec.Command(daemons.Path("serviceradar-profiler"), "--config", filepath.Join(s.dir, "profiler.json"))
	s.command.Stdout, s.command.Stderr = &s.log, &s.log
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("the service said:\n%s", &s.log)
		}
	})
	eventually(t, "the service does not answer", func() bool { return s.srprof(t, "list").exit == 0 })
}

// stop ends the service and waits until it has.
func (s *service) stop(signal os.Signal) {
	_ = s.command.Process.Signal(signal) // it may be gone
	_ = s.command.Wait()
}

// result is what one command left behind.
type result struct {
	exit           int
	stdout, stderr string
}

// environment makes srprof speak to the service.
func (s *service) environment() []string {
	return append(os.Environ(), "SRPROF_SERVER="+s.address, "SRPROF_CERT_DIR="+filepath.Join(s.dir, "certs"))
}

// srprof runs a command to its end.
func (s *service) srprof(t *testing.T, args ...string) result {
	t.Helper()
	return s.begin(t, args...).wait(t)
}

// running is a command that has not ended yet.
type running struct {
	*exec.Cmd
	stdout, stderr syncBuffer
}

// begin starts a command.
func (s *service) begin(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hangs)
	t.Cleanup(cancel)
	r := &running{Cmd: exec.CommandContext(ctx, daemons.Path("srprof"), args...)}
	r.Env, r.Stdout, r.Stderr = s.environment(), &r.stdout, &r.stderr
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *running) wait(t *testing.T) result {
	t.Helper()
	code := exitCode(t, r.Cmd.Wait())
	return result{code, r.stdout.String(), r.stderr.String()}
}

// ok ends the test unless a command succeeded, and returns its output.
func (r result) ok(t *testing.T) string {
	t.Helper()
	if r.exit != 0 {
		t.Fatalf("exit code %d: %s%s", r.exit, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// fails checks that a command ended with a code and said why.
func (r result) fails(t *testing.T, exit int, said ...string) {
	t.Helper()
	if r.exit != exit || !containsAll(r.stderr, said...) {
		t.Errorf("exit code %d, want %d and %q in: %s%s", r.exit, exit, said, r.stdout, r.stderr)
	}
}

// record runs srprof record --server and reads what it wrote.
func (s *service) record(t *testing.T, args ...string) *recording {
	t.Helper()
	dir := t.TempDir()
	r := s.begin(t, s.recordArgs(dir, args...)...).wait(t)
	return read(t, dir, r.exit, r.stderr)
}

func (s *service) recordArgs(dir string, args ...string) []string {
	return append([]string{"record", "--server", s.address, "--output", filepath.Join(dir, "out.folded"),
		"--metadata", filepath.Join(dir, "meta.json")}, args...)
}

// seen is a session as the service tells of it, with the error as programs see
// it.
type seen struct {
	session.Session
	Err struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func (s *service) get(t *testing.T, id string) (one seen) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.srprof(t, "get", id, "-o", "json").ok(t)), &one); err != nil {
		t.Fatal(err)
	}
	return one
}

// list are the sessions that the service knows.
func (s *service) list(t *testing.T) (all []seen) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.srprof(t, "list", "-o", "json").ok(t)), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// samples waits until some session has samples.
func (s *service) samples(t *testing.T) seen {
	t.Helper()
	var one seen
	eventually(t, "no session gets samples", func() bool {
		for _, one = range s.list(t) {
			if one.State == session.StateRunning && one.Progress.Samples > 0 {
				return true
			}
		}
		return false
	})
	return one
}

// The whole round over mTLS: the folded text and the picture are of one
// recording, and right.
func TestServiceRecords(t *testing.T) {
	s := serve(t, nil)
	p := start(t, "split.c", programs.Options{})
	picture := filepath.Join(t.TempDir(), "split.svg")
	r := s.record(t, "--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", "2s", "--output", picture).succeeded(t).as(t, "split.c")
	if !containsAll(r.stderr, "wrote ", "split.svg", " samples in 2") {
		t.Errorf("srprof says: %s", r.stderr)
	}
	svg, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	drawn := uint64(0) // hot_a may have several callers, where a stack was cut
	for _, m := range regexp.MustCompile(`<title>hot_a \(([0-9,]+) samples`).FindAllSubmatch(svg, -1) {
		n, err := strconv.ParseUint(strings.ReplaceAll(string(m[1]), ",", ""), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		drawn += n
	}
	hot := programs.Expectation{Frames: []string{"hot_a"}}
	if n := programs.Count(r.lines, hot.In); drawn > n || drawn < n*95/100 { // what is too narrow is not drawn
		t.Errorf("hot_a has %d samples in the picture and %d in the text", drawn, n)
	}
	if r.meta.Ended != profile.EndedDuration || r.meta.FrequencyHz != 999 || len(r.meta.Targets) != 1 || r.meta.Targets[0].PID != p.PID {
		t.Errorf("the metadata is %+v", r.meta)
	}
}

// Start, watch, get, list, fetch while it runs and after, cancel.
func TestServiceRound(t *testing.T) {
	s := serve(t, nil)
	p := start(t, "split.c", programs.Options{})
	pid, dir := strconv.Itoa(p.PID), t.TempDir()
	id := s.srprof(t, "start", "--pid", pid, "--frequency", often, "--duration", "2s", "--requester", "somebody").ok(t)
	watch := s.begin(t, "watch", id)
	s.samples(t)
	early := s.srprof(t, "fetch", id[:8], "--output", filepath.Join(dir, "early.folded"))
	early.ok(t)
	if !containsAll(early.stderr, "still runs", " of 2s") {
		t.Errorf("of a profile that is not whole, srprof says: %s", early.stderr)
	}
	if out := watch.wait(t).ok(t); !containsAll(out, "running: ", "succeeded: 2", "duration reached") {
		t.Errorf("srprof watch says: %s", out)
	}
	one := s.get(t, id)
	if one.State != session.StateSucceeded || one.Spec.Requester != "somebody" || one.Targets[0].PID != p.PID || one.Progress.Samples == 0 {
		t.Errorf("the session is %+v", one)
	}
	if out := s.srprof(t, "get", id).ok(t); !containsAll(out, id, "succeeded", "split", "somebody", "999 Hz") {
		t.Errorf("srprof get says: %s", out)
	}
	if out := s.srprof(t, "list", "--state", "succeeded", "--pid", pid).ok(t); !containsAll(out, "ID ", "SAMPLES", id[:8], "split", pid) {
		t.Errorf("srprof list says: %s", out)
	}
	if out := s.srprof(t, "list", "--state", "failed").ok(t); strings.Contains(out, id[:8]) {
		t.Errorf("srprof list says: %s", out)
	}
	var files [2][]byte
	for i := range files {
		name := filepath.Join(dir, fmt.Sprint(i, ".pb.gz"))
		s.srprof(t, "fetch", id, "--output", name, "--output", filepath.Join(dir, fmt.Sprint(i, ".folded"))).ok(t)
		var err error
		if files[i], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("a profile that was fetched twice is not the same")
	}
	if text := s.srprof(t, "fetch", id).ok(t); !containsAll(text, "hot_a", "Functions by self samples") {
		t.Errorf("the table is: %s", text)
	}

	id = s.srprof(t, "start", "--pid", pid, "--duration", "1m").ok(t)
	watch = s.begin(t, "watch", id, "-o", "json")
	s.samples(t)
	if out := s.srprof(t, "cancel", id).ok(t); !strings.HasPrefix(out, "canceled") {
		t.Errorf("srprof cancel says: %s", out)
	}
	if r := watch.wait(t); r.exit != 130 || !containsAll(r.stdout, `"state":"running"`, `"state":"canceled"`) {
		t.Errorf("exit code %d of watching what is canceled: %s%s", r.exit, r.stdout, r.stderr)
	}
	s.srprof(t, "fetch", id, "--output", filepath.Join(dir, "canceled.folded")).ok(t)
	s.srprof(t, "fetch", "ffffffff").fails(t, 1, "there is no session ffffffff", "[no_such_session]")
	s.srprof(t, "get", "ffffffff", "-o", "json").fails(t, 1, `"code":"no_such_session"`)

	// Whom the configuration gives no role may nothing.
	s.srprof(t, "start", "--pid", pid, "--identity", "poller").fails(t, 4, "poller.serviceradar", "[no_role]")
}
