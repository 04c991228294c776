// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/agents"
)

const (
	fleetSessions  = 1000
	fleetIdle      = 60 * time.Second // of heartbeats, watched
	fleetDuration  = 20 * time.Second // of each session
	heartbeatEvery = 30               // seconds: what the documentation gives as default
)

// fleet measures one poller before more and more hosts: what it takes while
// nothing happens but heartbeats, and how soon sessions run of which a thousand
// are asked for at once.
func (b *bench) fleet() error {
	out := table{title: "One poller before many hosts", columns: []string{"hosts", "all ready after", "idle: CPU", "memory", "memory a host",
		"sessions at once", "running, median", "p99", "slowest", "all ended and collected after", "CPU time a session", "peak memory"}}
	for _, hosts := range b.fleetSizes() {
		if err := b.fleetOf(hosts, &out); err != nil {
			return fmt.Errorf("%d hosts: %w", hosts, err)
		}
	}
	out.note("Hosts are real servers over mTLS in one process, each at an address of its own in 127.0.0.0/8; behind them sessions of %v that sample nothing. "+
		"Running: from the call that asks the poller to its answer that sampling is on, %d calls at once. Memory is the poller's resident set. Idle: %v of heartbeats, one a host every %d s. "+
		"The hosts, the poller and who asks share the CPUs.", fleetDuration, fleetSessions, fleetIdle, heartbeatEvery)
	out.print()
	return nil
}

func (b *bench) fleetSizes() []int {
	if b.quick {
		return []int{100, 1000}
	}
	return []int{100, 1000, 10_000}
}

// simulate is this program as all hosts of a fleet, with our agents or with
// ServiceRadar's, until it is interrupted.
func simulate(certs, port string, serviceRadar bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	creds, err := auth.Identity(certs, "agent").ServerCredentials("", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	hosts, err := agents.New(agents.Options{})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp4", "0.0.0.0:"+port) // all of 127.0.0.0/8
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		l.Close()
	}()
	serve := func() error { return hosts.Serve(l, creds) }
	if serviceRadar {
		s := grpc.NewServer(grpc.Creds(creds))
		monitoring.RegisterAgentServiceServer(s, realAgents{})
		grpc_health_v1.RegisterHealthServer(s, health.NewServer())
		serve = func() error { return s.Serve(l) }
	}
	if err := serve(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// site is a poller and its hosts.
type site struct {
	hosts   *tool
	poller  *tool
	address string
	clients []*remote.Client // several connections: each lets only so many calls through at once
}

func (b *bench) fleetOf(hosts int, out *table) error {
	s, err := b.openSite(hosts)
	if s != nil {
		defer s.close()
	}
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.ready(b.ctx, hosts); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(s.poller.output.String()))
	}
	ready := time.Since(began)
	pid := s.poller.pid()
	before, err := cpuTime(pid)
	if err != nil {
		return err
	}
	idle := fleetIdle
	if b.quick {
		idle = 10 * time.Second
	}
	time.Sleep(idle)
	after, err := cpuTime(pid)
	if err != nil {
		return err
	}
	memory, err := statusField(pid, "VmRSS")
	if err != nil {
		return err
	}
	waits, all, err := s.burst(b.ctx, hosts)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, tail(s.poller.output.String()))
	}
	end, err := cpuTime(pid)
	if err != nil {
		return err
	}
	peak, err := statusField(pid, "VmHWM")
	if err != nil {
		return err
	}
	out.row(strconv.Itoa(hosts), number(ready.Seconds(), 1, " s"), number(100*float64(after-before)/float64(idle), 1, " %"), number(memory/1e6, 1, " MB"),
		number(memory/1e3/float64(hosts), 0, " kB"), strconv.Itoa(fleetSessions),
		number(median(waits), 0, " ms"), number(quantile(waits, 0.99), 0, " ms"), number(quantile(waits, 1), 0, " ms"), number(all.Seconds(), 1, " s"),
		number(milliseconds(end-after)/fleetSessions, 2, " ms"), number(peak/1e6, 1, " MB"))
	return nil
}

// fleetFiles are the poller, built once, and certificates for all.
func (b *bench) fleetFiles() (program, certs string, err error) {
	program, certs = b.file("serviceradar-profiler-poller"), b.file("fleet-certs")
	if _, err := os.Stat(program); err != nil {
		if err := b.buildCommand("serviceradar-profiler-poller", program); err != nil {
			return "", "", err
		}
		if _, err := auth.WriteTryoutCertificates(certs, auth.Tryout{}); err != nil {
			return "", "", err
		}
	}
	return program, certs, moreFiles()
}

