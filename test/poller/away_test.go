// SPDX-License-Identifier: Apache-2.0

package poller_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/checks"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/store/queue"
)

// counting is an agent that says in each answer the how manieth it is: of status
// and of results apart.
func counting(t *testing.T, certs string) (a *agent, said *[2]atomic.Int64) {
	said = new([2]atomic.Int64)
	a = newAgent(t, certs, func(a *agent) {
		a.status = func(_ context.Context, in *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			return &monitoring.StatusResponse{Available: true, Message: fmt.Appendf(nil, `{"n":%d}`, said[0].Add(1)), AgentId: in.GetAgentId()}, nil
		}
		a.results = func(_ context.Context, in *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			n := said[1].Add(1)
			return &monitoring.ResultsResponse{Available: true, Data: fmt.Appendf(nil, `{"n":%d}`, n), AgentId: in.GetAgentId(), CurrentSequence: fmt.Sprint(n), HasNewData: true}, nil
		}
	})
	return a, said
}

var statusAndResults = []checks.Check{{Type: "icmp", Name: "status"}, {Type: "grpc", Name: "results", ResultsInterval: span(0)}}

// numbers are those that core got of a service, in order.
func (c *core) numbers(t *testing.T, name string) (all []int64) {
	t.Helper()
	for _, r := range c.all() {
		for _, s := range r.services {
			if s.GetServiceName() == name {
				var d struct{ N int64 }
				if err := json.Unmarshal(data(t, s), &d); err != nil {
					t.Fatal(err)
				}
				all = append(all, d.N)
			}
		}
	}
	return all
}

// each is 1, 2, … n.
func each(n int64) (all []int64) {
	for i := range n {
		all = append(all, i+1)
	}
	return all
}

// Core goes away and comes back, several times; once it answers that it cannot.
// It gets all there was, once and in order, with the times of then.
func TestCoreAway(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	a, said := counting(t, certs)
	log := &logged{}
	c, end := poll(t, pollerOptions{certs: certs, log: log.logger(), config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a}, statusAndResults...)})
	sees := func(n int64) func() bool {
		return func() bool { return said[0].Load() >= n }
	}
	core.waitFor(t, "", "results", 2)
	for range 2 {
		before := said[0].Load()
		core.stop(t)
		until(t, "polls go on", sees(before+10))
		if s := c.State(); s.Since.IsZero() || s.Err == nil || s.Queued == 0 {
			t.Errorf("%+v", s)
		}
		core.start(t)
		until(t, "core has them", func() bool { return c.State().Queued < 4 })
	}
	before := said[0].Load()
	core.refuseWith(func() error { return status.Error(codes.Unknown, "its database is away") })
	until(t, "polls go on", sees(before+10))
	core.refuseWith(nil)
	until(t, "core has them", func() bool { return c.State().Queued < 4 })
	end()
	for i, name := range []string{"status", "results"} {
		got := slices.Compact(core.numbers(t, name))                                   // it may have had one when it was stopped, and have it again
		if n := int64(len(got)); !slices.Equal(got, each(n)) || n < said[i].Load()-3 { // what was on its way at the end is not told
			t.Errorf("%s: %d said, and core got %v", name, said[i].Load(), got)
		}
	}
	times := map[int64]int{}
	last := int64(0)
	for _, r := range core.all() {
		if r.timestamp() < last {
			t.Errorf("%d after %d", r.timestamp(), last)
		}
		last = r.timestamp()
		times[last]++
		for _, s := range r.services {
			if len(r.services) != 2 { // of one poll, told together
				t.Logf("%d services, one is %s", len(r.services), s.GetServiceName())
			}
		}
	}
	if len(times) < 3 {
		t.Errorf("all reports are of %v", times)
	}
	if !log.has("core takes no reports: they are kept") || !log.has("core takes reports again") {
		t.Error("the log does not say so")
	}
	if s := c.State(); s.Dropped != (checks.Dropped{}) || !s.Since.IsZero() || s.Err != nil || s.Last.IsZero() {
		t.Errorf("%+v", s)
	}
}

// When there is no more room, the oldest status goes first, results last, and
// core is told how much.
func TestBounded(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	a, said := counting(t, certs)
	core.stop(t)
	log := &logged{}
	config := configured(core, 100*time.Millisecond, map[string]*agent{"web1": a}, checks.Check{Type: "icmp", Name: "status"}, checks.Check{Type: "grpc", Name: "results", ResultsInterval: span(never)})
	dir := t.TempDir()
	options := pollerOptions{certs: certs, log: log.logger(), dir: dir, limits: queue.Limits{MaxBytes: 64 << 20, MaxItems: 10}, config: config}
	c, end := poll(t, options)
	until(t, "there is no more room", func() bool { return c.State().Dropped.Summaries >= 10 })
	if s := c.State(); s.Queued != 10 || s.Dropped.Results != 0 {
		t.Errorf("%+v", s)
	}
	end()
	if !log.has("reports were dropped") {
		t.Error("the log does not say so")
	}
	dropped := c.State().Dropped.Summaries
	core.start(t)
	options.queue = nil
	c, _ = poll(t, options) // another life: what was dropped in the one before is told in this one
	core.waitFor(t, "", "status", 12)
	if core.find("", "results", 0) == nil || len(core.numbers(t, "results")) < 1 || core.numbers(t, "results")[0] != 1 {
		t.Errorf("results: %v", core.numbers(t, "results"))
	}
	// The one that was on its way to core was not dropped; after it those are
	// missing that were.
	got := core.numbers(t, "status")
	all := c.State().Dropped
	if gap := got[1] - got[0] - 1; gap != int64(all.Summaries) || all.Summaries < dropped || got[0] != 1 || !slices.IsSorted(got) {
		t.Errorf("%d of %d were dropped, and core got %v", all.Summaries, said[0].Load(), got)
	}
	var told checks.Dropped
	for n := 0; ; n++ {
		s := core.find("", "reports", n)
		if s == nil {
			break
		}
		var d struct{ Dropped checks.Dropped }
		if err := json.Unmarshal(data(t, s), &d); err != nil || !s.GetAvailable() || s.GetAgentId() != "poller-1" || s.GetServiceType() != "profiler" {
			t.Errorf("%v %v", s, err)
		}
		told = d.Dropped
	}
	if told.Summaries < dropped {
		t.Errorf("%d were dropped, and core was told of %+v", dropped, told)
	}
}

