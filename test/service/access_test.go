// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/proto/profiler"
	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// withAccess starts a service with other rules.
func withAccess(t *testing.T, access string) *service {
	t.Helper()
	return start(t, "", func(s *service) { s.setAccess(t, access) })
}

// setAccess changes the rules in the configuration file.
func (s *service) setAccess(t *testing.T, access string) {
	t.Helper()
	s.edit(t, func(all map[string]json.RawMessage) { all["access"] = json.RawMessage(access) })
}

func (s *service) edit(t *testing.T, change func(map[string]json.RawMessage)) {
	t.Helper()
	file := filepath.Join(s.dir, "profiler.json")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	change(all)
	if b, err = json.Marshal(all); err == nil {
		err = os.WriteFile(file, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// hup has the configuration read again, and waits until it says so, or why not.
func (s *service) hup(t *testing.T, want string) {
	t.Helper()
	s.mu.Lock()
	before := len(s.log)
	s.mu.Unlock()
	s.signal(t, syscall.SIGHUP)
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		found := slices.ContainsFunc(s.log[before:], func(l line) bool { return strings.HasPrefix(l.Message, want) })
		s.mu.Unlock()
		if found {
			return
		}
	}
	t.Fatalf("after SIGHUP the log has no line %q", want)
}

// calls are all that the service can be called for, with what a role must have
// for it: "" is nothing.
var calls = []struct {
	name, permission string
	call             func(ctx context.Context, c *grpc.ClientConn, id string, pid int32) error
}{
	{"Start", "start", func(ctx context.Context, c *grpc.ClientConn, _ string, pid int32) error {
		_, err := sessionv1.NewSessionServiceClient(c).Start(ctx, &sessionv1.StartRequest{Spec: specOf(pid)})
		return err
	}},
	{"Get", "read", func(ctx context.Context, c *grpc.ClientConn, id string, _ int32) error {
		_, err := sessionv1.NewSessionServiceClient(c).Get(ctx, &sessionv1.GetRequest{Id: id})
		return err
	}},
	{"List", "read", func(ctx context.Context, c *grpc.ClientConn, _ string, _ int32) error {
		_, err := sessionv1.NewSessionServiceClient(c).List(ctx, &sessionv1.ListRequest{})
		return err
	}},
	{"Watch", "read", func(ctx context.Context, c *grpc.ClientConn, id string, _ int32) error {
		stream, err := sessionv1.NewSessionServiceClient(c).Watch(ctx, &sessionv1.WatchRequest{Id: id})
		return first(stream, err)
	}},
	{"Fetch", "read", func(ctx context.Context, c *grpc.ClientConn, id string, _ int32) error {
		stream, err := sessionv1.NewSessionServiceClient(c).Fetch(ctx, &sessionv1.FetchRequest{Id: id})
		return first(stream, err)
	}},
	{"Cancel", "cancel", func(ctx context.Context, c *grpc.ClientConn, id string, _ int32) error {
		_, err := sessionv1.NewSessionServiceClient(c).Cancel(ctx, &sessionv1.CancelRequest{Id: id})
		return err
	}},
	{"ListHosts", "read", func(ctx context.Context, c *grpc.ClientConn, _ string, _ int32) error {
		out, err := sessionv1.NewFleetServiceClient(c).ListHosts(ctx, &sessionv1.ListHostsRequest{})
		if err == nil && (len(out.GetHosts()) != 1 || out.GetHosts()[0].GetInstance() == "") {
			return fmt.Errorf("not one host: %v", out)
		}
		return err
	}},
	{"ListProcesses", "start", func(ctx context.Context, c *grpc.ClientConn, _ string, pid int32) error {
		out, err := sessionv1.NewFleetServiceClient(c).ListProcesses(ctx, &sessionv1.ListProcessesRequest{})
		if err == nil && !slices.ContainsFunc(out.GetProcesses(), func(p *sessionv1.Process) bool { return p.GetPid() == pid && p.GetName() != "" }) {
			return fmt.Errorf("process %d is not listed among %d", pid, len(out.GetProcesses()))
		}
		return err
	}},
	{"Match", "start", func(ctx context.Context, c *grpc.ClientConn, _ string, pid int32) error {
		out, err := sessionv1.NewFleetServiceClient(c).Match(ctx, &sessionv1.MatchRequest{Spec: specOf(pid)})
		if err == nil && (len(out.GetHosts()) != 1 || !slices.Equal(out.GetHosts()[0].GetPids(), []int32{pid})) {
			return fmt.Errorf("not process %d alone: %v", pid, out)
		}
		return err
	}},
	{"StartProfiling", "start", func(ctx context.Context, c *grpc.ClientConn, _ string, pid int32) error {
		r, err := profiler.NewProfilerServiceClient(c).StartProfiling(ctx, &profiler.StartProfilingRequest{ProcessId: pid, DurationSeconds: 1, Frequency: 99})
		if err == nil && !r.GetSuccess() {
			return fmt.Errorf("a soft refusal: %s", r.GetMessage())
		}
		return err
	}},
	{"GetProfilingResults", "read", func(ctx context.Context, c *grpc.ClientConn, id string, _ int32) error {
		stream, err := profiler.NewProfilerServiceClient(c).GetProfilingResults(ctx, &profiler.GetProfilingResultsRequest{SessionId: id})
		return first(stream, err)
	}},
	{"GetResults", "read", func(ctx context.Context, c *grpc.ClientConn, id string, _ int32) error {
		_, err := monitoring.NewAgentServiceClient(c).GetResults(ctx, &monitoring.ResultsRequest{ServiceType: "grpc", Details: `{"session_id": "` + id + `"}`})
		return err
	}},
	{"StreamResults", "read", func(ctx context.Context, c *grpc.ClientConn, id string, _ int32) error {
		stream, err := monitoring.NewAgentServiceClient(c).StreamResults(ctx, &monitoring.ResultsRequest{ServiceType: "profiler", Details: `{"session_id": "` + id + `"}`})
		return first(stream, err)
	}},
	{"profiler GetStatus", "", func(ctx context.Context, c *grpc.ClientConn, _ string, _ int32) error {
		_, err := profiler.NewProfilerServiceClient(c).GetStatus(ctx, &profiler.GetStatusRequest{})
		return err
	}},
	{"agent GetStatus", "", func(ctx context.Context, c *grpc.ClientConn, _ string, _ int32) error {
		_, err := monitoring.NewAgentServiceClient(c).GetStatus(ctx, &monitoring.StatusRequest{ServiceType: "grpc"})
		return err
	}},
	{"health", "", func(ctx context.Context, c *grpc.ClientConn, _ string, _ int32) error {
		_, err := health.NewHealthClient(c).Check(ctx, &health.HealthCheckRequest{})
		return err
	}},
	{"watched health", "", func(ctx context.Context, c *grpc.ClientConn, _ string, _ int32) error {
		stream, err := health.NewHealthClient(c).Watch(ctx, &health.HealthCheckRequest{})
		return first(stream, err)
	}},
	{"reflection", "", func(ctx context.Context, c *grpc.ClientConn, _ string, _ int32) error {
		stream, err := reflection.NewServerReflectionClient(c).ServerReflectionInfo(ctx)
		if err != nil {
			return err
		}
		err = stream.Send(&reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}})
		if err != nil && err != io.EOF {
			return err
		}
		_, err = stream.Recv()
		return err
	}},
}

