// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
)

const (
	checksStatus = 3 // status checks an agent, in each poll
	checksPolls  = 3 // whole ones that are looked at
)

// checks measures the loop of ServiceRadar's checks: one poller with more and
// more agents, each with a few checks, and what core gets of it.
func (b *bench) checks() error {
	out := table{title: "ServiceRadar's checks of many agents", columns: []string{"agents", "checks a poll", "a poll takes, median", "slowest", "polls that left an agent out",
		"core has all of it after, median", "slowest", "calls to core a poll", "CPU a poll", "peak memory"}}
	for _, results := range []bool{false, true} {
		for _, agents := range b.checkSizes() {
			if err := b.checksOf(agents, results, &out); err != nil {
				return fmt.Errorf("%d agents: %w", agents, err)
			}
		}
	}
	out.note("A poll every %v; each agent has %d checks of its status, and in the rows with one more one for results that are new each time. All agents are one process that answers as ServiceRadar's do, "+
		"over mTLS, each at an address of its own in 127.0.0.0/8. %d polls, the first one after the start not counted. A poll takes from its beginning to its report being on the disk; "+
		"core has it all when it has answered the last call of it. Poller, agents and core share the CPUs.", b.checkInterval(), checksStatus, checksPolls)
	out.print()
	return nil
}

func (b *bench) checkSizes() []int {
	if b.quick {
		return []int{50, 500}
	}
	return []int{1000, 5000}
}

func (b *bench) checkInterval() time.Duration {
	if b.quick {
		return 10 * time.Second
	}
	return 30 * time.Second // as real pollers have it
}

func (b *bench) checksOf(agents int, results bool, out *table) error {
	core, err := b.openCore()
	if err != nil {
		return err
	}
	defer core.server.Stop()
	s, err := b.openChecked(agents, results, core)
	if s != nil {
		defer s.close()
	}
	if err != nil {
		return err
	}
	each := checksStatus
	if results {
		each++
	}
	if err := core.wait(b.ctx, s.poller, 1, agents*each); err != nil { // connections are made in the first one
		return err
	}
	before, err := cpuTime(s.poller.pid())
	if err != nil {
		return err
	}
	if err := core.wait(b.ctx, s.poller, 1+checksPolls, agents*each); err != nil {
		return err
	}
	after, err := cpuTime(s.poller.pid())
	if err != nil {
		return err
	}
	peak, err := statusField(s.poller.pid(), "VmHWM")
	if err != nil {
		return err
	}
	s.poller.interrupt()
	took, left, err := pollsIn(s.poller.output.String())
	if err != nil {
		return err
	}
	delays, calls := core.figures()
	out.row(strconv.Itoa(agents), strconv.Itoa(agents*each), number(median(took), 2, " s"), number(quantile(took, 1), 2, " s"), strconv.Itoa(left),
		number(median(delays), 1, " s"), number(quantile(delays, 1), 1, " s"), number(calls, 0, ""), number((after-before).Seconds()/checksPolls, 2, " s"), number(peak/1e6, 1, " MB"))
	return nil
}

// openChecked starts the agents, and a poller that asks them.
func (b *bench) openChecked(agents int, results bool, core *countingCore) (*site, error) {
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
	if s.hosts, err = b.begin(self, "-simulate", certs, "-port", port, "-serviceradar"); err != nil {
		return s, err
	}
	if s.address, err = freeAddress(); err != nil {
		return s, err
	}
	config := b.pollerSettings(s.address, certs, port, agents)
	config["data_dir"] = b.file(fmt.Sprintf("checks-%d-%v", agents, results))
	config["core_address"], config["poll_interval"] = core.address, b.checkInterval().String()
	config["logging"] = map[string]string{"level": "debug"}
	checks := []map[string]any{
		{"service_type": "icmp", "service_name": "ping"}, {"service_type": "process", "service_name": "sshd", "details": "sshd"},
		{"service_type": "port", "service_name": "ssh", "port": 22},
	}
	if results {
		checks = append(checks, map[string]any{"service_type": "grpc", "service_name": "sysmon", "results_interval": "1s"})
	}
	for _, a := range config["agents"].(map[string]any) {
		a.(map[string]any)["checks"] = checks
	}
	path := b.file("checks.json")
	if err := writeJSON(path, config); err != nil {
		return s, err
	}
	s.poller, err = b.begin(program, "--config", path)
	return s, err
}

