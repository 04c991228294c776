// SPDX-License-Identifier: Apache-2.0

package poller_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/checks"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
)

// never is an interval that does not come again during a test.
const never = 10 * 365 * 24 * time.Hour

// host is what is put into the objects of web1, an agent on this host.
const host = `"host_ip":"192.0.2.9","host_name":"web1","hostname":"web1","ip":"192.0.2.9"`

// enveloped is what core gets, byte by byte.
func enveloped(agent, kind, name, data string) string {
	return fmt.Sprintf(`{"poller_id":"poller-1","agent_id":%q,"partition":"dmz","service_type":%q,"service_name":%q,"data":%s}`, agent, kind, name, data)
}

// expected is a service as core is to have it.
type expected struct {
	check     checks.Check
	available bool
	source    string
	kind      string // empty: that of the check
	agentID   string
	message   string // all of it; empty: core gets nothing of this check
}

func (e *expected) verify(t *testing.T, got *monitoring.ServiceStatus) {
	t.Helper()
	kind := e.kind
	if kind == "" {
		kind = e.check.Type
	}
	if string(got.GetMessage()) != e.message {
		t.Errorf("%s %s:\n%.600s\nwant\n%.600s", e.check.Type, e.check.Name, got.GetMessage(), e.message)
	}
	if got.GetAvailable() != e.available || got.GetSource() != e.source || got.GetServiceType() != kind || got.GetAgentId() != e.agentID ||
		got.GetPollerId() != "poller-1" || got.GetPartition() != "dmz" || got.GetServiceName() != e.check.Name {
		got.Message = nil // it was told already
		t.Errorf("%s %s: %v", e.check.Type, e.check.Name, got)
	}
}

// verifyAll runs a poller once against an agent and looks at what core has.
func verifyAll(t *testing.T, a *agent, certs string, all []expected) []report {
	t.Helper()
	c := newCore(t, certs)
	var list []checks.Check
	for _, e := range all {
		list = append(list, e.check)
	}
	_, end := poll(t, pollerOptions{certs: certs, config: configured(c, never, map[string]*agent{"web1": a}, list...)})
	until(t, "core gets a report", func() bool { return len(c.all()) > 0 })
	end()
	for _, e := range all {
		got := c.find("", e.check.Name, 0)
		switch {
		case e.message == "" && got != nil:
			t.Errorf("%s %s is reported: %v", e.check.Type, e.check.Name, got)
		case e.message != "" && got == nil:
			t.Errorf("%s %s is not reported", e.check.Type, e.check.Name)
		case got != nil:
			e.verify(t, got)
		}
	}
	return c.all()
}

const (
	getStatus = "getStatus"
	results   = "results"
)

