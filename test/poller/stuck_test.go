// SPDX-License-Identifier: Apache-2.0

package poller_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/checks"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
)

// counted says how many calls there are at a time.
type counted struct {
	mu        sync.Mutex
	now, most int
}

func (c *counted) enter() (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	c.most = max(c.most, c.now)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.now--
	}
}

func (c *counted) peak() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}

// An agent whose check hangs is given up after the 30 s that real pollers give
// it. Meanwhile nobody waits for it, and it is not asked again: O24, O25.
func TestStuckAgent(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	var calls counted
	deadline := make(chan time.Duration, 100)
	stuck := newAgent(t, certs, func(a *agent) {
		a.status = func(ctx context.Context, in *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			if in.GetServiceName() == "fine" {
				return realStatus(ctx, in)
			}
			defer calls.enter()()
			until, _ := ctx.Deadline()
			deadline <- time.Until(until)
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	})
	config := configured(core, 200*time.Millisecond, map[string]*agent{"alive": newAgent(t, certs, nil)}, checks.Check{Type: "icmp", Name: "ping"})
	config.Agents["stuck"] = checks.Agent{Address: stuck.address, Checks: []checks.Check{{Type: "icmp", Name: "hangs"}, {Type: "icmp", Name: "fine"}}}
	log := &logged{}
	poll(t, pollerOptions{certs: certs, config: config, log: log.logger()})
	core.waitFor(t, "", "ping", 20)
	if core.find("", "hangs", 0) != nil {
		t.Fatal("what hangs is reported before its time")
	}
	s := core.waitFor(t, "", "hangs", 0)
	if o := object(t, data(t, s)); s.GetAvailable() || o["error"] != "Service check failed" {
		t.Errorf("%v", s)
	}
	if s := core.find("", "fine", 0); s == nil || !s.GetAvailable() {
		t.Errorf("what the same agent answered is not reported: %v", s)
	}
	if calls.peak() != 1 {
		t.Errorf("an agent was asked %d times at once", calls.peak())
	}
	if d := <-deadline; d > 30*time.Second || d < 20*time.Second {
		t.Errorf("it has %v", d)
	}
	if !log.has("an agent is still being polled") {
		t.Error("the log does not say so")
	}
}

// Results that take several intervals are asked for once at a time: O25.
func TestSlowResults(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	var calls counted
	more := make(chan struct{})
	a := newAgent(t, certs, func(a *agent) {
		a.results = func(ctx context.Context, in *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			defer calls.enter()()
			select {
			case <-more:
				return realResults(ctx, in)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})
	poll(t, pollerOptions{certs: certs, config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a, "web2": newAgent(t, certs, nil)},
		checks.Check{Type: "grpc", Name: "results", ResultsInterval: span(0)}, checks.Check{Type: "icmp", Name: "ping"})})
	core.waitFor(t, "", "ping", 20) // of web2 mostly; web1's, too, although its results hang
	if n := len(a.resultsRequests("results")); n != 1 {
		t.Errorf("%d requests before the first was answered", n)
	}
	close(more)
	until(t, "results come again and again", func() bool { return len(a.resultsRequests("results")) > 3 })
	if calls.peak() != 1 {
		t.Errorf("results were asked for %d times at once", calls.peak())
	}
}

// Fifty agents, of which some are stuck or not there at all: each poll has all
// that answer, in order, and they are not asked at one moment.
func TestFiftyAgents(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	config := configured(core, 10*time.Second, nil)
	var first atomic.Int64
	after := make([]atomic.Int64, 50)
	for i := range 50 {
		a := newAgent(t, certs, func(a *agent) {
			a.status = func(ctx context.Context, in *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
				now := time.Now().UnixNano()
				first.CompareAndSwap(0, now)
				after[i].Store(now - first.Load())
				if i%10 == 3 {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return &monitoring.StatusResponse{Available: true, Message: []byte(`{}`), AgentId: in.GetAgentId()}, nil
			}
		})
		address := a.address
		if i%10 == 7 {
			a.stop(t)
		}
		config.Agents[fmt.Sprintf("web%02d", i)] = checks.Agent{Address: address, Checks: []checks.Check{{Type: "icmp", Name: fmt.Sprintf("ping%02d", i)}}}
	}
	poll(t, pollerOptions{certs: certs, config: config})
	until(t, "core gets a report", func() bool { return len(core.all()) > 0 })
	r := core.all()[0]
	var names []string
	failed := 0
	for _, s := range r.services {
		names = append(names, s.GetServiceName())
		if !s.GetAvailable() {
			failed++
		}
	}
	if len(names) < 40 || len(names) > 45 || !slices.IsSorted(names) || failed != len(names)-40 { // those that are not there fail after three tries, which may come later
		t.Errorf("%d services, %d failed: %q", len(names), failed, names)
	}
	distinct := map[int64]bool{}
	for i := range after {
		distinct[after[i].Load()/int64(10*time.Millisecond)] = true
	}
	if len(distinct) < 10 {
		t.Errorf("all agents are asked within %d hundredths of a second", len(distinct))
	}
}

// Agents that are not there when the poller starts, and come: O26, O31.
func TestAgentComes(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core, a := newCore(t, certs), newAgent(t, certs, nil)
	a.stop(t)
	log := &logged{}
	poll(t, pollerOptions{certs: certs, log: log.logger(), config: configured(core, 200*time.Millisecond, map[string]*agent{"web1": a}, checks.Check{Type: "icmp", Name: "ping"})})
	if s := core.waitFor(t, "", "ping", 0); s.GetAvailable() || object(t, data(t, s))["error"] != "Service check failed" || s.GetAgentId() != "web1" {
		t.Errorf("%v", s)
	}
	available := func() bool {
		last := false
		for _, r := range core.all() {
			for _, s := range r.services {
				last = s.GetAvailable()
			}
		}
		return last
	}
	for range 2 {
		a.start(t)
		until(t, "it answers", available)
		until(t, "the log says that it is back", func() bool { return log.has("an agent is healthy again") })
		a.stop(t)
		until(t, "it does not", func() bool { return !available() })
	}
	if !log.has("an agent is not healthy") {
		t.Error("the log does not say that it was away")
	}
}

// An agent that says it is ill is asked all the same, and so is one that says
// nothing of its health.
func TestIllAgent(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	a := newAgent(t, certs, func(a *agent) {
		a.healthy = func(context.Context) error { return status.Error(codes.Unimplemented, "no") }
	})
	poll(t, pollerOptions{certs: certs, config: configured(core, never, map[string]*agent{"web1": a}, checks.Check{Type: "icmp", Name: "ping"})})
	if s := core.waitFor(t, "", "ping", 0); !s.GetAvailable() {
		t.Errorf("%v", s)
	}
}
