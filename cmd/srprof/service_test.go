// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/contexts"
	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// site is services in this process, spoken to as over any network.
type site struct {
	*testing.T
	certs, dir string
}

func newSite(t *testing.T) *site {
	t.Helper()
	needRoot(t)
	s := &site{T: t, certs: t.TempDir(), dir: t.TempDir()}
	if _, err := auth.WriteTryoutCertificates(s.certs, auth.Tryout{Hosts: []string{"127.0.0.1", otherLoopback}}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{contexts.ServerVariable, contexts.CertDirVariable, contexts.IdentityVariable, contexts.ServerNameVariable, contexts.ContextVariable, "NO_COLOR"} {
		t.Setenv(name, "")
	}
	t.Setenv(contexts.ConfigVariable, filepath.Join(s.dir, "config.json"))
	if r := s.srprof("context", "set", "none"); r.code != exitOK { // the file is there then
		t.Fatal(r.err)
	}
	return s
}

// host is a profiler as a host of its own, though all are this machine.
func (s *site) host(name string, labels map[string]string) *host.Host {
	s.Helper()
	limits := profiler.DefaultLimits()
	limits.GracePeriodSeconds, limits.SpoolDir, limits.MaxSessionDurationSeconds = 0, s.TempDir(), 7200
	sessions, err := profiler.NewSessions(profiler.NewRecorder(8<<20, 4<<20), limits)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := sessions.Close(context.Background()); err != nil {
			s.Error(err)
		}
	})
	return host.New(sessions, host.Options{Name: name, Labels: labels, Version: "v1", Requested: sessions.Requested, Check: sessions.Check,
		Health: func() host.Health { return host.Health(sessions.Health()) }})
}

// serve puts a fleet onto the network, with its gate, and returns where.
func (s *site) serve(fleet session.Fleet, certificate, listen string) string {
	s.Helper()
	creds, err := auth.Identity(s.certs, certificate).ServerCredentials(listen, slog.New(slog.DiscardHandler))
	if err != nil {
		s.Fatal(err)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		s.Fatal(err)
	}
	server := grpc.NewServer(append(remote.ServerOptions(slog.New(slog.DiscardHandler)), grpc.Creds(creds))...)
	remote.NewServer(fleet, 0).Register(server)
	go server.Serve(l)
	s.Cleanup(server.Stop)
	return l.Addr().String()
}

// gate lets admin do all, and poller look.
func (s *site) gate(runner session.Fleet) session.Fleet {
	s.Helper()
	p := access.DefaultPolicy()
	p.Roles = map[string][]string{"admin.serviceradar": {"admin"}, "poller.serviceradar": {"viewer"}}
	p.Rate.PerSecond, p.Rate.Burst = 1000, 1000
	g, err := access.New(runner, &p, slog.New(slog.DiscardHandler))
	if err != nil {
		s.Fatal(err)
	}
	return g
}

// use makes a service the one of the current context.
func (s *site) use(address string) {
	s.Helper()
	for _, args := range [][]string{{"context", "set", "here", "--server", address, "--cert-dir", s.certs}, {"context", "use", "here"}} {
		if r := s.srprof(args...); r.code != exitOK {
			s.Fatal(r.err)
		}
	}
}

// result is what a command left.
type result struct {
	out, err string
	code     int
}

func (s *site) srprof(args ...string) result {
	s.Helper()
	return s.srprofUntil(s.Context(), args...)
}

func (s *site) srprofUntil(ctx context.Context, args ...string) result {
	s.Helper()
	var out, err bytes.Buffer
	code := run(ctx, args, streams{Out: &out, Err: &err})
	return result{out.String(), err.String(), code}
}

// expect runs a command that ends with a code, and says things (each of them on
// either stream).
func (s *site) expect(code int, says []string, args ...string) result {
	s.Helper()
	r := s.longEnough(args)
	for _, want := range says {
		if !strings.Contains(r.out+r.err, want) {
			s.Errorf("srprof %q does not say %q", args, want)
		}
	}
	if r.code != code {
		s.Errorf("srprof %q: exit code %d, want %d", args, r.code, code)
	}
	if s.Failed() {
		s.Fatalf("it said\n%s%s", r.out, r.err)
	}
	return r
}

