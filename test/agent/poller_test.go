// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/hops"
)

// generation is when a real poller was released: what was observed of each is
// in docs/serviceradar.md.
type generation string

const (
	august  generation = "17 August 2025"
	january generation = "January 2026"
)

// check is one of a poller's configuration.
type check struct {
	kind, name, details string
	results             bool // has a results_interval
}

// reported is a ServiceStatus as it goes to core: the envelope's data is what
// the agent said, or what the poller made of it.
type reported struct {
	available bool
	source    string
	data      json.RawMessage
}

// poller does what a real one does, and nothing else: health by the name
// AgentService, unary calls three times on any error with 1 s and 2 s between
// them, 30 s for all checks of a kind together, messages of at most 4 MiB, and
// JSON.
type poller struct {
	of   generation
	conn *grpc.ClientConn

	mu        sync.Mutex
	sequences map[string]string // by check
	calls     int
}

const (
	pollTime  = 30 * time.Second
	pollTries = 3
)

// poll asks for all checks once, as each tick does. Ticks do not wait for one
// another.
func (p *poller) poll(t *testing.T, checks []check) map[string]reported {
	t.Helper()
	if _, err := health.NewHealthClient(p.conn).Check(t.Context(), &health.HealthCheckRequest{Service: "AgentService"}); err != nil {
		t.Errorf("%s: health: %v", p.of, err) // a warning in its log
	}
	all := map[string]reported{}
	for _, results := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(t.Context(), pollTime)
		var wg sync.WaitGroup
		for _, c := range checks {
			if c.results != results {
				continue
			}
			wg.Go(func() {
				if r := p.ask(ctx, &c); r != nil {
					p.mu.Lock()
					all[c.name] = *r
					p.mu.Unlock()
				}
			})
		}
		wg.Wait()
		if ctx.Err() != nil {
			t.Errorf("%s: the checks took longer than %v", p.of, pollTime)
		}
		cancel()
	}
	return all
}

// ask makes one check; nil is reported to nobody.
func (p *poller) ask(ctx context.Context, c *check) *reported {
	client := monitoring.NewAgentServiceClient(p.conn)
	if !c.results {
		in := &monitoring.StatusRequest{ServiceName: c.name, ServiceType: c.kind, AgentId: "agents-key", PollerId: "poller-1", Details: c.details}
		out, err := retried(ctx, p, func() (*monitoring.StatusResponse, error) { return client.GetStatus(ctx, in) })
		if err != nil {
			return &reported{false, "getStatus", json.RawMessage(`{"error":"Service check failed"}`)}
		}
		return &reported{out.GetAvailable(), "getStatus", p.carried(out.GetMessage())}
	}
	p.mu.Lock()
	in := &monitoring.ResultsRequest{ServiceName: c.name, ServiceType: c.kind, AgentId: "agents-key", PollerId: "poller-1", Details: c.details, LastSequence: p.sequences[c.name]}
	p.mu.Unlock()
	var (
		data      []byte
		available bool
		sequence  string
		err       error
	)
	if c.kind == "sync" || c.kind == "sweep" || strings.Contains(c.name, "sync") {
		data, sequence, err = p.stream(ctx, client, in)
		available = err == nil
	} else {
		var out *monitoring.ResultsResponse
		if out, err = retried(ctx, p, func() (*monitoring.ResultsResponse, error) { return client.GetResults(ctx, in) }); err == nil {
			data, available, sequence = out.GetData(), out.GetAvailable(), out.GetCurrentSequence()
		}
	}
	if status.Code(err) == codes.Unimplemented {
		return nil
	}
	if err != nil {
		text, _ := json.Marshal(map[string]string{"error": "GetResults failed: " + err.Error()}) // of strings: it cannot fail
		return &reported{false, "results", text}
	}
	if sequence != "" {
		p.mu.Lock()
		p.sequences[c.name] = sequence
		p.mu.Unlock()
	}
	return &reported{available, "results", p.carried(data)}
}

// retried is the interceptor of real pollers: it repeats whatever failed.
func retried[A any](ctx context.Context, p *poller, call func() (A, error)) (answer A, err error) {
	for try := range pollTries {
		p.mu.Lock()
		p.calls++
		p.mu.Unlock()
		if answer, err = call(); err == nil || try == pollTries-1 {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(time.Second << try):
		}
	}
	return answer, err
}

// stream puts chunks together: in August each had to be a JSON array, later an
// array or an object with an array "hosts".
func (p *poller) stream(ctx context.Context, client monitoring.AgentServiceClient, in *monitoring.ResultsRequest) (data []byte, sequence string, _ error) {
	stream, err := client.StreamResults(ctx, in)
	if err != nil {
		return nil, "", err
	}
	merged, final := []json.RawMessage{}, false
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, "", err
		}
		var list []json.RawMessage
		if err := json.Unmarshal(chunk.GetData(), &list); err != nil {
			var o struct{ Hosts []json.RawMessage }
			if p.of == august || json.Unmarshal(chunk.GetData(), &o) != nil {
				return nil, "", fmt.Errorf("failed to parse chunk data: %w", err)
			}
			list = o.Hosts
		}
		merged, final, sequence = append(merged, list...), chunk.GetIsFinal(), chunk.GetCurrentSequence()
	}
	if !final {
		return nil, "", errors.New("stream completed without a final chunk")
	}
	data, err = json.Marshal(merged)
	return data, sequence, err
}