// first takes the first message of a stream. That it is empty is no refusal.
func first[M any](stream grpc.ServerStreamingClient[M], err error) error {
	if err != nil {
		return err
	}
	if _, err = stream.Recv(); err == io.EOF {
		return nil
	}
	return err
}

func specOf(pid int32) *sessionv1.Spec {
	return &sessionv1.Spec{Pids: []int32{pid}, Duration: durationpb.New(time.Second), FrequencyHz: 99}
}

// reason is the stable code of an error.
func reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// finished is a session that has a profile, so that all calls have something to
// answer with.
func (s *service) finished(t *testing.T, pid int) string {
	t.Helper()
	creds, err := auth.Identity(s.dir, "admin").ClientCredentials(s.address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.Dial(s.address, creds)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	started, err := c.Start(t.Context(), session.Spec{PIDs: []int{pid}, Duration: time.Second, Frequency: 199})
	if err != nil {
		t.Fatal(err)
	}
	for now, err := range c.Watch(t.Context(), started.ID) {
		if err != nil {
			t.Fatal(err)
		}
		if now.State == session.StateFailed {
			t.Fatal(now.Err)
		}
	}
	return string(started.ID)
}

// Each role at each call, over TLS: what it may, it may; what not, is
// PermissionDenied.
func TestRolesAtCalls(t *testing.T) {
	s := withAccess(t, `{"roles": {"admin.serviceradar": ["admin"], "cn:agent.serviceradar": ["operator"], "dns:poller.serviceradar": ["viewer"], "profiler.serviceradar": []},
		"rate": {"per_second": 1000, "burst": 1000}}`)
	p := target(t)
	id := s.finished(t, p.PID)
	may := map[string]string{"admin": "start read cancel", "agent": "start read cancel", "poller": "read", "profiler": ""}
	for _, identity := range []string{"admin", "agent", "poller", "profiler"} {
		c := s.client(t, identity)
		for _, of := range calls {
			ctx, cancel := context.WithTimeout(t.Context(), hangs)
			err := of.call(ctx, c.ClientConn, id, int32(p.PID))
			cancel()
			allowed := of.permission == "" || strings.Contains(may[identity], of.permission)
			if allowed && err != nil || !allowed && status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s, %s: %v", identity, of.name, err)
			}
			if !allowed && strings.Contains(err.Error(), `"`) && strings.HasSuffix(of.name, "Results") {
				t.Errorf("%s, %s: quotes in a text that agents put into JSON: %v", identity, of.name, err)
			}
		}
	}
	s.hasAudit(t, map[string]any{"answer": "refused", "peer": "profiler.serviceradar", "call": "start", "code": "no_role"})
	s.hasAudit(t, map[string]any{"answer": "refused", "peer": "poller.serviceradar", "call": "cancel", "code": "not_permitted"})
	s.hasAudit(t, map[string]any{"answer": "allowed", "peer": "poller.serviceradar", "call": "fetch", "session": id})
	s.hasAudit(t, map[string]any{"answer": "ended", "peer": "admin.serviceradar", "session": id, "state": "succeeded"})
}

