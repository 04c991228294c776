// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

func triggerOn(t *testing.T, conn *grpc.ClientConn, in *monitoring.TriggerProfilingRequest) *monitoring.TriggerProfilingResponse {
	t.Helper()
	out, err := monitoring.NewAgentServiceClient(conn).TriggerProfiling(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if out.GetRequestId() != in.GetRequestId() || out.GetPollerId() != in.GetPollerId() || time.Since(time.Unix(out.GetTimestamp(), 0)).Abs() > time.Hour {
		t.Errorf("%v", out)
	}
	object(t, out.GetPayloadJson())
	return out
}

// What is asked for is what is started, and what is not said has its default.
func TestTriggerStarts(t *testing.T) {
	f := example()
	conn, _ := serve(t, f, remote.Limits{})
	out := triggerOn(t, conn, &monitoring.TriggerProfilingRequest{RequestId: "r1", ProcessIds: []int32{41, 42}, Children: true, DurationSeconds: 7, Frequency: 199,
		Requester: "a person", TtlSeconds: 60, AgentId: "a1", PollerId: "p1"})
	if out.GetSessionId() == "" || out.GetState() != monitoring.TriggerProfilingResponse_RUNNING || !out.GetSuccess() || out.GetAgentId() != "a1" || out.GetErrorCode() != "" {
		t.Errorf("%v", out)
	}
	triggerOn(t, conn, &monitoring.TriggerProfilingRequest{ProcessIds: []int32{41}, TtlSeconds: 60, CreatedAt: time.Now().Unix() - 20})
	triggerOn(t, conn, &monitoring.TriggerProfilingRequest{ProcessIds: []int32{41}, TtlSeconds: 60, CreatedAt: time.Now().Unix() + 3600})
	if len(f.started) != 3 {
		t.Fatalf("%+v", f.started)
	}
	first, second, third := f.started[0], f.started[1], f.started[2]
	if !slices.Equal(first.PIDs, []int{41, 42}) || !first.Children || first.Duration != 7*time.Second || first.Frequency != 199 || first.RequestID != "r1" ||
		first.Requester != "a person" || first.MaxWait != time.Minute {
		t.Errorf("%+v", first)
	}
	if second.Duration != session.DefaultDuration || second.Frequency != session.DefaultFrequency || second.MaxWait > 40*time.Second || second.MaxWait < time.Second {
		t.Errorf("%+v", second)
	}
	if third.MaxWait != time.Minute {
		t.Errorf("a clock that is ahead: %v", third.MaxWait)
	}
}

// The time to live counts from when the request was made, and a repeated
// request is answered with its session all the same.
func TestTriggerExpires(t *testing.T) {
	f := example()
	s := &f.sessions[0]
	s.Spec.RequestID, s.Spec.Duration, s.Spec.Frequency = "known", 5*time.Second, 99
	conn, _ := serve(t, f, remote.Limits{})
	old := &monitoring.TriggerProfilingRequest{RequestId: "known", ProcessIds: []int32{41}, DurationSeconds: 5, TtlSeconds: 10, CreatedAt: time.Now().Unix() - 100}
	if out := triggerOn(t, conn, old); out.GetSessionId() != string(idOld) || out.GetState() != monitoring.TriggerProfilingResponse_SUCCEEDED || out.GetProgressPercent() != 100 || !out.GetSuccess() {
		t.Errorf("%v", out)
	}
	for _, id := range []string{"another", ""} {
		old.RequestId = id
		if out := triggerOn(t, conn, old); out.GetSessionId() != "" || out.GetState() != monitoring.TriggerProfilingResponse_NONE || out.GetErrorCode() != "request_expired" || out.GetSuccess() {
			t.Errorf("%v", out)
		}
	}
	if len(f.started) != 0 {
		t.Errorf("%+v", f.started)
	}
	for _, in := range []*monitoring.TriggerProfilingRequest{{TtlSeconds: -1}, {TtlSeconds: 1 << 62}, {CreatedAt: -1}} {
		if out := triggerOn(t, conn, in); out.GetErrorCode() != "bad_ttl" {
			t.Errorf("%v", out)
		}
	}
}

// What cannot be done is in the answer; what may not be done is gRPC's error.
func TestTriggerRefused(t *testing.T) {
	f := example()
	conn, _ := serve(t, f, remote.Limits{})
	for _, e := range []*session.Error{errBusy, errNoProcess, session.Unsupported("no_bpf", "this kernel cannot", "use another", nil)} {
		f.refuse = e
		out := triggerOn(t, conn, &monitoring.TriggerProfilingRequest{RequestId: "r", ProcessIds: []int32{1}})
		o := object(t, out.GetPayloadJson())
		if out.GetErrorCode() != e.Code || out.GetMessage() != e.Error() || out.GetSuccess() || out.GetState() != monitoring.TriggerProfilingResponse_NONE || o["code"] != e.Code {
			t.Errorf("%v", out)
		}
	}
	for code, e := range map[codes.Code]*session.Error{
		codes.PermissionDenied:  {Code: "no_role", Kind: session.ErrForbidden, Problem: "you may not"},
		codes.ResourceExhausted: {Code: "rate_limited", Kind: session.ErrBusy, Problem: "too often"},
	} {
		f.refuse = e
		_, err := monitoring.NewAgentServiceClient(conn).TriggerProfiling(t.Context(), &monitoring.TriggerProfilingRequest{ProcessIds: []int32{1}})
		if status.Code(err) != code || !strings.Contains(err.Error(), e.Problem) {
			t.Errorf("%v", err)
		}
	}
}

// Each state of a session has its own in the answer, and how far it is.
func TestTriggerStates(t *testing.T) {
	for _, s := range example().sessions {
		s.Progress.Elapsed = 250 * time.Millisecond
		out, err := triggered(&s)
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.ToUpper(string(s.State)); out.GetState().String() != want || out.GetSuccess() != (s.Err == nil) || s.Err != nil && out.GetErrorCode() != s.Err.Code {
			t.Errorf("%s: %v", want, out)
		}
		if want := map[session.State]int32{session.StatePending: 0, session.StateRunning: 25}[s.State]; !s.State.Final() && out.GetProgressPercent() != want || s.State.Final() && out.GetProgressPercent() != 100 {
			t.Errorf("%s: %d %%", s.State, out.GetProgressPercent())
		}
	}
}

// random fills all fields of a message, some with nothing.
func random[M proto.Message](r *rand.Rand, m M) M {
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if r.IntN(4) == 0 {
			continue
		}
		switch {
		case f.IsList():
			l := m.ProtoReflect().Mutable(f).List()
			for range 1 + r.IntN(4) {
				l.Append(protoreflect.ValueOfInt32(r.Int32()))
			}
		case f.Kind() == protoreflect.StringKind:
			m.ProtoReflect().Set(f, protoreflect.ValueOfString(string([]rune{'a', '<', '"', rune(r.IntN(0xd000)), '\n'})))
		case f.Kind() == protoreflect.BytesKind:
			m.ProtoReflect().Set(f, protoreflect.ValueOfBytes([]byte(`{"code":"<busy>","n":12345678901234567890}`)))
		case f.Kind() == protoreflect.BoolKind:
			m.ProtoReflect().Set(f, protoreflect.ValueOfBool(r.IntN(2) == 0))
		case f.Kind() == protoreflect.Int32Kind:
			m.ProtoReflect().Set(f, protoreflect.ValueOfInt32(r.Int32()))
		case f.Kind() == protoreflect.Int64Kind:
			m.ProtoReflect().Set(f, protoreflect.ValueOfInt64(r.Int64()))
		case f.Kind() == protoreflect.EnumKind:
			m.ProtoReflect().Set(f, protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(6))))
		default:
			panic(f.Kind())
		}
	}
	return m
}