// openSite starts the hosts and the poller.
func (b *bench) openSite(hosts int) (*site, error) {
	program, certs, err := b.fleetFiles()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &site{}
	free, err := freeAddress()
	if err != nil {
		return s, err
	}
	_, port, _ := net.SplitHostPort(free)
	if s.hosts, err = b.begin(self, "-simulate", certs, "-port", port); err != nil {
		return s, err
	}
	if s.address, err = freeAddress(); err != nil {
		return s, err
	}
	config, err := b.pollerConfig(s.address, certs, port, hosts)
	if err != nil {
		return s, err
	}
	if s.poller, err = b.begin(program, "--config", config); err != nil {
		return s, err
	}
	creds, err := auth.Identity(certs, "admin").ClientCredentials(s.address)
	if err != nil {
		return s, err
	}
	for range fleetSessions / 100 {
		c, err := remote.Dial(s.address, creds, grpc.WithStaticStreamWindowSize(64<<10))
		if err != nil {
			return s, err
		}
		s.clients = append(s.clients, c)
	}
	return s, nil
}

// pollerConfig writes the configuration of a poller before so many hosts.
func (b *bench) pollerConfig(address, certs, port string, hosts int) (string, error) {
	path := b.file(fmt.Sprintf("poller-%d.json", hosts))
	return path, writeJSON(path, b.pollerSettings(address, certs, port, hosts))
}

func (b *bench) pollerSettings(address, certs, port string, hosts int) map[string]any {
	known := map[string]any{}
	for i := range hosts {
		known[fmt.Sprintf("host-%05d", i)] = map[string]any{"address": fmt.Sprintf("127.%d.%d.%d:%s", 1+i>>14, i>>7&0x7f, 1+i&0x7f, port),
			"labels": map[string]string{"rack": strconv.Itoa(i / 40)}}
	}
	security := auth.Identity(certs, "poller")
	security.ServerName = "127.0.0.1" // of all hosts, as ServiceRadar has it
	return map[string]any{
		"listen_addr": address, "poller_id": "bench", "source_ip": "127.0.0.1", "data_dir": b.file(fmt.Sprintf("poller-%d", hosts)),
		"security": security, "agents": known,
		"access": map[string]any{"roles": map[string][]string{"admin.serviceradar": {"admin"}}, "rate": map[string]int{"per_second": 100_000, "burst": 100_000}},
		"limits": map[string]any{"max_hosts_at_once": 2 * fleetSessions, "max_queued_sessions": 2 * fleetSessions, "max_sessions_per_host": fleetSessions},
	}
}

func writeJSON(path string, content any) error {
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// ready waits until all hosts are.
func (s *site) ready(ctx context.Context, hosts int) error {
	var last string
	for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		known, err := s.clients[0].Hosts(ctx, session.Hosts{})
		if err != nil {
			last = err.Error()
		}
		ready := 0
		for _, h := range known {
			if h.State == session.HostReady {
				ready++
			} else if h.Err != nil {
				last = h.Err.Error()
			}
		}
		if ready == hosts {
			return nil
		}
		select {
		case <-s.poller.exited:
			return errors.New("the poller ended")
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
	}
	return fmt.Errorf("hosts do not get ready: %s", last)
}

// burst asks for a thousand sessions at once, on as many hosts as there are. It
// returns how long each took until it ran, in ms, and how long all took to end.
func (s *site) burst(ctx context.Context, hosts int) (waits []float64, all time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	waits, errs := make([]float64, fleetSessions), make([]error, fleetSessions)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range fleetSessions {
		wg.Go(func() {
			there := s.clients[i%len(s.clients)]
			spec := session.Spec{PIDs: []int{1 + i}, Duration: fleetDuration, Frequency: 99, RequestID: fmt.Sprintf("bench-%d-%d", hosts, i),
				Hosts: session.Hosts{Names: []string{fmt.Sprintf("host-%05d", i*max(1, hosts/fleetSessions)%hosts)}}}
			asked := time.Now()
			one, err := there.Start(ctx, spec)
			for err == nil && one.State == session.StatePending {
				time.Sleep(20 * time.Millisecond)
				one, err = there.Get(ctx, one.ID)
			}
			waits[i] = milliseconds(time.Since(asked))
			if err != nil {
				errs[i] = err
				return
			}
			for now, err := range there.Watch(ctx, one.ID) {
				if err != nil || now.State.Final() && now.State != session.StateSucceeded {
					errs[i] = fmt.Errorf("%s %w: %v", now.State, err, now.Err)
					return
				}
			}
		})
	}
	wg.Wait()
	return waits, time.Since(began), errors.Join(errs...)
}

func (s *site) close() {
	for _, c := range s.clients {
		_ = c.Close() // it has served its purpose
	}
	for _, t := range []*tool{s.poller, s.hosts} {
		if t != nil {
			t.interrupt()
		}
	}
}

// cpuTime is what a process has used up to now.
func cpuTime(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("no threads of %d: %w", pid, err)
	}
	var all time.Duration
	for _, t := range tasks {
		text, err := os.ReadFile(t)
		if err != nil {
			continue // the thread has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		all += time.Duration(ns)
	}
	return all, nil
}

// moreFiles lets this process, and what it starts, have one for each host.
func moreFiles() error {
	const want = 12_000
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Cur >= want {
		return nil
	}
	l.Cur, l.Max = want, max(want, l.Max)
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
}

func tail(text string) string { return text[max(0, len(text)-2000):] }
