// SPDX-License-Identifier: Apache-2.0

// Package poller_test runs package checks over mTLS between doubles of what real
// pollers have at both sides: agents of ServiceRadar, and its core. The doubles
// do what was observed of the real ones (docs/serviceradar.md) and nothing else.
package poller_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/checks"
	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/serviceradar"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store/queue"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(childVariable); file != "" {
		child(file)
		return
	}
	code := m.Run()
	if buildDir != "" {
		_ = os.RemoveAll(buildDir) // it is in the directory for temporary files
	}
	os.Exit(code)
}

// hangs is how long anything may take: to see that it hangs, not how fast it is.
const hangs = 2 * time.Minute

// until waits for what must come.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("it never comes: %s", what)
}

// certificates are fresh ones.
func certificates(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(dir, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// server is one that can be stopped, and started again at its address.
type server struct {
	certs, identity, address string
	register                 func(*grpc.Server)
	options                  []grpc.ServerOption

	running *grpc.Server
	ended   chan error
}

// serve starts one over mTLS, as identity.
func serve(t testing.TB, certs, identity string, register func(*grpc.Server), options ...grpc.ServerOption) *server {
	t.Helper()
	s := &server{certs: certs, identity: identity, address: "127.0.0.1:0", register: register, options: options}
	s.start(t)
	t.Cleanup(func() { s.stop(t) })
	return s
}

func (s *server) start(t testing.TB) {
	t.Helper()
	var l net.Listener
	until(t, "the address is free", func() (free bool) {
		var err error
		l, err = net.Listen("tcp", s.address)
		return err == nil
	})
	s.address = l.Addr().String()
	creds, err := auth.Identity(s.certs, s.identity).ServerCredentials(s.address, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.running, s.ended = grpc.NewServer(append([]grpc.ServerOption{grpc.Creds(creds)}, s.options...)...), make(chan error, 1)
	s.register(s.running)
	go func(g *grpc.Server, ended chan error) { ended <- g.Serve(l) }(s.running, s.ended)
}

// stop hangs up on everybody.
func (s *server) stop(t testing.TB) {
	t.Helper()
	if s.running == nil {
		return
	}
	s.running.Stop()
	if err := <-s.ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		t.Error(err)
	}
	s.running = nil
}

// pollerOptions is a poller as a test wants it.
type pollerOptions struct {
	config checks.Config
	certs  string
	dir    string // for its queue and what it remembers; empty: a new one
	limits queue.Limits
	fleet  session.Fleet
	log    *slog.Logger
	former *checks.Checks
	queue  *queue.Queue
	// security is that of all its connections; nil: as poller of the certificates.
	security *auth.Security
}

// newPoller is package checks as the daemon wires it.
func newPoller(o *pollerOptions) (c *checks.Checks, end func(), err error) {
	if o.limits == (queue.Limits{}) {
		o.limits = queue.Limits{MaxBytes: 64 << 20, MaxItems: 1000}
	}
	if o.queue == nil {
		if o.queue, err = queue.Open(o.dir, o.limits); err != nil {
			return nil, nil, err
		}
	}
	if o.security == nil {
		o.security = auth.Identity(o.certs, "poller")
	}
	var closers []interface{ Close() error }
	end = func() {
		for _, c := range closers {
			_ = c.Close() // of connections
		}
	}
	creds, err := o.security.ClientCredentials(o.config.CoreAddress)
	if err != nil {
		return nil, end, err
	}
	core, err := serviceradar.DialCore(o.config.CoreAddress, creds)
	if err != nil {
		return nil, end, err
	}
	closers = append(closers, core)
	agents := map[string]*serviceradar.AgentClient{}
	for name, a := range o.config.Agents {
		if agents[name], err = serviceradar.DialAgent(a.Address, creds); err != nil {
			return nil, end, err
		}
		closers = append(closers, agents[name])
	}
	c, err = checks.New(checks.Options{Config: o.config, Agents: agents, Core: core, Fleet: o.fleet, Queue: o.queue, Dir: o.dir, Version: "1.2.3", Log: o.log, Former: o.former})
	return c, end, err
}

// poll runs a poller until the test ends, or until it is ended before.
func poll(t testing.TB, o pollerOptions) (c *checks.Checks, end func()) {
	t.Helper()
	if o.dir == "" {
		o.dir = t.TempDir()
	}
	c, hangUp, err := newPoller(&o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextOf(t)
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	var once sync.Once
	end = func() {
		once.Do(func() {
			cancel()
			wg.Wait()
			hangUp()
		})
	}
	t.Cleanup(end)
	return c, end
}

// configured is a poller's configuration with one agent.
func configured(core *core, every time.Duration, agents map[string]*agent, list ...checks.Check) checks.Config {
	c := checks.Config{CoreAddress: core.address, PollInterval: config.Duration(every), PollerID: "poller-1", Partition: "dmz", SourceIP: "192.0.2.9", Agents: map[string]checks.Agent{}}
	for name, a := range agents {
		c.Agents[name] = checks.Agent{Address: a.address, Checks: list}
	}
	return c
}

func span(d time.Duration) *config.Duration {
	s := config.Duration(d)
	return &s
}

// logged is a log in memory.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// object reads what must be one JSON object and nothing else.
func object(t testing.TB, data []byte) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(data, &o); err != nil || o == nil {
		t.Fatalf("no JSON object: %v: %.200s", err, data)
	}
	return o
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