// What a real poller reports of each type of check on a real agent, and what
// ours does: the same, with the host's names in objects as the newest real ones
// have them. O1 to O4, O8, O10, O14, O22, O23.
func TestEveryType(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	a := newAgent(t, certs, nil)
	said := `{"by":"the real agent",` + host + `,"status":{` + host + `}}`
	of := func(ip string) string { return strings.NewReplacer("192.0.2.9", ip, "web1", ip).Replace(said) }
	fetched := `{` + host + `,"of":"a checker","status":{` + host + `}}`
	nothing := `{` + host + `,"status":{` + host + `}}`
	list := `[{"ip":"192.0.2.1"},{"ip":"192.0.2.2"},{"ip":"192.0.2.3"}]`
	reports := verifyAll(t, a, certs, []expected{
		{checks.Check{Type: "icmp", Name: "ping", Details: "198.51.100.1"}, true, getStatus, "", "its-own-id", enveloped("its-own-id", "icmp", "ping", of("198.51.100.1"))},
		{checks.Check{Type: "port", Name: "ssh", Details: "127.0.0.1:22", Port: 22}, true, getStatus, "", "its-own-id", enveloped("its-own-id", "port", "ssh", said)},
		{checks.Check{Type: "process", Name: "nginx", Details: "nginx"}, true, getStatus, "", "its-own-id", enveloped("its-own-id", "process", "nginx", said)},
		{checks.Check{Type: "snmp", Name: "switch"}, true, getStatus, "", "its-own-id", enveloped("its-own-id", "snmp", "switch", said)},
		{checks.Check{Type: "grpc", Name: "sysmon", Details: "127.0.0.1:50083", Port: 7}, true, getStatus, "", "its-own-id", enveloped("its-own-id", "grpc", "sysmon", said)},
		{checks.Check{Type: "sweep", Name: "net"}, true, getStatus, "", "its-own-id", enveloped("its-own-id", "sweep", "net", said)},
		{checks.Check{Type: "odd", Name: "odd"}, false, getStatus, "", "web1", enveloped("web1", "odd", "odd", nothing)},
		{checks.Check{Type: "profiler", Name: "ebpf"}, false, getStatus, "", "web1", enveloped("web1", "profiler", "ebpf", nothing)},
		{checks.Check{Type: "grpc", Name: "sysmon-results", Details: `{"any": "text"}`, ResultsInterval: span(never)}, true, results, "", "checker", enveloped("checker", "grpc", "sysmon-results", fetched)},
		{checks.Check{Type: "odd", Name: "odd-results", ResultsInterval: span(never)}, false, "", "", "", ""},
		{checks.Check{Type: "sweep", Name: "net-results", ResultsInterval: span(never)}, true, results, "", "web1", enveloped("web1", "sweep", "net-results", list)},
		{checks.Check{Type: "sync", Name: "devices", ResultsInterval: span(never)}, true, results, "", "web1", list},
		{checks.Check{Type: "grpc", Name: "my-sync-1", ResultsInterval: span(never)}, true, results, "sync", "web1", list},
	})
	if len(reports) != 1 || reports[0].unary != nil {
		t.Fatalf("%d reports, the first is no stream", len(reports))
	}
	ssh, ping, sysmon := a.statusRequests("ssh"), a.statusRequests("ping"), a.statusRequests("sysmon")
	if len(ping) != 1 || len(ssh) != 1 || len(sysmon) != 1 {
		t.Fatalf("asked %d, %d, %d times", len(ping), len(ssh), len(sysmon))
	}
	if p := ping[0]; p.GetServiceType() != "icmp" || p.GetAgentId() != "web1" || p.GetPollerId() != "poller-1" || p.GetDetails() != "198.51.100.1" || p.GetPort() != 0 {
		t.Errorf("%v", p)
	}
	if ssh[0].GetPort() != 22 || sysmon[0].GetPort() != 0 {
		t.Errorf("the port is sent for checks of type port alone: %v, %v", ssh[0], sysmon[0])
	}
	r := a.resultsRequests("sysmon-results")
	if len(r) != 1 || r[0].GetDetails() != `{"any": "text"}` || r[0].GetAgentId() != "web1" || r[0].GetPollerId() != "poller-1" || r[0].GetLastSequence() != "" || r[0].GetCompletionStatus() != nil {
		t.Errorf("%v", r)
	}
	if got := a.health; len(got) != 1 || got[0] != "AgentService" {
		t.Errorf("health is asked of %q", got)
	}
	if len(a.streamed) != 3 || len(a.fetched) != 2 {
		t.Errorf("%d streams and %d results", len(a.streamed), len(a.fetched))
	}
	if n := len(a.resultsRequests("odd-results")); n != 1 {
		t.Errorf("what nobody knows is asked for %d times", n)
	}
}

// answering is an agent that answers to each check as a test wrote it.
func answering(t *testing.T, certs string, say map[string]func() (*monitoring.StatusResponse, error)) *agent {
	return newAgent(t, certs, func(a *agent) {
		a.status = func(_ context.Context, in *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
			return say[in.GetServiceName()]()
		}
	})
}