// longEnough runs a command; again and for longer if a target had no CPU to run
// on, as others took all of it.
func (s *site) longEnough(args []string) result {
	s.Helper()
	args = slices.Clone(args)
	at := slices.Index(args, "-d") + 1
	for {
		r := s.srprof(args...)
		if at == 0 || !strings.Contains(r.out+r.err, "waited for a CPU") {
			return r
		}
		d, err := time.ParseDuration(args[at])
		if err != nil || d > 5*time.Minute {
			return r
		}
		args[at] = (3 * d).String()
	}
}

func (s *site) file(name string) string { return filepath.Join(s.dir, name) }

// decoded is the JSON that a command writes.
func decoded[T any](s *site, r result) (v T) {
	s.Helper()
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || r.code != exitOK && r.code != exitPartial {
		s.Fatalf("%v, exit code %d: %s%s", err, r.code, r.out, r.err)
	}
	return v
}

// sampling waits for a session that has samples, of so many hosts. It may be
// called from any goroutine.
func (s *site) sampling(ctx context.Context, hosts int) (one session.Session) {
	for ctx.Err() == nil {
		var all []session.Session
		if err := json.Unmarshal([]byte(s.srprof("list", "--state", "running", "-o", "json").out), &all); err != nil {
			s.Error(err)
			return one
		}
		if len(all) == 1 && all[0].Progress.Samples > 0 && len(all[0].Hosts) == hosts &&
			!slices.ContainsFunc(all[0].Hosts, func(h session.HostRun) bool { return h.Progress.Samples == 0 }) {
			return all[0]
		}
		time.Sleep(50 * time.Millisecond)
	}
	return one
}

func (s *site) contains(path string, words ...string) {
	s.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	for _, w := range words {
		if !strings.Contains(string(b), w) {
			s.Errorf("%s does not have %q: %.300s", path, w, b)
		}
	}
}

// One host, found and profiled by what is known of it.
func TestOneHost(t *testing.T) {
	s := newSite(t)
	s.use(s.serve(s.gate(s.host("web-01", map[string]string{"service": "shop"})), "profiler", "127.0.0.1:0"))
	target := programs.Start(t, "split.c", programs.Options{As: "shop-worker"})
	pid := strconv.Itoa(target.PID)

	s.expect(exitOK, []string{"NAME ", "web-01   ready ", "v1", "service=shop"}, "hosts")
	s.expect(exitOK, []string{"no such hosts"}, "hosts", "web-02")
	if hosts := decoded[[]session.Host](s, s.srprof("hosts", "-o", "json")); len(hosts) != 1 || hosts[0].Name != "web-01" || hosts[0].State != session.HostReady {
		t.Errorf("%+v", hosts)
	}
	s.expect(exitOK, []string{"PID ", pid + " ", "shop-worker"}, "ps", "web-01", "--name", "shop-worker")
	processes := decoded[[]session.Process](s, s.srprof("ps", "--name", "shop-*", "-o", "json"))
	if len(processes) != 1 || processes[0].PID != target.PID {
		t.Errorf("%+v", processes)
	}
	s.expect(exitOK, []string{"--most 0 lists all"}, "ps", "-n", "2", "-o", "wide")

	s.expect(exitOK, []string{"matches 1 process on 1 host", "web-01   1 ", pid}, "run", "--name", "shop-worker", "--dry-run")
	s.expect(exitFailed, []string{`"nosuch"`, "[no_such_process]"}, "run", "web-01", "--name", "nosuch", "--dry-run")
	s.expect(exitFailed, []string{`"code":"no_such_process"`}, "run", "web-01", "--name", "nosuch", "-o", "json")
	s.expect(exitUsage, []string{"[other_host]"}, "run", "web-02", "--name", "shop-worker")

	svg, host := s.file("shop.svg"), s.file("of-{host}.folded")
	r := s.expect(exitOK, []string{"wrote " + svg, "wrote " + host + " for 1 host"},
		"run", "web-01", "--name", "shop-worker", "-d", "1s", "-F", "499", "-o", svg, "-o", host, "-o", "json", "--per-host", s.file("each"))
	one := decoded[session.Session](s, r)
	if one.State != session.StateSucceeded || len(one.Targets) != 1 || one.Targets[0].PID != target.PID || one.Progress.Samples == 0 {
		t.Errorf("%+v", one)
	}
	s.contains(svg, "hot_a")
	s.contains(s.file("of-"+one.Host+".folded"), ";hot_a ") // the profiler knows no other name
	if _, err := os.Stat(s.file("each/" + one.Host + ".pb.gz")); err != nil {
		t.Error(err)
	}
	s.expect(exitOK, []string{"hot_a", "shop-worker"}, "fetch", string(one.ID)[:8])
	s.expect(exitUsage, []string{"[other_host]"}, "fetch", string(one.ID), "--host", "web-02")
}