// carried is what becomes of a message in the envelope: what is no JSON is
// wrapped (August) or gone (January); objects get the host's names.
func (p *poller) carried(message []byte) json.RawMessage {
	if len(message) == 0 {
		message = []byte("{}")
	}
	if p.of == august {
		if !json.Valid(message) {
			wrapped, _ := json.Marshal(map[string]string{"message": string(message)}) // of strings: it cannot fail
			return wrapped
		}
		return message
	}
	var o map[string]json.RawMessage
	if trimmed := bytes.TrimSpace(message); len(trimmed) > 0 && trimmed[0] == '[' && json.Valid(trimmed) {
		return message
	}
	if json.Unmarshal(message, &o) != nil {
		o = map[string]json.RawMessage{}
	}
	for _, key := range []string{"host_ip", "ip", "host_name", "hostname"} {
		if o[key] == nil {
			o[key] = json.RawMessage(`"192.0.2.9"`)
		}
	}
	data, _ := json.Marshal(o) // of valid JSON: it cannot fail
	return data
}

// realAgent stands for the agent that is there already: it answers what it
// knows, and as observed what it does not.
type realAgent struct {
	monitoring.UnimplementedAgentServiceServer
}

func (realAgent) GetStatus(_ context.Context, in *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	switch in.GetServiceType() {
	case "icmp", "port", "process", "grpc", "sweep", "snmp":
		return &monitoring.StatusResponse{Available: true, Message: []byte(`{"by":"the real agent","type":"` + in.GetServiceType() + `"}`), AgentId: "real", PollerId: in.GetPollerId()}, nil
	}
	return &monitoring.StatusResponse{}, nil
}

func (realAgent) GetResults(_ context.Context, in *monitoring.ResultsRequest) (*monitoring.ResultsResponse, error) {
	if in.GetServiceType() != "grpc" {
		return nil, status.Errorf(codes.Unimplemented, "GetResults not supported for service type '%s'", in.GetServiceType())
	}
	return &monitoring.ResultsResponse{Available: true, Data: []byte(`{"by":"the real agent"}`), CurrentSequence: "7"}, nil
}

func (realAgent) StreamResults(in *monitoring.ResultsRequest, out grpc.ServerStreamingServer[monitoring.ResultsChunk]) error {
	for i := range int32(3) {
		if err := out.Send(&monitoring.ResultsChunk{Data: []byte(`[{"ip":"192.0.2.1"}]`), IsFinal: i == 2, ChunkIndex: i, TotalChunks: 3, CurrentSequence: "8"}); err != nil {
			return err
		}
	}
	return nil
}

// realAgentAt runs one over mTLS.
func realAgentAt(t *testing.T, certs string) string {
	t.Helper()
	return hops.Serve(t, certs, "agent", nil, func(s *grpc.Server) { monitoring.RegisterAgentServiceServer(s, realAgent{}) })
}