// Answers that are no object, that already say whose they are, and none: O6, O7,
// O20, O21, and an answer that is an error (twice, then it is none).
func TestEveryAnswer(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	message := func(available bool, text string) func() (*monitoring.StatusResponse, error) {
		return func() (*monitoring.StatusResponse, error) {
			return &monitoring.StatusResponse{Available: available, Message: []byte(text), AgentId: "a"}, nil
		}
	}
	tries := 0
	a := answering(t, certs, map[string]func() (*monitoring.StatusResponse, error){
		"text":   message(true, "main;foo;bar 10\nmain;\"x\" 1\n"),
		"scalar": message(true, ` 17 `),
		"array":  message(true, ` [1, 2] `),
		"own":    message(false, `{"host_ip":"203.0.113.5","status":{"hostname":"theirs","big":12345678901234567890},"html":"<a&b>"}`),
		"word":   message(true, `{"status":"fine","ip":""}`),
		"null":   message(true, `null`),
		"broken": message(true, `{"a":`),
		"empty":  func() (*monitoring.StatusResponse, error) { return &monitoring.StatusResponse{}, nil },
		"denied": func() (*monitoring.StatusResponse, error) { return nil, status.Error(codes.PermissionDenied, "no") },
		"flaking": func() (*monitoring.StatusResponse, error) {
			if tries++; tries < 3 {
				return nil, status.Error(codes.Internal, "not yet")
			}
			return &monitoring.StatusResponse{Available: true, Message: []byte(`{}`), AgentId: "a"}, nil
		},
	})
	check := func(name string) checks.Check { return checks.Check{Type: "x", Name: name} }
	in := func(name, data string) string { return enveloped("a", "x", name, data) }
	verifyAll(t, a, certs, []expected{
		{check("text"), true, getStatus, "", "a", in("text", `{`+host+`,"message":"main;foo;bar 10\nmain;\"x\" 1\n","status":{`+host+`}}`)},
		{check("scalar"), true, getStatus, "", "a", in("scalar", `{`+host+`,"message":17,"status":{`+host+`}}`)},
		{check("array"), true, getStatus, "", "a", in("array", `[1,2]`)},
		{check("own"), false, getStatus, "", "a", in("own", `{"host_ip":"203.0.113.5","host_name":"theirs","hostname":"theirs","html":"\u003ca\u0026b\u003e","ip":"203.0.113.5",`+
			`"status":{"big":12345678901234567890,"host_ip":"203.0.113.5","host_name":"theirs","hostname":"theirs","ip":"203.0.113.5"}}`)},
		{check("word"), true, getStatus, "", "a", in("word", `{`+host+`,"status":{`+host+`},"status_text":"fine"}`)},
		{check("null"), true, getStatus, "", "a", in("null", `{`+host+`,"status":{`+host+`}}`)},
		{check("broken"), true, getStatus, "", "a", in("broken", `{`+host+`,"message":"{\"a\":","status":{`+host+`}}`)},
		{check("empty"), false, getStatus, "", "web1", enveloped("web1", "x", "empty", `{`+host+`,"status":{`+host+`}}`)},
		{check("denied"), false, getStatus, "", "web1", enveloped("web1", "x", "denied", `{"error":"Service check failed",`+host+`,"status":{`+host+`}}`)},
		{check("flaking"), true, getStatus, "", "a", in("flaking", `{`+host+`,"status":{`+host+`}}`)},
	})
	if n := len(a.statusRequests("denied")); n != 1 {
		t.Errorf("what is not permitted is asked for %d times", n)
	}
}

