// SPDX-License-Identifier: Apache-2.0

package poller_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/checks"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/session"
)

var profilerStatus = checks.Check{Type: "profiler", Name: "ebpf"}

// scheduled is a check that profiles.
func scheduled(every time.Duration, details string) checks.Check {
	return checks.Check{Type: "profiler", Name: "ebpf-results", Details: details, ResultsInterval: span(every)}
}

// What core gets of a host that takes sessions: all of it small, whatever ran
// there, and asked of the fleet and not of the agent.
func TestProfilerSummary(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core, a := newCore(t, certs), newAgent(t, certs, nil)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f := &fleet{hosts: []session.Host{{Name: "web1", State: session.HostReady, Since: at, Version: "2.0", Running: 1, Queued: 2}}, folded: map[session.ID]string{"s-ok": "main;a 30\nmain;b 10\nx;y;a 60\n"}}
	for i := range 10 { // older ones, of which nothing is told
		f.sessions = append(f.sessions, session.Session{ID: session.ID(fmt.Sprint("old-", i)), State: session.StateCanceled, Hosts: []session.HostRun{{Host: "web1", State: session.StateCanceled}}})
	}
	why := &session.Error{Code: "no_such_process", Kind: fs.ErrNotExist, Problem: strings.Repeat("x", 1000)}
	f.sessions = append(f.sessions,
		session.Session{ID: "s-elsewhere", State: session.StateRunning, Hosts: []session.HostRun{{Host: "web2", State: session.StateRunning}}},
		session.Session{ID: "s-failed", State: session.StateFailed, Created: at, Ended: at, Spec: session.Spec{PIDs: []int{7}, Requester: "ada"}, Err: why, Hosts: []session.HostRun{{Host: "web1", State: session.StateFailed}}},
		session.Session{ID: "s-ok", State: session.StateSucceeded, Created: at, Ended: at, Spec: session.Spec{PIDs: []int{8}}, Hosts: []session.HostRun{
			{Host: "web1", State: session.StateSucceeded, Targets: []profile.Target{{PID: 8, Name: "redis-server"}}, Progress: session.Progress{Samples: 100}}}},
		session.Session{ID: "s-waits", State: session.StatePending, Created: at, Spec: session.Spec{Select: session.Selector{Unit: "nginx"}}, Hosts: []session.HostRun{
			{Host: "web1", State: session.StatePending, Waiting: "for 2 others on this host"}}},
	)
	poll(t, pollerOptions{certs: certs, fleet: f, config: configured(core, 200*time.Millisecond, map[string]*agent{"web1": a}, profilerStatus)})
	s := core.waitFor(t, "web1", "ebpf", 2)
	if !s.GetAvailable() || s.GetServiceType() != "profiler" || s.GetSource() != "getStatus" {
		t.Errorf("%v", s)
	}
	want := `{"active_sessions":1,"available":true,"healthy":true,"host_ip":"192.0.2.9","host_name":"web1","hostname":"web1","ip":"192.0.2.9",` +
		`"poller":{"version":"1.2.3","queued_reports":0,"dropped_reports":{"summaries":0,"results":0,"refused":0,"damaged":0}},"queued_sessions":2,` +
		`"sessions":[` +
		`{"session_id":"s-waits","state":"pending","target":"unit nginx","created":"2026-01-02T03:04:05Z","reason":"for 2 others on this host","samples":0},` +
		`{"session_id":"s-ok","state":"succeeded","target":"redis-server","created":"2026-01-02T03:04:05Z","ended":"2026-01-02T03:04:05Z","samples":100,"top":[{"function":"a","percent":90},{"function":"b","percent":10}]},` +
		`{"session_id":"s-failed","state":"failed","target":"PID 7","requester":"ada","created":"2026-01-02T03:04:05Z","ended":"2026-01-02T03:04:05Z","reason":"` + strings.Repeat("x", 256) + `…","code":"no_such_process","samples":0},` +
		`{"session_id":"old-9","state":"canceled","target":"","created":"0001-01-01T00:00:00Z","samples":0},` +
		`{"session_id":"old-8","state":"canceled","target":"","created":"0001-01-01T00:00:00Z","samples":0}],` +
		`"since":"2026-01-02T03:04:05Z","state":"ready","status":{` + host + `},"version":"2.0"}`
	got := regexp.MustCompile(`"queued_reports":\d+`).ReplaceAllString(string(data(t, s)), `"queued_reports":0`)
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if n := len(a.statusRequests("ebpf")); n != 0 {
		t.Errorf("the agent was asked %d times", n)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fetches != 1 {
		t.Errorf("a profile is fetched %d times for its hottest functions", f.fetches)
	}
}

// What cannot be had of a profile is asked for once.
func TestHottestOfTooLarge(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core, a := newCore(t, certs), newAgent(t, certs, nil)
	f := &fleet{hosts: []session.Host{{Name: "web1", State: session.HostReady}}, tooLarge: "s-large",
		sessions: []session.Session{{ID: "s-large", State: session.StateSucceeded, Hosts: []session.HostRun{{Host: "web1", State: session.StateSucceeded}}}}}
	poll(t, pollerOptions{certs: certs, fleet: f, config: configured(core, 200*time.Millisecond, map[string]*agent{"web1": a}, profilerStatus)})
	s := core.waitFor(t, "web1", "ebpf", 2)
	if got := object(t, data(t, s)); len(got["sessions"].([]any)) != 1 {
		t.Errorf("%v", got)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fetches != 1 {
		t.Errorf("it is fetched %d times", f.fetches)
	}
}

// Hosts that take no sessions, for all reasons there are.
func TestProfilerWithout(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	old := func(_ context.Context, in *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		return &monitoring.StatusResponse{Available: true, Message: []byte(`{"healthy":true,"version":"0.9"}`), AgentId: in.GetAgentId()}, nil
	}
	refuses := func(context.Context, *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
		return nil, status.Error(codes.Unimplemented, "no")
	}
	away := &session.Error{Code: "unreachable", Kind: session.ErrUnavailable, Problem: "192.0.2.7:50051 cannot be reached"}
	none := `{"available":false,"code":"no_profiling","error":"no profiling","healthy":false,` + host + `,"reason":"the agent of this host knows no profiling; its other checks go on","state":"no profiling","status":{` + host + `}}`
	for _, c := range []struct {
		name      string
		hosts     []session.Host
		status    func(context.Context, *monitoring.StatusRequest) (*monitoring.StatusResponse, error)
		available bool
		want      string
	}{
		{"a real agent", []session.Host{{Name: "web1", State: session.HostUnsupported}}, realStatus, false, none},
		{"what does not know the call", []session.Host{{Name: "web1", State: session.HostUnsupported}}, refuses, false, none},
		{"a host that the fleet does not have", nil, realStatus, false, none},
		{"an agent of ours that is older", []session.Host{{Name: "web1", State: session.HostUnsupported}}, old, true, `{"healthy":true,` + host + `,"status":{` + host + `},"version":"0.9"}`},
		{"a host that is away", []session.Host{{Name: "web1", State: session.HostAway, Err: away}}, realStatus, false,
			`{"active_sessions":0,"available":false,"code":"unreachable","healthy":false,` + host + `,"poller":{},"queued_sessions":0,"reason":"192.0.2.7:50051 cannot be reached","sessions":[],"state":"away","status":{` + host + `}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			core, a := newCore(t, certs), newAgent(t, certs, func(a *agent) { a.status = c.status })
			poll(t, pollerOptions{certs: certs, fleet: &fleet{hosts: c.hosts}, config: configured(core, never, map[string]*agent{"web1": a}, profilerStatus, checks.Check{Type: "icmp", Name: "ping"})})
			s := core.waitFor(t, "web1", "ebpf", 0)
			got := regexp.MustCompile(`"poller":\{[^}]*\}\}`).ReplaceAllString(string(data(t, s)), `"poller":{}`)
			if got != c.want || s.GetAvailable() != c.available {
				t.Errorf("%v: %s\nwant\n%s", s.GetAvailable(), got, c.want)
			}
			if core.find("", "ping", 0) == nil {
				t.Error("another check of the agent is not reported")
			}
		})
	}
}

// An agent that has no results of type profiler is reported as such; a real
// poller would say nothing.
func TestProfilerResultsWithout(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core, a := newCore(t, certs), newAgent(t, certs, nil)
	poll(t, pollerOptions{certs: certs, fleet: &fleet{}, config: configured(core, never, map[string]*agent{"web1": a}, scheduled(never, ""))})
	s := core.waitFor(t, "web1", "ebpf-results", 0)
	if o := object(t, data(t, s)); s.GetAvailable() || s.GetSource() != "results" || o["code"] != "no_profiling" {
		t.Errorf("%v", s)
	}
	if n := len(a.resultsRequests("ebpf-results")); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// A profile by schedule: each slot has one session, and core gets each profile
// once.
func TestSchedule(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core, a, f := newCore(t, certs), newAgent(t, certs, nil), &fleet{}
	poll(t, pollerOptions{certs: certs, fleet: f, config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a},
		scheduled(time.Second, `{"name": "postgres*", "duration": "250ms", "frequency": 499, "children": true}`))})
	for n := range 3 {
		until(t, "a session runs", func() bool { return len(f.running()) > 0 })
		id := f.running()[0]
		f.end(id, fmt.Sprintf("main;hot 1%d\n", n), nil)
		s := core.waitFor(t, "web1", "ebpf-results", n)
		o := object(t, data(t, s))
		if !s.GetAvailable() || s.GetSource() != "results" || s.GetServiceType() != "profiler" || o["session_id"] != string(id) || o["folded"] != fmt.Sprintf("main;hot 1%d\n", n) ||
			o["folded_truncated"] != false || o["host_ip"] != "192.0.2.9" || o["hostname"] != "web1" || o["whole"].(map[string]any)["command"] != "srprof fetch "+string(id) ||
			o["whole"].(map[string]any)["method"] != "/serviceradar.session.v1.SessionService/Fetch" {
			t.Errorf("%s", s.GetMessage())
		}
	}
	seen := map[string]bool{}
	for _, spec := range f.started() {
		if seen[spec.RequestID] || !regexp.MustCompile(`^schedule/poller-1/web1/ebpf-results/\d{10}-[0-9a-f]{8}$`).MatchString(spec.RequestID) {
			t.Errorf("request ID %s", spec.RequestID)
		}
		seen[spec.RequestID] = true
		if spec.Requester != "poller schedule" || spec.Select.Name != "postgres*" || spec.Duration != 250*time.Millisecond || spec.Frequency != 499 || !spec.Children ||
			len(spec.Hosts.Names) != 1 || spec.Hosts.Names[0] != "web1" || spec.Validate() != nil || spec.MaxWait != time.Second {
			t.Errorf("%+v", spec)
		}
	}
	ids := map[string]bool{}
	for n := 0; core.find("", "ebpf-results", n) != nil; n++ {
		id := object(t, data(t, core.find("", "ebpf-results", n)))["session_id"].(string)
		if ids[id] {
			t.Errorf("%s is reported twice", id)
		}
		ids[id] = true
	}
	if len(a.resultsRequests("ebpf-results")) != 0 {
		t.Error("the agent was asked for results")
	}
}

// A poller that is started anew finds the session of its slot, and that of a slot
// before, and tells core what was not told yet.
func TestScheduleAcrossRestarts(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core, a, f := newCore(t, certs), newAgent(t, certs, nil), &fleet{}
	options := pollerOptions{certs: certs, fleet: f, dir: t.TempDir(), config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a}, scheduled(never, `{"pid": 7}`))}
	_, end := poll(t, options)
	until(t, "a session runs", func() bool { return len(f.running()) == 1 })
	id := f.running()[0]
	end()
	_, end = poll(t, options)
	until(t, "it is asked for again", func() bool { return len(f.started()) == 2 })
	f.end(id, "main 1\n", nil)
	core.waitFor(t, "web1", "ebpf-results", 0)
	end()
	if s := f.started(); s[0].RequestID != s[1].RequestID || len(f.sessions) != 1 {
		t.Errorf("%q, %q", s[0].RequestID, s[1].RequestID)
	}
	_, end = poll(t, options)
	before := len(core.all())
	until(t, "it polls", func() bool { return len(core.all()) > before+3 })
	end()
	if core.find("", "ebpf-results", 1) != nil || len(f.started()) != 2 {
		t.Error("a profile that was reported is reported again, or started anew")
	}

	// Another check, whose slot is over when the poller is back.
	options.config = configured(core, 100*time.Millisecond, map[string]*agent{"web2": a}, scheduled(time.Second, `{"pid": 8}`))
	_, end = poll(t, options)
	until(t, "a session runs", func() bool { return len(f.running()) == 1 })
	left := f.running()[0]
	end()
	f.end(left, "left 1\n", nil)
	time.Sleep(1100 * time.Millisecond) // the slot is over
	poll(t, options)
	if o := object(t, data(t, core.waitFor(t, "web2", "ebpf-results", 0))); o["session_id"] != string(left) || o["folded"] != "left 1\n" {
		t.Errorf("%v", o)
	}
	until(t, "it goes on with the next slot", func() bool { return len(f.running()) == 1 })
}

// A clock that was ahead once, as it is on hosts that start without the time, does
// not keep a schedule from going on until that time comes.
func TestClockWasAhead(t *testing.T) {
	t.Parallel()
	certs, dir := certificates(t), t.TempDir()
	core, a, f := newCore(t, certs), newAgent(t, certs, nil), &fleet{}
	ahead := fmt.Sprintf(`{"slots": {"web1/ebpf-results": %d}}`, time.Now().AddDate(1, 0, 0).Unix())
	if err := os.WriteFile(filepath.Join(dir, "reported.json"), []byte(ahead), 0o600); err != nil {
		t.Fatal(err)
	}
	options := pollerOptions{certs: certs, fleet: f, dir: dir, config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a}, scheduled(24*time.Hour, `{"pid": 7}`))}
	_, end := poll(t, options)
	until(t, "a session runs", func() bool { return len(f.running()) == 1 })
	f.end(f.running()[0], "main 1\n", nil)
	core.waitFor(t, "web1", "ebpf-results", 0)
	end()
	poll(t, options)
	before := len(core.all())
	until(t, "it polls", func() bool { return len(core.all()) > before+3 })
	if core.find("", "ebpf-results", 1) != nil || len(f.started()) != 1 {
		t.Error("the slot is begun again")
	}
}

// What cannot be profiled is reported with its reason, once a slot.
func TestScheduleFails(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	a := newAgent(t, certs, nil)
	gone := &session.Error{Code: "no_such_process", Kind: fs.ErrNotExist, Problem: "there is no process 7"}
	busy := &session.Error{Code: "busy", Kind: session.ErrBusy, Problem: "10 sessions run"}
	none := &session.Error{Code: "no_profiling", Kind: errors.ErrUnsupported, Problem: "the host knows no profiling"}
	for _, c := range []struct {
		name  string
		start error // of Start
		end   func(*fleet, session.ID)
		want  string
	}{
		{"at once", gone, nil, `{"available":false,"code":"no_such_process","error":"there is no process 7",` + host + `,"status":{` + host + `}}`},
		{"after its slot", busy, nil, `{"available":false,"code":"busy","error":"10 sessions run",` + host + `,"status":{` + host + `}}`},
		{"at the host", nil, func(f *fleet, id session.ID) { f.end(id, "", none) }, `"code":"no_profiling"`},
		{"because it is forgotten", nil, func(f *fleet, _ session.ID) { f.forget() }, `"code":"no_such_session"`},
		{"because the text is none", nil, func(f *fleet, id session.ID) { f.end(id, "no text", nil) }, `has no count`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			core, f := newCore(t, certs), &fleet{}
			f.failWith(c.start)
			poll(t, pollerOptions{certs: certs, fleet: f, config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a}, scheduled(2*time.Second, `{"pid": 7}`))})
			if c.end != nil {
				until(t, "a session runs", func() bool { return len(f.running()) > 0 })
				c.end(f, f.running()[0])
			}
			s := core.waitFor(t, "web1", "ebpf-results", 0)
			if got := string(data(t, s)); s.GetAvailable() || !strings.Contains(got, c.want) {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
			if c.name == "after its slot" {
				if n := len(f.started()); n < 3 {
					t.Errorf("it was tried %d times", n)
				}
			}
			f.failWith(nil)
			until(t, "the next slot has a session", func() bool { return len(f.running()) > 0 })
		})
	}
}

// A profile that is too large for a report has its hottest stacks in it, and says
// so; it is one slice.
func TestLargeProfile(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core, a, f := newCore(t, certs), newAgent(t, certs, nil), &fleet{}
	poll(t, pollerOptions{certs: certs, fleet: f, config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a}, scheduled(never, `{"hottest": true}`))})
	until(t, "a session runs", func() bool { return len(f.running()) == 1 })
	var text strings.Builder
	for i := range 60_000 {
		fmt.Fprintf(&text, "main;%s;f<%d> %d\n", strings.Repeat("x", 80), i, i+1)
	}
	f.end(f.running()[0], text.String(), nil)
	s := core.waitFor(t, "web1", "ebpf-results", 0)
	var o struct {
		Folded string `json:"folded"`
		Cut    bool   `json:"folded_truncated"`
		Size   struct {
			Stacks      int    `json:"stacks"`
			Sent        int    `json:"stacks_sent"`
			Samples     uint64 `json:"samples"`
			SamplesSent uint64 `json:"samples_sent"`
		} `json:"folded_size"`
	}
	if err := json.Unmarshal(data(t, s), &o); err != nil {
		t.Fatal(err)
	}
	lines := strings.Count(o.Folded, "\n")
	if !o.Cut || o.Size.Stacks != 60_000 || o.Size.Sent != lines || lines == 0 || lines == 60_000 || o.Size.Samples != 60_000*60_001/2 || o.Size.SamplesSent >= o.Size.Samples ||
		!strings.Contains(o.Folded, "f<59999> 60000\n") || len(s.GetMessage()) > 3<<20 || len(s.GetMessage()) < 2<<20 {
		t.Errorf("%d bytes, %d lines, %+v", len(s.GetMessage()), lines, o.Size)
	}
	for _, r := range core.all() {
		for _, chunk := range r.chunks {
			if chunk.GetServices()[0].GetServiceName() == "ebpf-results" && chunk.GetServices()[0].GetSource() != "results" {
				t.Error("it was cut into slices")
			}
		}
	}
}
