// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
)

func TestMain(m *testing.M) { os.Exit(daemons.Main(m, "the soak", "serviceradar-profiler", "srprof")) }

// service is the running one.
type service struct {
	dir     string
	address string
	metrics string // their address
	command *exec.Cmd
	gone    chan struct{}

	mu  sync.Mutex
	bad []string // lines of its log that should not be there
}

// The limits of the service. What it keeps is little, so that it is full soon
// and the service as large as it gets.
const (
	places, queue = 10, 10
	kept          = 50
)

func (s *service) configure(t *testing.T, kept int) {
	t.Helper()
	config := fmt.Sprintf(`{"listen_addr": "127.0.0.1:0", "metrics": {"listen_addr": "127.0.0.1:0"},
		"security": {"cert_dir": %q, "tls": {"cert_file": "profiler.pem", "key_file": "profiler-key.pem", "ca_file": "root.pem"}},
		"access": {"roles": {"admin.serviceradar": ["admin"]}, "rate": {"per_second": 100000, "burst": 100000}},
		"profiler": {"max_concurrent_sessions": %d, "max_queued_sessions": %d, "max_kept_sessions": %d, "chunk_size_bytes": 1024, "grace_period_seconds": 0, "spool_dir": %q}}`,
		s.dir, places, queue, kept, s.dir)
	if err := os.WriteFile(filepath.Join(s.dir, "profiler.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T) *service {
	t.Helper()
	s := &service{dir: t.TempDir(), gone: make(chan struct{})}
	if _, err := auth.WriteTryoutCertificates(s.dir, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	s.configure(t, kept)
	s.command = exec.Command(daemons.Path("serviceradar-profiler"), "--config", filepath.Join(s.dir, "profiler.json"))
	out, err := s.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.command.Stderr = s.command.Stdout
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	listening, metrics := make(chan string, 1), make(chan string, 1)
	go s.read(out, map[string]chan<- string{"listening": listening, "metrics can be read": metrics})
	t.Cleanup(func() {
		_ = s.command.Process.Kill() // it may be gone
		<-s.gone
	})
	for address, at := range map[*string]<-chan string{&s.address: listening, &s.metrics: metrics} {
		select {
		case *address = <-at:
		case <-s.gone:
			t.Fatalf("the service ended: %q", s.bad)
		}
	}
	return s
}

// read reads the log to its end, then waits for the process.
func (s *service) read(out io.Reader, listening map[string]chan<- string) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct{ Level, Message, Address string }
		err := json.Unmarshal(lines.Bytes(), &l)
		switch {
		case err == nil && listening[l.Message] != nil:
			listening[l.Message] <- l.Address
		case err != nil || l.Level == "error" || l.Level == "warn" && !foreseen[l.Message]:
			s.mu.Lock()
			if len(s.bad) < 100 {
				s.bad = append(s.bad, lines.Text())
			}
			s.mu.Unlock()
		}
	}
	_ = s.command.Wait() // its state says how it ended
	close(s.gone)
}

// foreseen are warnings of what targets and strangers do.
var foreseen = map[string]bool{"session ended": true, "connection refused": true}

// complains fails the test for each line of the log that tells of trouble:
// whatever clients and targets do, the service itself has none.
func (s *service) complains(t *testing.T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.bad {
		t.Errorf("the service says: %s", line)
	}
}

func (s *service) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := s.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// dial is a client with a connection of its own.
func (s *service) dial(t *testing.T) *remote.Client {
	t.Helper()
	c, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (s *service) client() (*remote.Client, error) {
	creds, err := auth.Identity(s.dir, "admin").ClientCredentials(s.address)
	if err != nil {
		return nil, err
	}
	return remote.Dial(s.address, creds)
}

// forgets makes the service keep one session only, and sees that it lets go of
// all that belonged to the others.
func (s *service) forgets(t *testing.T) {
	t.Helper()
	s.configure(t, 1)
	s.signal(t, syscall.SIGHUP)
	there := s.dial(t)
	var (
		left []session.Session
		h    *holdings
		err  error
	)
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if left, err = there.List(t.Context(), session.Filter{}); err != nil {
			t.Fatal(err)
		}
		if h, err = s.look(); err != nil {
			t.Fatal(err)
		}
		if len(left) <= 1 && h.spooled <= 2 { // its profile, and another form of it
			return
		}
	}
	t.Errorf("%d sessions and %s are kept, one was to be", len(left), strings.TrimSpace(h.String()))
}