// A request and its answers go over into ServiceRadar's later commands and back
// without loss; all fields of a message are filled, so none can be forgotten.
func TestCommandsWithoutLoss(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		in := random(r, new(monitoring.TriggerProfilingRequest))
		command, err := CommandOf(in)
		if err != nil {
			t.Fatal(err)
		}
		object(t, command.PayloadJSON)
		if back, err := TriggerOf(command); err != nil || !proto.Equal(back, in) || command.CommandID != in.GetRequestId() || command.CommandType != "profiler.start" {
			t.Fatalf("%v\nbecame %v, %v", in, back, err)
		}
		out := random(r, new(monitoring.TriggerProfilingResponse))
		result, err := ResultOf(out)
		if err != nil {
			t.Fatal(err)
		}
		progress, err := ProgressOf(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range []func() (*monitoring.TriggerProfilingResponse, error){result.Trigger, progress.Trigger} {
			if back, err := f(); err != nil || !proto.Equal(back, out) {
				t.Fatalf("%v\nbecame %v, %v", out, back, err)
			}
		}
		if ack := AckOf(out); ack.CommandID != out.GetRequestId() || ack.Message != out.GetMessage() || ack.Timestamp != out.GetTimestamp() || ack.CommandType != "profiler.start" {
			t.Fatalf("%+v", ack)
		}
		if progress.ProgressPercent != out.GetProgressPercent() || result.Success != out.GetSuccess() || Final(out) != (out.GetState() < 1 || out.GetState() > 2) {
			t.Fatalf("%+v %+v", progress, result)
		}
	}
}

func TestOtherCommands(t *testing.T) {
	for _, c := range []*CommandRequest{
		{CommandType: "mapper.run_job", PayloadJSON: []byte("{}")},
		{CommandType: CommandType, PayloadJSON: []byte(`{"process_id": 1}`)},
		{CommandType: CommandType, PayloadJSON: []byte(`{}{}`)},
		{CommandType: CommandType},
	} {
		if in, err := TriggerOf(c); err == nil {
			t.Errorf("%+v became %v", c, in)
		}
	}
	var syntax *json.SyntaxError
	if _, err := (&CommandResult{PayloadJSON: []byte("?")}).Trigger(); !errors.As(err, &syntax) {
		t.Error(err)
	}
}