// Results that are cut, too large, odd or none: O9 to O14.
func TestEveryResult(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	mebibyte := `[{"x":"` + strings.Repeat("x", 1<<20) + `"}]`
	streams := map[string]func(*monitoring.ResultsRequest, grpc.ServerStreamingServer[monitoring.ResultsChunk]) error{
		"folded":     chunks("main;foo 10\n"),
		"unfinished": chunks(`[1]…`),
		"objects":    chunks(`{"last_sweep":7,"hosts":[1.50,{"b":1,"a":2}],"network":"n"}`, ``, `{"last_sweep":8,"hosts":[12345678901234567890]}`),
		"no-hosts":   chunks(`{"a":1}`),
		"odd-hosts":  chunks(`{"hosts":{}}`),
		"nothing":    chunks(`{}`),
		"empty":      chunks(`[]`),
		"megabytes":  chunks(mebibyte, mebibyte, mebibyte, mebibyte, mebibyte),
		"huge":       chunks(`["` + strings.Repeat("x", 5<<20) + `"]`),
		"no-stream": func(*monitoring.ResultsRequest, grpc.ServerStreamingServer[monitoring.ResultsChunk]) error {
			return status.Error(codes.Unimplemented, "no")
		},
		"breaks": func(in *monitoring.ResultsRequest, out grpc.ServerStreamingServer[monitoring.ResultsChunk]) error {
			if err := chunks(`[1]…`)(in, out); err != nil {
				return err
			}
			return status.Error(codes.Internal, `it said "no"`)
		},
	}
	a := newAgent(t, certs, func(a *agent) {
		a.stream = func(in *monitoring.ResultsRequest, out grpc.ServerStreamingServer[monitoring.ResultsChunk]) error {
			return streams[in.GetServiceName()](in, out)
		}
		a.results = func(_ context.Context, in *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			switch in.GetServiceName() {
			case "large":
				return &monitoring.ResultsResponse{Available: true, Data: []byte(`"` + strings.Repeat("x", 5<<20) + `"`)}, nil
			case "old":
				return &monitoring.ResultsResponse{Available: true, Data: []byte(`{}`), AgentId: "a"}, nil // has_new_data is false
			}
			return nil, status.Error(codes.Internal, "no")
		}
	})
	c := func(kind, name string) checks.Check {
		return checks.Check{Type: kind, Name: name, ResultsInterval: span(never)}
	}
	wrong := func(kind, name, text string) expected {
		message := enveloped("web1", kind, name, `{"error":"GetResults failed: `+text+`",`+host+`,"status":{`+host+`}}`)
		return expected{c(kind, name), false, results, "", "web1", message}
	}
	grown := `[` + strings.TrimSuffix(strings.Repeat(mebibyte[1:len(mebibyte)-1]+",", 5), ",") + `]`
	reports := verifyAll(t, a, certs, []expected{
		wrong("sweep", "folded", "failed to parse chunk data: invalid character 'm' looking for beginning of value"),
		wrong("sweep", "unfinished", "stream completed without a final chunk"),
		{c("sweep", "objects"), true, results, "", "web1", enveloped("web1", "sweep", "objects", `{"host_ip":"192.0.2.9","host_name":"web1","hostname":"web1","hosts":[1.50,{"b":1,"a":2},12345678901234567890],"ip":"192.0.2.9","last_sweep":7,"network":"n","status":{`+host+`}}`)},
		wrong("sweep", "no-hosts", "no hosts field found in chunk data"),
		wrong("sweep", "odd-hosts", "hosts field is not an array in chunk data"),
		wrong("sweep", "breaks", `failed to receive chunk: rpc error: code = Internal desc = it said \"no\"`),
		{c("sweep", "nothing"), false, "", "", "", ""},
		{c("sync", "empty"), true, results, "", "web1", `[]`},
		{c("sync", "megabytes"), true, "", "", "web1", grown},
		wrong("sweep", "huge", "failed to receive chunk: rpc error: code = ResourceExhausted desc = grpc: received message larger than max (5242896 vs. 4194304)"),
		{c("sweep", "no-stream"), false, "", "", "", ""},
		wrong("x", "large", "rpc error: code = ResourceExhausted desc = grpc: received message larger than max (5242889 vs. 4194304)"),
		wrong("x", "error", "rpc error: code = Internal desc = no"),
		{c("x", "old"), true, results, "", "a", enveloped("a", "x", "old", `{`+host+`,"status":{`+host+`}}`)},
	})
	if len(reports) != 1 {
		t.Fatalf("%d reports", len(reports))
	}
	var slices []int
	for i, chunk := range reports[0].chunks {
		s := chunk.GetServices()
		if len(s) != 1 || int(chunk.GetChunkIndex()) != i || int(chunk.GetTotalChunks()) != len(reports[0].chunks) || chunk.GetIsFinal() != (i == len(reports[0].chunks)-1) ||
			chunk.GetPollerId() != "poller-1" || chunk.GetPartition() != "dmz" || chunk.GetSourceIp() != "192.0.2.9" || chunk.GetAgentId() != s[0].GetAgentId() ||
			time.Since(time.Unix(chunk.GetTimestamp(), 0)).Abs() > time.Hour {
			t.Errorf("chunk %d of %d: %v of %s", chunk.GetChunkIndex(), chunk.GetTotalChunks(), chunk.GetIsFinal(), s[0].GetServiceName())
		}
		if s[0].GetServiceName() == "megabytes" {
			slices = append(slices, len(s[0].GetMessage()))
			if s[0].GetSource() != "" {
				t.Errorf("a slice has source %q; with real pollers it has none", s[0].GetSource())
			}
		}
	}
	if len(slices) != 2 || slices[0] != 3<<20 || slices[1] != len(grown)-3<<20 {
		t.Errorf("slices of %v bytes, of %d", slices, len(grown))
	}
	if n := len(a.resultsRequests("error")); n != 3 {
		t.Errorf("what may be different is asked for %d times", n)
	}
	if n := len(a.resultsRequests("no-stream")) + len(a.resultsRequests("large")); n != 2 {
		t.Errorf("what will not be different is asked for %d times", n)
	}
}