// A poller of either generation has checks of every type at one address: those
// of type profiler are ours, all others the real agent's. Its polls overlap, and
// what reaches core is whole.
func TestRealPollersChecks(t *testing.T) {
	certs := daemons.Certificates(t)
	h := &station{certs: certs, profiler: profilerAt(t, certs, "127.0.0.1:0", "")}
	h.agent = agentBefore(t, certs, h.profiler.Address, fmt.Sprintf(`"next_agent_address": %q,`, realAgentAt(t, certs)), "")
	h.agent.WaitFor("the profiler is")
	target := busy(t)
	conn := connect(t, certs, "poller", h.agent.Address)
	out := trigger(t, conn, &monitoring.TriggerProfilingRequest{RequestId: "r", ProcessIds: []int32{int32(target.PID)}, DurationSeconds: 2, Frequency: 499})
	id := out.GetSessionId()
	daemons.Until(t, "the session ends", func() bool {
		return trigger(t, conn, &monitoring.TriggerProfilingRequest{RequestId: "r", ProcessIds: []int32{int32(target.PID)}, DurationSeconds: 2, Frequency: 499}).GetState() == monitoring.TriggerProfilingResponse_SUCCEEDED
	})
	whole, _ := streamed(t, conn, `{"session_id": "`+id+`"}`)
	checks := []check{
		{"profiler", "ebpf-profiler", "", false}, {"profiler", "ebpf-results", `{"pid": ` + fmt.Sprint(target.PID) + `}`, true}, {"profiler", "ebpf-newest", "", true},
		{"icmp", "ping", "192.0.2.1", false}, {"port", "ssh", "127.0.0.1:22", false}, {"process", "nginx", "nginx", false}, {"grpc", "sysmon", "127.0.0.1:50083", false},
		{"grpc", "sysmon-results", "127.0.0.1:50083", true}, {"sweep", "net", "", true}, {"sync", "devices", "", true}, {"odd", "unknown", "", false}, {"odd", "unknown-results", "", true},
	}
	for _, of := range []generation{august, january} {
		p := &poller{of: of, conn: conn, sequences: map[string]string{}}
		polls := make([]map[string]reported, 4)
		var wg sync.WaitGroup
		for i := range polls {
			wg.Go(func() { polls[i] = p.poll(t, checks) })
		}
		wg.Wait()
		for _, all := range polls {
			for _, c := range checks {
				p.verify(t, &c, all, id, whole)
			}
		}
		again := p.poll(t, checks) // with last_sequence: small, and yet an object
		o := object(t, again["ebpf-results"].data)
		if o["folded"] != nil || o["session_id"] != id || !again["ebpf-results"].available {
			t.Errorf("%s: asked again: %s", of, again["ebpf-results"].data)
		}
	}
	// A name that should not be: then pollers stream. What January's makes of it is
	// whole; August's refuses objects, and says so.
	misnamed := check{"profiler", "ebpf-sync", `{"session_id": "` + id + `"}`, true}
	var hosts []struct{ Folded string }
	late := (&poller{of: january, conn: conn, sequences: map[string]string{}}).poll(t, []check{misnamed})
	if err := json.Unmarshal(late["ebpf-sync"].data, &hosts); err != nil || len(hosts) != 1 || hosts[0].Folded != whole {
		t.Errorf("%v: %.200s", err, late["ebpf-sync"].data)
	}
	early := (&poller{of: august, conn: conn, sequences: map[string]string{}}).poll(t, []check{misnamed})
	if r := early["ebpf-sync"]; r.available || !strings.Contains(string(r.data), "failed to parse chunk data") {
		t.Errorf("%+v", r)
	}
}

// verify looks at what would reach core.
func (p *poller) verify(t *testing.T, c *check, all map[string]reported, id, whole string) {
	t.Helper()
	r, there := all[c.name]
	wrong := func() {
		t.Errorf("%s: %s %s: %v, %s", p.of, c.kind, c.name, r.available, r.data[:min(len(r.data), 400)])
	}
	switch {
	case c.kind == "odd" && c.results:
		if there {
			t.Errorf("%s: a check that nobody knows is reported: %+v", p.of, r)
		}
	case c.kind == "odd":
		if o := object(t, r.data); r.available || o["by"] != nil {
			wrong()
		}
	case c.kind == "profiler" && !c.results:
		o := object(t, r.data)
		if profiler, _ := o["profiler"].(map[string]any); !r.available || o["healthy"] != true || profiler["state"] != "ready" {
			wrong()
		}
	case c.kind == "profiler":
		o := object(t, r.data)
		if o["folded"] == nil && o["message"] == "nothing has ended since last_sequence" {
			return // another of the overlapping polls had it
		}
		if !r.available || o["folded"] != whole || o["folded_truncated"] != false || o["session_id"] != id || hottest(t, whole) != "hot_a" {
			wrong()
		}
	case c.results && c.kind != "grpc":
		if string(r.data) != `[{"ip":"192.0.2.1"},{"ip":"192.0.2.1"},{"ip":"192.0.2.1"}]` {
			wrong()
		}
	default:
		if o := object(t, r.data); !r.available || o["by"] != "the real agent" {
			wrong()
		}
	}
}

// With no profiler there, a check of it fails within its time, by a JSON object
// that says why, in both generations; a real poller says available as we do.
func TestRealPollersWithoutProfiler(t *testing.T) {
	certs := daemons.Certificates(t)
	agent := agentBefore(t, certs, "127.0.0.1:1", "", "")
	agent.WaitFor("the profiler is away")
	for _, of := range []generation{august, january} {
		p := &poller{of: of, conn: connect(t, certs, "poller", agent.Address), sequences: map[string]string{}}
		all := p.poll(t, []check{{"profiler", "ebpf", "", false}, {"profiler", "ebpf-results", "", true}})
		status := object(t, all["ebpf"].data)
		profiler, _ := status["profiler"].(map[string]any)
		if all["ebpf"].available || status["healthy"] != false || profiler["state"] != "away" || profiler["code"] != "profiler_unavailable" || profiler["since"] == nil {
			t.Errorf("%s: %s", of, all["ebpf"].data)
		}
		if o := object(t, all["ebpf-results"].data); all["ebpf-results"].available || o["code"] != "profiler_unavailable" {
			t.Errorf("%s: %s", of, all["ebpf-results"].data)
		}
		if p.calls != 2 {
			t.Errorf("%s: %d calls: an error of gRPC is repeated three times", of, p.calls)
		}
	}
}
