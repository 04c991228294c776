// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/hops"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// only is the host that a fleet of one tells of.
func only(t testing.TB, f session.Fleet) session.Host {
	t.Helper()
	all, err := f.Hosts(t.Context(), session.Hosts{})
	if err != nil || len(all) != 1 || all[0].Name == "" {
		t.Fatalf("%+v, %v", all, err)
	}
	return all[0]
}

// A process is found by its name, and sampled, through both services as they
// are installed. Both write down what was asked for, and what it meant.
func TestStartByName(t *testing.T) {
	hops.Needs(t)
	h := newStation(t, "", "")
	client := hops.Dial(t, h.certs, "admin", h.agent.Address)
	name := fmt.Sprintf("shop%d", os.Getpid())
	p := programs.Start(t, "split.c", programs.Options{As: name})
	spec := session.Spec{Select: session.Selector{Name: name}, Duration: 30 * time.Second, Frequency: 199}
	matches, err := client.Match(t.Context(), spec)
	if err != nil || len(matches) != 1 || !slices.Equal(matches[0].PIDs, []int{p.PID}) {
		t.Fatalf("%+v, %v", matches, err)
	}
	began, err := client.Start(t.Context(), spec)
	if err != nil || !slices.Equal(began.Spec.PIDs, []int{p.PID}) || began.Host != matches[0].Host {
		t.Fatalf("%+v, %v", began, err)
	}
	daemons.Until(t, "200 samples", func() bool {
		now, err := client.Get(t.Context(), began.ID)
		if err != nil {
			t.Fatal(err)
		}
		return now.Progress.Samples >= 200
	})
	if now := only(t, client); now.Running != 1 || now.State != session.HostReady || now.Version == "" {
		t.Errorf("%+v", now)
	}
	if _, err := client.Cancel(t.Context(), began.ID); err != nil {
		t.Fatal(err)
	}
	content, err := client.Fetch(t.Context(), began.ID, session.Want{Format: "folded"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(content.Body)
	if err := errors.Join(err, content.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if got := hottest(t, string(b)); got != "hot_a" {
		t.Errorf("the hottest function is %s", got)
	}
	for _, p := range []*daemons.Program{h.agent, h.profiler} {
		daemons.Until(t, "a line of the audit", func() bool {
			return p.Said(`"call":"start"`, `"answer":"allowed"`, fmt.Sprintf(`"selector":"name %s"`, name), fmt.Sprintf(`"name":"%s"`, name), string(began.ID))
		})
	}
}

// The instance is that of the profiler: it stays when the agent is started
// again, and is another one when the profiler is. In between the host is away.
func TestInstance(t *testing.T) {
	hops.Needs(t)
	h := newStation(t, "", "")
	client := hops.Dial(t, h.certs, "admin", h.agent.Address)
	first := only(t, client)
	if first.State != session.HostReady || first.Instance == "" || first.Err != nil {
		t.Fatalf("%+v", first)
	}
	h.agent.Kill()
	again := agentBefore(t, h.certs, h.profiler.Address, "", "")
	again.WaitFor("the profiler is")
	client = hops.Dial(t, h.certs, "admin", again.Address)
	if now := only(t, client); now.Instance != first.Instance || now.Name != first.Name {
		t.Errorf("after a restart of the agent: %+v, before %+v", now, first)
	}

	h.profiler.Kill()
	if now := only(t, client); now.State != session.HostAway || now.Err == nil || now.Err.Code != "profiler_unavailable" || now.Instance != "" || now.Name != first.Name || now.Since.IsZero() {
		t.Errorf("without a profiler: %+v", now)
	}
	_, err := client.Processes(t.Context(), "", session.Selector{}, 1)
	wantsCode(t, err, session.ErrUnavailable, "profiler_unavailable")
	_, err = client.Start(t.Context(), session.Spec{Select: session.Selector{Name: "a"}, Duration: time.Second, Frequency: 99})
	wantsCode(t, err, session.ErrUnavailable, "profiler_unavailable")

	profilerAt(t, h.certs, h.profiler.Address, "")
	daemons.Until(t, "the host is back", func() bool { return only(t, client).State == session.HostReady })
	if now := only(t, client); now.Instance == first.Instance || now.Instance == "" || now.Err != nil {
		t.Errorf("after a restart of the profiler: %+v", now)
	}
}

func wantsCode(t *testing.T, err, kind error, code string) {
	t.Helper()
	var e *session.Error
	if !errors.As(err, &e) || e.Code != code || !errors.Is(err, kind) {
		t.Errorf("%v, want %s", err, code)
	}
}

// behindAgent is a client of an agent whose profiler is the given runner, where
// the agent has the given role; "" is none, "*" that nobody asks for one.
func behindAgent(t *testing.T, r session.Runner, role string) *remote.Client {
	t.Helper()
	certs := daemons.Certificates(t)
	switch role {
	case "*":
	case "":
		r = hops.Gate(t, r, "agent.serviceradar")
	default:
		r = hops.Gate(t, r, "agent.serviceradar", role)
	}
	healthy := func() remote.Health { return remote.Health{Healthy: true} }
	return hops.Dial(t, certs, "admin", hops.AgentAndProfiler(t, certs, r, healthy, "admin.serviceradar"))
}

// A profiler of before, which knows sessions alone: that is said, and sessions
// by PID go on.
func TestProfilerThatKnowsNoHost(t *testing.T) {
	hops.Needs(t)
	client := behindAgent(t, hops.Sessions(t), "*")
	if now := only(t, client); now.State != session.HostUnsupported || now.Err == nil || now.Err.Code != "profiler_too_old" || now.Instance != "" {
		t.Errorf("%+v", now)
	}
	_, err := client.Processes(t.Context(), "", session.Selector{}, 1)
	wantsCode(t, err, errors.ErrUnsupported, "profiler_too_old")
	_, err = client.Start(t.Context(), session.Spec{Select: session.Selector{Hottest: true}, Duration: time.Second, Frequency: 99})
	wantsCode(t, err, errors.ErrUnsupported, "profiler_too_old")
	if _, err := client.Start(t.Context(), session.Spec{PIDs: []int{busy(t).PID}, Duration: time.Second, Frequency: 99}); err != nil {
		t.Error(err)
	}
}

// A profiler that does not let its agent ask.
func TestAgentThatMayNotAsk(t *testing.T) {
	hops.Needs(t)
	s := hops.Sessions(t)
	client := behindAgent(t, hops.Host(s), "viewer")
	if now := only(t, client); now.State != session.HostReady || now.Instance == "" {
		t.Errorf("%+v", now)
	}
	_, err := client.Processes(t.Context(), "", session.Selector{}, 1)
	wantsCode(t, err, session.ErrUnavailable, "agent_not_permitted")
	client = behindAgent(t, hops.Host(s), "")
	if now := only(t, client); now.State != session.HostUnhealthy || now.Err == nil || now.Err.Code != "agent_not_permitted" {
		t.Errorf("%+v", now)
	}
}