// What core will never take is not sent for ever.
func TestRefused(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	a, _ := counting(t, certs)
	n := 0
	core.refuseWith(func() error {
		if n++; n == 3 {
			return status.Error(codes.InvalidArgument, "not this one")
		}
		return nil
	})
	c, _ := poll(t, pollerOptions{certs: certs, config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a}, checks.Check{Type: "icmp", Name: "status"})})
	core.waitFor(t, "", "status", 5)
	if got := core.numbers(t, "status"); !slices.Equal(got[:4], []int64{1, 2, 4, 5}) {
		t.Errorf("%v", got)
	}
	if s := object(t, data(t, core.waitFor(t, "", "reports", 0)))["dropped"].(map[string]any); s["refused"] != 1.0 {
		t.Errorf("%v", s)
	}
	if s := c.State(); s.Dropped != (checks.Dropped{Refused: 1}) {
		t.Errorf("%+v", s)
	}
}

// While nothing can be written, core gets what it takes at once, and results are
// asked for again until they are written down.
func TestNoDisk(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	a, _ := counting(t, certs)
	dir := filepath.Join(t.TempDir(), "reports")
	log := &logged{}
	c, end := poll(t, pollerOptions{certs: certs, dir: dir, log: log.logger(), config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a}, statusAndResults...)})
	core.waitFor(t, "", "results", 1)
	if err := os.Rename(dir, dir+"-gone"); err != nil {
		t.Fatal(err)
	}
	until(t, "the log says so", func() bool { return log.has("a report cannot be written down") })
	had := len(core.numbers(t, "status"))
	core.waitFor(t, "", "status", had+3)
	if err := os.Rename(dir+"-gone", dir); err != nil {
		t.Fatal(err)
	}
	had = len(core.numbers(t, "results"))
	core.waitFor(t, "", "results", had+2)
	end()
	sequences := map[string]bool{}
	for _, r := range a.resultsRequests("results") {
		if seq := r.GetLastSequence(); seq != "" && sequences[seq] {
			return // asked for what comes after the same once more
		} else {
			sequences[seq] = true
		}
	}
	t.Errorf("results that were lost are not asked for again: %v, %+v", sequences, c.State())
}

// The poller is killed at any moment, again and again, while core comes and
// goes. All that it wrote down arrives, in order; what was on its way when it was
// killed it has asked for anew.
func TestKilled(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	a, said := counting(t, certs)
	config := &childConfig{Certs: certs, Dir: t.TempDir(), MaxItems: 10_000, Config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a}, statusAndResults...)}
	var lasts [2][]int64 // what was said last in each life
	for n := range 6 {
		if n%2 == 0 {
			core.stop(t)
		} else {
			core.start(t)
		}
		before := said[0].Load()
		l := begin(t, config)
		until(t, "it polls", func() bool { return said[0].Load() >= before+4+int64(n) })
		time.Sleep(time.Duration(n) * 17 * time.Millisecond) // at another moment of a poll each time
		l.kill()
		for i := range lasts {
			lasts[i] = append(lasts[i], said[i].Load())
		}
	}
	last := begin(t, config)
	for i, name := range []string{"status", "results"} {
		n := said[i].Load()
		until(t, "core has all", func() bool { all := core.numbers(t, name); return len(all) > 0 && all[len(all)-1] > n })
	}
	last.kill()
	for i, name := range []string{"status", "results"} {
		got := core.numbers(t, name)
		var first []int64 // without repetitions
		for _, n := range got {
			if !slices.Contains(first, n) {
				first = append(first, n)
			}
		}
		if !slices.IsSorted(first) {
			t.Errorf("%s: not in order: %v", name, got)
		}
		for n := int64(1); n <= first[len(first)-1]; n++ {
			// Up to two polls were asked and not written down when it was killed.
			onItsWay := slices.ContainsFunc(lasts[i], func(last int64) bool { return n > last-2 && n <= last })
			if !onItsWay && !slices.Contains(first, n) {
				t.Errorf("%s: %d is lost; core got %v, and it was killed at %v", name, n, got, lasts[i])
			}
		}
	}
}