// What a session that goes on shows, and how it ends.
func TestSessionGoesOn(t *testing.T) {
	s := newSite(t)
	s.use(s.serve(s.gate(s.host("web-01", nil)), "profiler", "127.0.0.1:0"))
	pid := strconv.Itoa(programs.Start(t, "split.c", programs.Options{}).PID)
	id := strings.TrimSpace(s.expect(exitOK, []string{"running on ", "PID " + pid}, "start", "web-01", "--pid", pid, "-d", "1h", "-F", "499").out)
	s.expect(exitOK, []string{id[:8], "running"}, "list")
	s.expect(exitOK, []string{"ASKED", "PID " + pid + " for 1h0m0s at 499 Hz"}, "list", "-o", "wide")
	for { // until there is something to show
		r := s.srprof("top", id, "--once", "-n", "3")
		if r.code == exitOK && strings.Contains(r.out, "hot_a") {
			if !strings.HasPrefix(r.out, "session "+id[:8]+"  ") || !strings.Contains(r.out, "  running: ") {
				t.Error(r.out)
			}
			break
		}
		if r.code != exitOK && !strings.Contains(r.err, "[not_ready]") && !strings.Contains(r.err, "no_sample") {
			t.Fatal(r.err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	var table struct {
		Session   struct{ ID, State string }
		Samples   uint64
		Functions []struct {
			Function    string
			Self, Total uint64
			SelfPercent float64 `json:"self_percent"`
		}
	}
	if err := json.Unmarshal([]byte(s.expect(exitOK, nil, "top", id, "-n", "2", "-o", "json").out), &table); err != nil {
		t.Fatal(err)
	}
	if f := table.Functions; table.Session.ID != id || table.Session.State != "running" || len(f) != 2 || f[0].Self < f[1].Self || f[0].Total < f[0].Self ||
		math.Abs(f[0].SelfPercent-100*float64(f[0].Self)/float64(table.Samples)) > 0.01 {
		t.Errorf("%+v", table)
	}
	s.expect(exitOK, []string{"the session still runs", "hot_a"}, "fetch", id)
	s.expect(exitNotPermitted, []string{"[not_permitted]"}, "cancel", id, "--identity", "poller")
	s.expect(exitOK, []string{"canceled: "}, "cancel", id)
	s.expect(exitInterrupted, []string{"canceled: "}, "watch", id)
	s.expect(exitOK, []string{"canceled: "}, "get", id)
	s.expect(exitNotPermitted, []string{"[not_permitted]"}, "run", "--pid", pid, "--identity", "poller")
	s.expect(exitNotPermitted, []string{`"code":"not_permitted"`}, "run", "--pid", pid, "--identity", "poller", "-o", "json")

	// Ctrl-C ends the session there, and what it sampled is written.
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	go func() {
		defer interrupt()
		s.sampling(ctx, 0)
	}()
	file := s.file("interrupted.folded")
	if r := s.srprofUntil(ctx, "run", "--pid", pid, "-d", "1h", "-F", "499", "-o", file); r.code != exitInterrupted {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	s.contains(file, ";hot_")
	if all := decoded[[]session.Session](s, s.srprof("list", "--state", "running", "-o", "json")); len(all) != 0 {
		t.Errorf("%+v still runs", all)
	}
}

// A process that sleeps has no samples.
func TestNoSamples(t *testing.T) {
	s := newSite(t)
	s.use(s.serve(s.gate(s.host("web-01", nil)), "profiler", "127.0.0.1:0"))
	pid := strconv.Itoa(start(t, "sleep 1000"))
	file := s.file("x.svg")
	s.expect(exitNoSamples, []string{"[no_samples]"}, "run", "--pid", pid, "-d", "300ms", "-o", file)
	if _, err := os.Stat(file); err == nil {
		t.Error("a file was written")
	}
}

// otherLoopback is an address of this machine of which the tests know that
// nobody listens at a profiler's port there.
const otherLoopback = "127.84.0.86"

// Who forgets a poller's port is told.
func TestPortIsHinted(t *testing.T) {
	s := newSite(t)
	s.serve(s.gate(s.host("web-01", nil)), "poller", otherLoopback+":"+contexts.PollerPort)
	s.expect(exitFailed, []string{"cannot be reached", "port 50084 is a profiler's; something listens at 50086, as a poller does: --server " + otherLoopback + ":50086 [unreachable]"},
		"hosts", "--server", otherLoopback, "--cert-dir", s.certs)
	s.expect(exitOK, []string{"web-01"}, "hosts", "--server", otherLoopback+":50086", "--cert-dir", s.certs)
}

// A shell completes what the service knows.
func TestCompletion(t *testing.T) {
	s := newSite(t)
	s.use(s.serve(s.gate(s.host("web-01", nil)), "profiler", "127.0.0.1:0"))
	pid := strconv.Itoa(start(t, busyLoop))
	id := strings.TrimSpace(s.expect(exitOK, nil, "start", "--pid", pid, "-d", "1h").out)
	for _, c := range []struct {
		line []string
		want string
	}{
		{[]string{"ps", ""}, "web-01\tready"},
		{[]string{"run", "w"}, "web-01\tready"},
		{[]string{"run", "web-01", "w"}, ":4"}, // it is named already
		{[]string{"run", "web-01", "--pid", pid}, pid + "\tsh"},
		{[]string{"ps", "--name", "s"}, "sh"},
		{[]string{"fetch", id, "--host", ""}, "web-01\tready"},
		{[]string{"watch", id[:4]}, id + "\t"},
		{[]string{"hosts", "--context", ""}, "here\t127.0.0.1:"},
		{[]string{"context", "use", "h"}, "here\t"},
		{[]string{"hosts", "-o", ""}, "wide"},
		{[]string{"list", "--state", "r"}, "running"},
	} {
		r := s.expect(exitOK, nil, append([]string{"__complete"}, c.line...)...)
		if !slices.ContainsFunc(strings.Split(r.out, "\n"), func(line string) bool { return strings.HasPrefix(line, c.want) }) {
			t.Errorf("%q is completed by %q, want %q", c.line, r.out, c.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		s.expect(exitOK, []string{"__complete"}, "completion", shell)
	}
	s.expect(exitOK, nil, "cancel", id)
}

// Certificates that do not fit are told of with the flags that name others, and a
// host that is misspelled with the one that was meant.
func TestRemediesNameFlags(t *testing.T) {
	s := newSite(t)
	address := s.serve(s.gate(s.host("web-01", nil)), "profiler", "127.0.0.1:0")
	s.use(address)
	other := t.TempDir()
	s.expect(exitOK, nil, "certs", "--dir", other)
	s.expect(exitFailed, []string{"not for elsewhere.example; ", "--server-name NAME [server_wrong_name]"}, "hosts", "--server-name", "elsewhere.example")
	s.expect(exitFailed, []string{"--ca FILE, or root.pem in --cert-dir [server_unknown_authority]"}, "hosts", "--server", address, "--cert-dir", other)
	s.expect(exitFailed, []string{"leave --insecure out [closed_at_once]"}, "hosts", "--server", address, "--insecure")
	s.expect(exitUsage, []string{"not all of them are named; name --cert, --key and --ca, or"}, "hosts", "--server", address, "--cert", filepath.Join(other, "admin.pem"))
	s.expect(exitOK, []string{`there are no such hosts; did you mean "web-01"?`}, "hosts", "web-1")
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	go func() {
		for {
			c, err := plain.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n")) // who called may have gone
			c.Close()
		}
	}()
	s.expect(exitFailed, []string{"does not speak TLS; check the address", "--insecure [no_tls]"}, "hosts", "--server", plain.Addr().String(), "--cert-dir", s.certs)
}

// Who interrupts before there is anything is told that nothing is written, and
// who cannot write a profile how to get it again.
func TestNothingIsWritten(t *testing.T) {
	s := newSite(t)
	s.use(s.serve(s.gate(s.host("web-01", nil)), "profiler", "127.0.0.1:0"))
	pid := strconv.Itoa(start(t, busyLoop))
	sleeper := strconv.Itoa(start(t, "sleep 1000"))
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	for _, command := range []string{"run", "record"} {
		r := s.srprofUntil(ctx, command, "--pid", sleeper, "-d", "1h", "-o", s.file("x.svg"))
		if want := "srprof: interrupted before there was a sample; nothing is written\n"; r.code != exitInterrupted || r.err != want {
			t.Errorf("%s: exit code %d: %s, want %q", command, r.code, r.err, want)
		}
	}
	s.expect(exitFailed, []string{"cannot write the profile to /dev/full (no space left on device); ", "; srprof fetch ", " gets the profile again [output_not_written]"},
		"run", "--pid", pid, "-d", "1s", "-F", "999", "--format", "folded", "-o", "/dev/full")
}