// hasAudit waits for a line of the audit.
func (s *service) hasAudit(t *testing.T, fields map[string]any) {
	t.Helper()
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s.audited(fields) {
			return
		}
	}
	t.Errorf("the audit has no line with %v", fields)
}

func (s *service) audited(fields map[string]any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
next:
	for _, raw := range s.raw {
		var m map[string]any
		if json.Unmarshal([]byte(raw), &m) != nil || m["message"] != "access" {
			continue
		}
		for k, v := range fields {
			if m[k] != v {
				continue next
			}
		}
		return true
	}
	return false
}

// Without roles nobody may anything, and that does not go unnoticed.
func TestNobodyHasARole(t *testing.T) {
	s := withAccess(t, `{}`)
	s.waitFor(t, "the configuration is good, but nobody may use it")
	c := s.client(t, "admin")
	for _, of := range calls {
		err := of.call(t.Context(), c.ClientConn, "x", 1)
		if of.permission == "" && err != nil || of.permission != "" && status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", of.name, err)
		}
		if of.permission == "start" && !strings.Contains(err.Error(), "admin.serviceradar") {
			t.Errorf("who has no role is not told his name: %v", err)
		}
	}
}

// Scope over TLS, by user and by control group; and what a client says of
// itself.
func TestScopeAndRequester(t *testing.T) {
	p, err := programs.Read("shared.c")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "srprof-scope")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path, err := p.Build(dir)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	of := func(args ...string) int32 {
		run, err := programs.Launch(exec.Command(args[0], args[1:]...), "ready")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(run.Stop)
		return int32(run.PID)
	}
	roots, alices := of(path), of("setpriv", "--reuid", "20001", "--regid", "20001", "--clear-groups", path)
	group, enter := newCgroup(t)
	grouped := of("setpriv", "--reuid", "20001", "--regid", "20001", "--clear-groups", path)
	enter(int(grouped))
	s := withAccess(t, fmt.Sprintf(`{"roles": {"admin.serviceradar": ["admin"], "agent.serviceradar": ["operator"]},
		"scope": {"allow": {"operator": [{"users": ["20001"]}]}, "never": [{"cgroups": [%q]}]}}`, group))
	admin, agent := s.client(t, "admin"), s.client(t, "agent")
	for _, c := range []struct {
		name      string
		who       *client
		pid       int32
		requester string
		code      string
	}{
		{"admin, a process of root", admin, roots, "", ""},
		{"admin, one of alice", admin, alices, "", ""},
		{"admin, one in the group", admin, grouped, "", "target_not_allowed"},
		{"admin, for somebody else", admin, roots, "alice", ""},
		{"operator, a process of root", agent, roots, "", "target_not_allowed"},
		{"operator, one of alice", agent, alices, "", ""},
		{"operator, one in the group", agent, grouped, "", "target_not_allowed"},
		{"operator, in his own name", agent, alices, "agent.serviceradar", ""},
		{"operator, in the admin's name", agent, alices, "admin.serviceradar", "requester_not_allowed"},
		{"operator, PID 1", agent, 1, "", "target_not_allowed"},
		{"operator, no process", agent, 1 << 30, "", "no_such_process"},
		{"operator, a negative PID", agent, -1, "", "bad_pid"},
	} {
		spec := specOf(c.pid)
		spec.Requester = c.requester
		_, err := sessionv1.NewSessionServiceClient(c.who).Start(t.Context(), &sessionv1.StartRequest{Spec: spec})
		if reason(err) != c.code || c.code == "" && err != nil {
			t.Errorf("%s: %v [%s], want %s", c.name, err, reason(err), c.code)
		}
	}
	// The older interface has the same rules.
	_, err = agent.StartProfiling(t.Context(), &profiler.StartProfilingRequest{ProcessId: roots, DurationSeconds: 1, Frequency: 99})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("StartProfiling: %v", err)
	}
}

// newCgroup makes a control group, until the processes that enter it later have
// ended. It returns its path.
func newCgroup(t *testing.T) (group string, enter func(pid int)) {
	t.Helper()
	group = fmt.Sprintf("/srprof-scope-%d", os.Getpid())
	for _, base := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(filepath.Join(base, "cgroup.procs")); err != nil {
			continue
		}
		dir := base + group
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() {
			for range 400 { // until the kernel has let go of the process
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
			t.Errorf("%s is left", dir)
		})
		return group, func(pid int) {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Appendf(nil, "%d", pid), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
		t.Fatal("no control groups can be made here")
	}
	t.Skip("no control groups can be made here")
	return "", nil
}
