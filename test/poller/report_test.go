// SPDX-License-Identifier: Apache-2.0

package poller_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/checks"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
)

// sized is an agent whose services have messages of a size; of name, where one
// is given, else all.
func sized(t *testing.T, certs, mark string, size int) *agent {
	return newAgent(t, certs, func(a *agent) {
		a.status = func(_ context.Context, in *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			text := fmt.Sprintf(`{"mark":%q,"fill":%q}`, mark, strings.Repeat(mark, size))
			return &monitoring.StatusResponse{Available: true, Message: []byte(text), AgentId: in.GetAgentId()}, nil
		}
	})
}

func named(n int) (list []checks.Check) {
	for i := range n {
		list = append(list, checks.Check{Type: "icmp", Name: fmt.Sprint("check-", i)})
	}
	return list
}

// When a report is one message and when a stream, and how it looks. O5.
func TestThresholds(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	for _, c := range []struct {
		name           string
		services, size int
		streamed       bool
	}{
		{"none", 0, 0, false},
		{"two", 2, 10, false},
		{"five", 5, 10, false},
		{"six", 6, 10, true},
		{"seven", 7, 10, true},
		{"almost a mebibyte", 4, 261_400, false},
		{"more than a mebibyte", 4, 262_000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			core, a := newCore(t, certs), sized(t, certs, "a", c.size)
			_, end := poll(t, pollerOptions{certs: certs, config: configured(core, never, map[string]*agent{"web1": a}, named(c.services)...)})
			until(t, "core gets a report", func() bool { return len(core.all()) > 0 })
			end()
			all := core.all()
			if len(all) != 1 || (all[0].unary == nil) != c.streamed {
				t.Fatalf("%d reports, streamed: %v", len(all), all[0].unary == nil)
			}
			if c.streamed {
				verifyStream(t, all[0].chunks, c.services)
				return
			}
			u := all[0].unary
			if u.GetPollerId() != "poller-1" || u.GetAgentId() != "" || u.GetPartition() != "dmz" || u.GetSourceIp() != "192.0.2.9" || len(u.GetServices()) != c.services ||
				time.Since(time.Unix(u.GetTimestamp(), 0)).Abs() > time.Hour {
				t.Errorf("%s %q %s %s, %d services, at %d", u.GetPollerId(), u.GetAgentId(), u.GetPartition(), u.GetSourceIp(), len(u.GetServices()), u.GetTimestamp())
			}
		})
	}
}

func verifyStream(t *testing.T, chunks []*monitoring.PollerStatusChunk, services int) {
	t.Helper()
	if len(chunks) != services {
		t.Fatalf("%d chunks for %d services", len(chunks), services)
	}
	for i, chunk := range chunks {
		s := chunk.GetServices()
		if len(s) != 1 || s[0].GetServiceName() != fmt.Sprint("check-", i) || s[0].GetSource() != "getStatus" || chunk.GetIsFinal() != (i == services-1) ||
			int(chunk.GetChunkIndex()) != i || int(chunk.GetTotalChunks()) != services || chunk.GetAgentId() != "web1" || chunk.GetSourceIp() != "192.0.2.9" {
			t.Errorf("chunk %d: %d services, final %v, %d of %d, agent %s", i, len(s), chunk.GetIsFinal(), chunk.GetChunkIndex(), chunk.GetTotalChunks(), chunk.GetAgentId())
		}
	}
}

// Checks of the same name and type on several agents are never mixed: small ones
// go in one message, in which core mixes nothing, large ones in streams of their
// own.
func TestSameNames(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	for _, c := range []struct {
		name    string
		size    int
		reports int
	}{{"small", 10, 1}, {"large", 400_000, 3}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			core := newCore(t, certs)
			agents := map[string]*agent{}
			for _, mark := range []string{"a", "b", "c"} {
				agents["web-"+mark] = sized(t, certs, mark, c.size)
			}
			_, end := poll(t, pollerOptions{certs: certs, config: configured(core, never, agents, named(3)...)})
			until(t, "core gets all reports", func() bool { return len(core.all()) == c.reports })
			end()
			seen := map[string]int{}
			for _, r := range core.all() {
				if (c.reports == 1) != (r.unary != nil) {
					t.Errorf("streamed: %v", r.unary == nil)
				}
				for _, s := range r.services {
					seen[s.GetAgentId()+s.GetServiceName()]++
					if mark := object(t, data(t, s))["mark"]; "web-"+mark.(string) != s.GetAgentId() {
						t.Errorf("%s has what %s said", s.GetAgentId(), mark)
					}
				}
			}
			if len(seen) != 9 {
				t.Errorf("%d services of 9: %v", len(seen), seen)
			}
		})
	}
}

// A report of many agents goes in as few messages as it takes, each service
// once.
func TestManyAgents(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	const size, checksEach = 20_000, 30
	core := newCore(t, certs)
	agents := map[string]*agent{}
	for _, mark := range []string{"a", "b", "c", "d"} {
		agents["web-"+mark] = sized(t, certs, mark, size)
	}
	_, end := poll(t, pollerOptions{certs: certs, config: configured(core, never, agents, named(checksEach)...)})
	services := func() (n int) {
		for _, r := range core.all() {
			n += len(r.services)
		}
		return n
	}
	want := len(agents) * checksEach
	until(t, "core gets all services", func() bool { return services() >= want })
	end()
	all := core.all()
	seen := map[string]bool{}
	for _, r := range all {
		if r.unary == nil || len(r.services) < want/len(all)-2 {
			t.Errorf("a report of %d services in %d, streamed: %v", len(r.services), len(all), r.unary == nil)
		}
		for _, s := range r.services {
			seen[s.GetAgentId()+s.GetServiceName()] = true
		}
	}
	if len(all) != 3 || services() != want || len(seen) != want { // 2.4 MB
		t.Errorf("%d reports with %d services, %d different ones of %d", len(all), services(), len(seen), want)
	}
}

// A poller that finds nothing says so: core knows by that that it lives.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core, a := newCore(t, certs), newAgent(t, certs, nil)
	poll(t, pollerOptions{certs: certs, config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a})})
	until(t, "core gets three reports", func() bool { return len(core.all()) >= 3 })
	for _, r := range core.all() {
		if r.unary == nil || len(r.services) != 0 {
			t.Errorf("%v", r.services)
		}
	}
}