// The second time the sequence of the first goes along, and results come no more
// often than their interval. A sweep without anything new is not reported; what
// else has nothing new is.
func TestSequence(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	core := newCore(t, certs)
	n := 0
	a := newAgent(t, certs, func(a *agent) {
		a.results = func(_ context.Context, in *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
			if in.GetServiceName() == "seldom" {
				return &monitoring.ResultsResponse{Available: true, Data: []byte(`{}`), CurrentSequence: "s"}, nil
			}
			if n++; n == 3 { // without one: the one before stays
				return &monitoring.ResultsResponse{Available: true, Data: []byte(`{}`)}, nil
			}
			return &monitoring.ResultsResponse{Available: true, Data: []byte(`{}`), CurrentSequence: fmt.Sprint("s", n)}, nil
		}
	})
	poll(t, pollerOptions{certs: certs, config: configured(core, 100*time.Millisecond, map[string]*agent{"web1": a},
		checks.Check{Type: "grpc", Name: "often", ResultsInterval: span(0)}, checks.Check{Type: "grpc", Name: "seldom", ResultsInterval: span(never)},
		checks.Check{Type: "icmp", Name: "ping"})})
	core.waitFor(t, "", "often", 5)
	var got []string
	for _, r := range a.resultsRequests("often")[:5] {
		got = append(got, r.GetLastSequence())
	}
	if fmt.Sprint(got) != "[ s1 s2 s2 s4]" {
		t.Errorf("%q", got)
	}
	if n := len(a.resultsRequests("seldom")); n != 1 {
		t.Errorf("asked %d times", n)
	}
	core.waitFor(t, "", "ping", 5)
}

func TestEnvelopeIsJSON(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	a := answering(t, certs, map[string]func() (*monitoring.StatusResponse, error){
		`na"me`: func() (*monitoring.StatusResponse, error) {
			return &monitoring.StatusResponse{Available: true, Message: []byte("\xff\xfe"), AgentId: "<\">"}, nil
		},
	})
	reports := verifyAll(t, a, certs, []expected{{checks.Check{Type: "x", Name: `na"me`}, true, getStatus, "", "<\">",
		`{"poller_id":"poller-1","agent_id":"\u003c\"\u003e","partition":"dmz","service_type":"x","service_name":"na\"me","data":{` + host + `,"message":"\ufffd\ufffd","status":{` + host + `}}}`}})
	if !json.Valid(reports[0].services[0].GetMessage()) {
		t.Error("no JSON")
	}
}
