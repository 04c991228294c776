// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
)

// trigger asks for a session.
func trigger(t testing.TB, conn *grpc.ClientConn, in *monitoring.TriggerProfilingRequest) *monitoring.TriggerProfilingResponse {
	t.Helper()
	out, err := monitoring.NewAgentServiceClient(conn).TriggerProfiling(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// streamed is all of the folded text that StreamResults has, put together as
// pollers do since August 20, 2025.
func streamed(t testing.TB, conn *grpc.ClientConn, details string) (folded string, first map[string]any) {
	t.Helper()
	stream, err := monitoring.NewAgentServiceClient(conn).StreamResults(t.Context(), &monitoring.ResultsRequest{ServiceName: "ebpf", ServiceType: "profiler", PollerId: "p1", Details: details})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for final := false; ; {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if !final {
				t.Error("the last chunk is not final")
			}
			return text.String(), first
		}
		if err != nil {
			t.Fatal(err)
		}
		final = chunk.GetIsFinal()
		for _, h := range object(t, chunk.GetData())["hosts"].([]any) {
			host := h.(map[string]any)
			if first == nil {
				first = host
			}
			part, _ := host["folded"].(string)
			text.WriteString(part)
		}
	}
}

// A poller triggers a session of a real process, follows it by sending the same
// request again, and streams folded stacks whose hottest function is the right
// one. On both hosts' logs stands who asked, and for whom.
func TestTriggerAndStream(t *testing.T) {
	h := newStation(t, "", "")
	target := busy(t)
	poller := connect(t, h.certs, "poller", h.agent.Address)
	in := &monitoring.TriggerProfilingRequest{RequestId: "once", ProcessIds: []int32{int32(target.PID)}, DurationSeconds: 2, Frequency: 499, Requester: "jane@example.org", TtlSeconds: 60, CreatedAt: time.Now().Unix(), PollerId: "p1"}
	began := time.Now()
	out := trigger(t, poller, in)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the call was held open for %v", took)
	}
	if out.GetSessionId() == "" || !out.GetSuccess() || out.GetAgentId() != "web1" {
		t.Fatalf("%v", out)
	}
	id := out.GetSessionId()
	running, percent := 0, int32(0)
	daemons.Until(t, "the session ends", func() bool {
		out = trigger(t, poller, in)
		if out.GetSessionId() != id {
			t.Fatalf("another session: %v", out)
		}
		if out.GetState() == monitoring.TriggerProfilingResponse_RUNNING {
			running, percent = running+1, max(percent, out.GetProgressPercent())
		}
		return out.GetState() > monitoring.TriggerProfilingResponse_RUNNING
	})
	if out.GetState() != monitoring.TriggerProfilingResponse_SUCCEEDED || out.GetProgressPercent() != 100 || running == 0 || percent == 0 {
		t.Errorf("%d times running, up to %d %%, then %v", running, percent, out)
	}
	folded, about := streamed(t, poller, `{"session_id": "`+id+`"}`)
	if got := hottest(t, folded); got != "hot_a" {
		t.Errorf("the hottest function is %s:\n%s", got, folded)
	}
	if about["session_id"] != id || about["session"].(map[string]any)["spec"].(map[string]any)["requester"] != "jane@example.org" {
		t.Errorf("%v", about)
	}
	isStart := func(peer, answer string) func(*daemons.Line) bool {
		return func(l *daemons.Line) bool {
			return l.Message == "access" && l.Call == "start" && l.Peer == peer && l.Answer == answer && l.Session == id && l.OnBehalfOf == "jane@example.org"
		}
	}
	for _, answer := range []string{"allowed", "ended"} {
		daemons.Until(t, "both logs say "+answer, func() bool {
			_, at := h.agent.Find(isStart("poller.serviceradar", answer))
			_, below := h.profiler.Find(isStart("agent.serviceradar", answer))
			return at && below
		})
	}
}

// Without a requester it is whoever shows the certificate, also at the profiler.
func TestRequesterIsCarriedThrough(t *testing.T) {
	h := newStation(t, "", "")
	target := busy(t)
	trigger(t, connect(t, h.certs, "admin", h.agent.Address), &monitoring.TriggerProfilingRequest{ProcessIds: []int32{int32(target.PID)}, DurationSeconds: 1})
	daemons.Until(t, "the profiler's log says on whose behalf", func() bool {
		_, ok := h.profiler.Find(func(l *daemons.Line) bool {
			return l.Message == "access" && l.Answer == "allowed" && l.OnBehalfOf == "admin.serviceradar" && l.Peer == "agent.serviceradar"
		})
		return ok
	})
}

// A profiler that lets its agent only operate says who has to change what.
func TestAgentMayNotDelegate(t *testing.T) {
	certs := daemons.Certificates(t)
	profiler := start(t, "serviceradar-profiler", `{"listen_addr": "127.0.0.1:0", "security": `+security(certs, "profiler")+`, "access": {"roles": {"agent.serviceradar": ["operator"]}}}`, nil)
	agent := agentBefore(t, certs, profiler.Address, "", "")
	out := trigger(t, connect(t, certs, "poller", agent.Address), &monitoring.TriggerProfilingRequest{ProcessIds: []int32{int32(busy(t).PID)}})
	if out.GetErrorCode() != "agent_not_permitted" || !strings.Contains(out.GetMessage(), "profiling:*") {
		t.Errorf("%v", out)
	}
}

// srprof works at an agent as at a profiler.
func TestCommandLineAtAgent(t *testing.T) {
	h := newStation(t, "", "")
	target := busy(t)
	srprof := func(args ...string) string {
		t.Helper()
		c := exec.Command(daemons.Path("srprof"), append(args, "--server", h.agent.Address, "--cert-dir", h.certs)...)
		out, err := c.Output()
		if err != nil {
			t.Fatalf("srprof %v: %v\n%s", args, err, err.(*exec.ExitError).Stderr)
		}
		return string(out)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "out.folded")
	srprof("record", "--pid", strconv.Itoa(target.PID), "--duration", "1s", "--frequency", "499", "--format", "folded", "--output", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := hottest(t, string(text)); got != "hot_a" {
		t.Errorf("the hottest function is %s", got)
	}
	id := strings.TrimSpace(srprof("start", "--pid", strconv.Itoa(target.PID), "--duration", "5m"))
	if all := srprof("list"); !strings.Contains(all, id[:8]) || !strings.Contains(all, "running") {
		t.Errorf("%q is not in\n%s", id, all)
	}
	srprof("cancel", id)
	if all := srprof("list"); strings.Contains(all, "running") {
		t.Errorf("it was canceled:\n%s", all)
	}
}

// The agent needs no privilege, and has none when it is started by root.
func TestAgentHasNoPrivilege(t *testing.T) {
	certs := daemons.Certificates(t)
	agent := start(t, "serviceradar-profiler-agent", `{"listen_addr": "127.0.0.1:0", "security": `+security(certs, "agent")+`}`, nil)
	b, err := os.ReadFile("/proc/" + strconv.Itoa(agent.PID()) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if !strings.Contains(string(b), set+":\t0000000000000000\n") {
			t.Errorf("%s is not empty:\n%s", set, b)
		}
	}
	if !strings.Contains(string(b), "NoNewPrivs:\t1\n") {
		t.Error("it may gain new ones")
	}
	_, err = monitoring.NewAgentServiceClient(connect(t, certs, "poller", agent.Address)).TriggerProfiling(t.Context(), &monitoring.TriggerProfilingRequest{ProcessIds: []int32{1}})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("nobody has a role, and yet: %v", err)
	}
}
