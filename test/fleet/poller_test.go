// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// fleet is a site with a poller.
type fleet struct {
	*site
	poller *daemons.Program
	client *remote.Client // of the poller, at the hub
	data   string         // the poller's directory
}

func (s *site) pollerAddress() string { return s.hub.address + ":" + pollerPort }

// newFleet starts a poller before so many hosts. Change alters its
// configuration.
func newFleet(t testing.TB, hosts int, change func(object)) *fleet {
	t.Helper()
	return newSite(t, hosts).fleet(hosts, change)
}

// fleet starts a poller before the hosts that are known, and waits until so many
// are ready.
func (s *site) fleet(ready int, change func(object)) *fleet {
	s.t.Helper()
	f := &fleet{site: s, data: s.t.TempDir()}
	config := object{
		"listen_addr": f.pollerAddress(), "poller_id": "test", "source_ip": f.hub.address, "data_dir": f.data,
		"security": auth.Identity(f.certs, "poller"), "agents": f.known,
		"access": object{"roles": object{"admin.serviceradar": []string{"admin"}}, "rate": often},
		"limits": object{"heartbeat_seconds": 1, "call_timeout_seconds": 3},
	}
	if change != nil {
		change(config)
	}
	f.poller = f.program(f.hub, "serviceradar-profiler-poller", config)
	f.poller.Start()
	f.client = f.dial("admin")
	f.ready(ready)
	return f
}

// ready waits until so many hosts are.
func (f *fleet) ready(hosts int) {
	f.t.Helper()
	daemons.Until(f.t, "all hosts are ready", func() bool {
		known, err := f.client.Hosts(f.t.Context(), session.Hosts{})
		ready := 0
		for _, h := range known {
			if h.State == session.HostReady {
				ready++
			}
		}
		return err == nil && ready >= hosts
	})
}

// dial is a client at the hub.
func (f *fleet) dial(identity string) *remote.Client {
	f.t.Helper()
	creds, err := auth.Identity(f.certs, identity).ClientCredentials(f.pollerAddress())
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := remote.Dial(f.pollerAddress(), creds, grpc.WithContextDialer(f.hub.dial))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

// dial connects from the node.
func (d *node) dial(ctx context.Context, address string) (c net.Conn, err error) {
	entered := d.enter(func() { c, err = (&net.Dialer{}).DialContext(ctx, "tcp4", address) })
	return c, errors.Join(entered, err)
}

// listen listens at the node.
func (d *node) listen(port string) (l net.Listener, err error) {
	entered := d.enter(func() { l, err = net.Listen("tcp4", d.address+":"+port) })
	return l, errors.Join(entered, err)
}

// enter has something done in the node's network.
func (d *node) enter(do func()) error {
	out := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is not of this network any more
		at, err := os.Open("/run/netns/" + d.space())
		if err == nil {
			err = errors.Join(unix.Setns(int(at.Fd()), unix.CLONE_NEWNET), at.Close())
		}
		if err == nil {
			do()
		}
		out <- err
	}()
	return <-out
}

// start starts a session, come what may: what cannot be reached now is tried
// again, under the same request ID.
func (f *fleet) start(spec session.Spec) session.Session {
	f.t.Helper()
	if spec.RequestID == "" {
		spec.RequestID = string(session.NewID())
	}
	if spec.Frequency == 0 {
		spec.Frequency = 199
	}
	var one session.Session
	daemons.Until(f.t, "the session is accepted", func() bool {
		now, err := f.client.Start(f.t.Context(), spec)
		if err != nil && !errors.Is(err, session.ErrUnavailable) {
			f.t.Fatal(err)
		}
		one = now
		return err == nil
	})
	return one
}

// await waits until something holds for a session, however often the poller is
// away meanwhile.
func (f *fleet) await(id session.ID, what string, holds func(*session.Session) bool) session.Session {
	f.t.Helper()
	var last session.Session
	daemons.Until(f.t, what, func() bool {
		now, err := f.client.Get(f.t.Context(), id)
		if err != nil {
			if !errors.Is(err, session.ErrUnavailable) {
				f.t.Fatal(err)
			}
			return false
		}
		last = now
		return holds(&now)
	})
	return last
}

func (f *fleet) ended(id session.ID) session.Session {
	f.t.Helper()
	return f.await(id, "the session ends", func(s *session.Session) bool { return s.State.Final() })
}

func on(names ...string) session.Hosts { return session.Hosts{Names: names} }

// From one command to a flame graph with the right functions: by PID on one
// host, by name on all of them.
func TestFromCommandToFlameGraph(t *testing.T) {
	f := newFleet(t, 3, nil)
	target := programs.Start(t, "split.c", programs.Options{})
	for _, args := range [][]string{
		{"run", "web-02", "--pid", pid(target)},
		{"run", "--all", "--name", "split*"},
		{"run", "-l", "role=web", "--hottest"}, // which may be another one, on a busy machine
	} {
		began := time.Now()
		out, code := f.srprof(f.pollerAddress(), append(args, "-d", "2s", "-F", "499", "-o", f.data+"/out.svg", "-o", f.data+"/out.folded")...)
		took := time.Since(began)
		if code != 0 {
			t.Fatalf("%v: exit code %d:\n%s", args, code, out)
		}
		svg, err := os.ReadFile(f.data + "/out.svg")
		if err == nil && args[3] == "--hottest" {
			continue
		}
		if err != nil || !strings.Contains(string(svg), "hot_a") {
			t.Errorf("%v: no hot_a in the flame graph: %v", args, err)
		}
		folded, err := os.ReadFile(f.data + "/out.folded")
		if err != nil {
			t.Fatal(err)
		}
		if got := hottest(t, string(folded)); got != "hot_a" {
			t.Errorf("%v: the hottest function is %s", args, got)
		}
		t.Logf("%v: 2 s of sampling in %v", args, took.Round(10*time.Millisecond))
	}
}
