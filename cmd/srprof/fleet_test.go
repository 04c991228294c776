// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/poller"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store/files"
	"github.com/carverauto/serviceradar-profiler/store/sqlite"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// fleet is a poller before some hosts, each spoken to over the network; the
// last of them is away. It becomes the current context. The address is returned.
func (s *site) fleet(hosts int) string {
	s.Helper()
	var all []poller.HostConfig
	for i := range hosts + 1 {
		name, labels := fmt.Sprintf("web-%02d", i+1), map[string]string{"service": "shop"}
		address := "127.0.0.1:1"
		if i < hosts {
			address = s.serve(s.host(name, labels), "profiler", "127.0.0.1:0")
		} else {
			labels["service"] = "away"
		}
		creds, err := auth.Identity(s.certs, "poller").ClientCredentials(address)
		if err != nil {
			s.Fatal(err)
		}
		client, err := remote.Dial(address, creds)
		if err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { client.Close() })
		all = append(all, poller.HostConfig{Name: name, Address: address, Labels: labels, Fleet: client})
	}
	dir := s.TempDir()
	kept, err := sqlite.Open(s.Context(), filepath.Join(dir, "store.db"))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { kept.Close() })
	limits := poller.DefaultLimits()
	limits.DispatchTTLSeconds, limits.MaxSessionDurationSeconds = 1, 7200
	results, err := files.Open(filepath.Join(dir, "results"), files.Limits{MaxBytes: limits.MaxResultBytes})
	if err != nil {
		s.Fatal(err)
	}
	p, err := poller.New(poller.Options{Store: kept, Files: results, Hosts: all, Limits: limits, Spool: dir})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			s.Error(err)
		}
	})
	policy := access.DefaultPolicy()
	policy.Roles = map[string][]string{"admin.serviceradar": {"admin"}, "agent.serviceradar": {"viewer"}}
	policy.Rate.PerSecond, policy.Rate.Burst = 1000, 1000
	gate, err := access.NewFleet(p, &policy, slog.New(slog.DiscardHandler))
	if err != nil {
		s.Fatal(err)
	}
	address := s.serve(gate, "poller", "127.0.0.1:0")
	s.use(address)
	return address
}

// Several hosts as one, and each by itself.
func TestFleet(t *testing.T) {
	s := newSite(t)
	s.fleet(3)
	target := programs.Start(t, "split.c", programs.Options{As: "shop-worker"})
	pid := strconv.Itoa(target.PID)

	s.expect(exitOK, []string{"web-01", "web-03", "web-04", "service=away"}, "hosts")
	if hosts := decoded[[]session.Host](s, s.srprof("hosts", "-l", "service=shop", "-o", "json")); len(hosts) != 3 {
		t.Errorf("%+v", hosts)
	}
	s.expect(exitOK, []string{pid + " ", "shop-worker"}, "ps", "web-02", "--name", "shop-worker")
	s.expect(exitUsage, []string{"[no_host]"}, "run", "--name", "shop-worker")
	s.expect(exitUsage, []string{`there is no host "wbe-02"; did you mean "web-02"? `, "[no_such_host]"}, "run", "wbe-02", "--name", "shop-worker")
	s.expect(exitOK, []string{"matches 3 processes on 3 hosts", "web-03   1 "}, "run", "-l", "service=shop", "--name", "shop-worker", "--dry-run")
	s.expect(exitPartial, []string{"matches 3 processes on 3 hosts", "web-04   0 ", "cannot be reached"}, "run", "--all", "--name", "shop-worker", "--dry-run")
	s.expect(exitNotPermitted, []string{"[not_permitted]"}, "run", "--all", "--name", "shop-worker", "--identity", "agent")

	// All of them work.
	svg, each := s.file("shop.svg"), s.file("shop-{host}.folded")
	r := s.expect(exitOK, []string{"wrote " + svg, "wrote " + each + " for 3 hosts"},
		"run", "-l", "service=shop", "--name", "shop-worker", "-d", "1s", "-F", "499", "--by-host", "-o", svg, "-o", s.file("shop.pb.gz"), "-o", each, "-o", "json")
	one := decoded[session.Session](s, r)
	if one.State != session.StateSucceeded || len(one.Hosts) != 3 {
		t.Errorf("%+v", one)
	}
	s.contains(svg, "web-01", "web-02", "web-03", "hot_a")
	s.contains(s.file("shop-web-02.folded"), ";hot_a ")
	s.expect(exitOK, []string{"3 hosts", "web-02   succeeded"}, "get", string(one.ID))
	s.expect(exitOK, []string{"Hosts by samples", "web-03 "}, "fetch", string(one.ID))
	s.expect(exitOK, []string{"hot_a"}, "fetch", string(one.ID), "--host", "web-02")

	// One of them is away: the profile is of the others, and says so.
	s.expect(exitPartial, []string{"1 of 2 hosts failed:\n  web-04: ", "[host_unreachable]"},
		"run", "web-01", "web-04", "--name", "shop-worker", "-d", "1s", "-F", "499", "-o", s.file("partial.html"))
	s.contains(s.file("partial.html"), "web-04 is missing: ")
	list := s.expect(exitOK, []string{"2 hosts (1 failed)"}, "list").out
	last := list[strings.LastIndexByte(strings.TrimSpace(list), '\n')+1:]
	id := strings.Fields(last)[0]
	s.expect(exitPartial, []string{"1 of 2 hosts failed"}, "watch", id)
	s.expect(exitPartial, []string{"hot_a", "missing: "}, "fetch", id)
	s.expect(exitOK, []string{"web-04   failed ", "[host_unreachable]"}, "get", id)

	// None of them works.
	s.expect(exitFailed, []string{"[host_unreachable]"}, "run", "web-04", "--name", "shop-worker", "-d", "1s")
	s.expect(exitFailed, []string{"2 of 2 hosts failed", "[no_such_process]"}, "run", "web-01", "web-02", "--name", "nosuch", "-d", "1s", "-o", s.file("none.svg"))
	if _, err := os.Stat(s.file("none.svg")); err == nil {
		t.Error("a profile of nothing was written")
	}
}

// Ctrl-C ends a session on all its hosts, and what they sampled is written.
func TestFleetIsInterrupted(t *testing.T) {
	s := newSite(t)
	s.fleet(2)
	programs.Start(t, "split.c", programs.Options{As: "shop-worker"})
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	looked := make(chan result, 1)
	go func() {
		defer interrupt()
		one := s.sampling(ctx, 2)
		looked <- s.srprof("top", string(one.ID), "--once")
	}()
	file := s.file("x.folded")
	if r := s.srprofUntil(ctx, "run", "-l", "service=shop", "--name", "shop-worker", "-d", "1h", "-F", "499", "--by-host", "-o", file); r.code != exitInterrupted {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	s.contains(file, "web-01;", "web-02;", ";hot_a ")
	if r := <-looked; r.code != exitOK || !strings.Contains(r.out, "2 hosts") {
		t.Errorf("top: exit code %d: %s%s", r.code, r.out, r.err)
	}
	s.expect(exitOK, []string{"canceled"}, "list")
}