// pollsIn are the polls that a poller's log tells of, but for the first: how
// long they took in seconds, and in how many of them an agent was left out.
func pollsIn(log string) (took []float64, left int, err error) {
	out := false
	for line := range strings.Lines(log) {
		var entry struct {
			Message string  `json:"message"`
			Seconds float64 `json:"seconds"`
		}
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue // what Go itself says
		}
		switch {
		case entry.Message == "polled":
			took = append(took, entry.Seconds)
			if out {
				left++
			}
			out = false
		case strings.HasPrefix(entry.Message, "an agent is still being polled"):
			out = true
		}
	}
	if len(took) < 1+checksPolls {
		return nil, 0, fmt.Errorf("the log tells of %d polls: %s", len(took), tail(log))
	}
	return took[1 : 1+checksPolls], left, nil
}

// countingCore stands for ServiceRadar's core, and counts.
type countingCore struct {
	monitoring.UnimplementedPollerServiceServer
	server  *grpc.Server
	address string

	mu    sync.Mutex
	polls []*reportedPoll // in the order in which they came
}

// reportedPoll is what core got of a poll.
type reportedPoll struct {
	at       int64 // its time
	services int
	calls    int
	last     time.Time // call that was answered
}

func (b *bench) openCore() (*countingCore, error) {
	_, certs, err := b.fleetFiles()
	if err != nil {
		return nil, err
	}
	creds, err := auth.Identity(certs, "agent").ServerCredentials("", nil)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &countingCore{server: grpc.NewServer(grpc.Creds(creds)), address: l.Addr().String()}
	monitoring.RegisterPollerServiceServer(c.server, c)
	go func() { _ = c.server.Serve(l) }() // until it is stopped; who calls finds out
	return c, nil
}

func (c *countingCore) ReportStatus(_ context.Context, in *monitoring.PollerStatusRequest) (*monitoring.PollerStatusResponse, error) {
	return c.count(in.GetTimestamp(), len(in.GetServices()))
}

func (c *countingCore) StreamStatus(in grpc.ClientStreamingServer[monitoring.PollerStatusChunk, monitoring.PollerStatusResponse]) error {
	services, at := 0, int64(0)
	for {
		chunk, err := in.Recv()
		if err != nil {
			return err
		}
		services, at = services+len(chunk.GetServices()), chunk.GetTimestamp()
		if chunk.GetIsFinal() {
			break
		}
	}
	answer, err := c.count(at, services)
	if err != nil {
		return err
	}
	return in.SendAndClose(answer)
}

func (c *countingCore) count(at int64, services int) (*monitoring.PollerStatusResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var p *reportedPoll
	for _, known := range c.polls {
		if known.at == at {
			p = known
		}
	}
	if p == nil {
		p = &reportedPoll{at: at}
		c.polls = append(c.polls, p)
	}
	p.services, p.calls, p.last = p.services+services, p.calls+1, time.Now()
	return &monitoring.PollerStatusResponse{Received: true}, nil
}

// wait waits until core has all services of so many polls.
func (c *countingCore) wait(ctx context.Context, poller *tool, polls, services int) error {
	for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); {
		c.mu.Lock()
		n := 0
		for _, p := range c.polls {
			if p.services >= services {
				n++
			}
		}
		c.mu.Unlock()
		if n >= polls {
			return nil
		}
		select {
		case <-poller.exited:
			return fmt.Errorf("the poller ended: %s", tail(poller.output.String()))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("core does not get the reports")
}

// figures are, of all polls but the first, how long after the report's time
// core had it all, in seconds, and the mean number of calls. Reports tell whole
// seconds.
func (c *countingCore) figures() (delays []float64, calls float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	polls := c.polls[1 : 1+checksPolls]
	for _, p := range polls {
		delays = append(delays, p.last.Sub(time.Unix(p.at, 0)).Seconds())
		calls += float64(p.calls) / float64(len(polls))
	}
	return delays, calls
}

// realAgents answer checks as ServiceRadar's agents do.
type realAgents struct {
	monitoring.UnimplementedAgentServiceServer
}

func (realAgents) GetStatus(_ context.Context, in *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	return &monitoring.StatusResponse{Available: true, Message: []byte(`{"host":"` + in.GetAgentId() + `","response_time":1234567,"packet_loss":0,"available":true}`),
		ServiceName: in.GetServiceName(), ServiceType: in.GetServiceType(), ResponseTime: 1234567, AgentId: in.GetAgentId(), PollerId: in.GetPollerId()}, nil
}

// GetResults is what sysmon tells of a host with some CPUs and disks, in size.
func (realAgents) GetResults(_ context.Context, in *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
	return &monitoring.ResultsResponse{Available: true, Data: fmt.Appendf(nil, `{"host":%q,"cpus":[%s{}]}`, in.GetAgentId(), strings.Repeat(`{"core_id":1,"usage_percent":12.5},`, 40)),
		AgentId: in.GetAgentId(), CurrentSequence: time.Now().String(), HasNewData: true, ResponseTime: 1234567}, nil
}
