// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/carverauto/serviceradar-profiler/profile"
	sessionv1 "github.com/carverauto/serviceradar-profiler/proto/session/v1"
	"github.com/carverauto/serviceradar-profiler/session"
)

// filled gives each field of a struct a value of its own, so that one that is
// forgotten on the way is missed.
func filled[T any](t *testing.T) T {
	t.Helper()
	var v T
	n := 0
	fill(t, reflect.ValueOf(&v).Elem(), &n)
	return v
}

func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Date(2026, 1, 1, 0, 0, *n, 123456789, time.UTC)
		return
	case *session.State:
		*x = session.States[*n%len(session.States)]
		return
	case *session.HostState:
		*x = session.HostAway
		return
	case *map[string]string:
		*x = map[string]string{"key": "value"}
		return
	case *error:
		*x = session.ErrBusy
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.String:
		v.SetString("text " + strings.Repeat("x", *n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" { // else it stays in the process
				fill(t, v.Field(i), n)
			}
		}
		if spec, ok := v.Addr().Interface().(*session.Spec); ok {
			spec.Again = false // which stays in its process
		}
	default:
		t.Fatalf("the test cannot fill a %v", v.Type())
	}
}

// errorsByText compares causes, of which only the text travels, by it; kinds
// must be the very same.
var errorsByText = cmp.Options{
	cmp.Comparer(func(a, b *session.Error) bool {
		return a == b || a != nil && b != nil && a.Code == b.Code && errors.Is(a.Kind, b.Kind) && a.Error() == b.Error() &&
			a.Problem == b.Problem && a.Remedy == b.Remedy && a.RetryAfter == b.RetryAfter
	}),
}

// sent is the message after it went over a wire.
func sent[M proto.Message](t *testing.T, m, empty M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(b, empty); err != nil {
		t.Fatal(err)
	}
	return empty
}

func TestNothingIsForgotten(t *testing.T) {
	spec := filled[session.Spec](t)
	if diff := cmp.Diff(spec, specOf(sent(t, specMessage(&spec), new(sessionv1.Spec)))); diff != "" {
		t.Error(diff)
	}
	all := filled[session.Session](t)
	if diff := cmp.Diff(all, sessionOf(sent(t, sessionMessage(&all), new(sessionv1.Session))), errorsByText); diff != "" {
		t.Error(diff)
	}
	var none session.Session
	if diff := cmp.Diff(none, sessionOf(sent(t, sessionMessage(&none), new(sessionv1.Session))), errorsByText); diff != "" {
		t.Error("of an empty session:", diff)
	}
	host := filled[session.Host](t)
	if diff := cmp.Diff(host, hostOf(sent(t, hostMessage(&host), new(sessionv1.Host))), errorsByText); diff != "" {
		t.Error(diff)
	}
	process := filled[session.Process](t)
	if diff := cmp.Diff(process, processOf(sent(t, processMessage(&process), new(sessionv1.Process)))); diff != "" {
		t.Error(diff)
	}
	match := filled[session.Match](t)
	if diff := cmp.Diff(match, matchOf(sent(t, matchMessage(&match), new(sessionv1.HostMatch))), errorsByText); diff != "" {
		t.Error(diff)
	}
	filter := filled[session.Filter](t)
	m, err := filterMessage(&filter)
	if err != nil {
		t.Fatal(err)
	}
	back, err := filterOf(sent(t, m, new(sessionv1.ListRequest)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(filter, back); diff != "" {
		t.Error(diff)
	}
	want := filled[session.Want](t)
	id, backWant := wantOf(sent(t, wantMessage("an id", want), new(sessionv1.FetchRequest)))
	if diff := cmp.Diff(want, backWant); diff != "" || id != "an id" {
		t.Error(id, diff)
	}
}

// A comparison that finds nothing different would pass whatever is forgotten.
func TestForgettingIsNoticed(t *testing.T) {
	all := filled[session.Session](t)
	v := reflect.ValueOf(&all).Elem()
	for i := range v.NumField() {
		changed := all
		reflect.ValueOf(&changed).Elem().Field(i).SetZero()
		if cmp.Equal(all, changed, errorsByText) {
			t.Errorf("%s could be forgotten", v.Type().Field(i).Name)
		}
	}
}

func TestStatesHaveMessages(t *testing.T) {
	if len(stateMessages) != len(session.States) || len(sessionv1.State_name) != len(session.States)+1 {
		t.Errorf("%d states, %d in the table, %d in the proto", len(session.States), len(stateMessages), len(sessionv1.State_name)-1)
	}
	for _, s := range session.States {
		if stateOf(stateMessages[s]) != s {
			t.Errorf("%s comes back as %q", s, stateOf(stateMessages[s]))
		}
	}
	if s := stateOf(99); s.Known() || s.Final() {
		t.Errorf("a state of the future is %q", s)
	}
	if _, err := filterOf(&sessionv1.ListRequest{States: []sessionv1.State{99}}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("a filter by a state of the future: %v", err)
	}
	if _, err := filterMessage(&session.Filter{States: []session.State{"odd"}}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("a filter by an odd state: %v", err)
	}
}

// What a process calls itself is any bytes, and must not make a message that
// cannot be sent.
func TestAnyTextTravels(t *testing.T) {
	s := session.Session{Host: "h\xff", Targets: []profile.Target{{PID: 1, Name: "\xc3\x28", Command: "\xf0\x28\x8c\x28"}},
		Progress: session.Progress{Hottest: "\xfe"}, Spec: session.Spec{Requester: "\xfd"},
		Err: &session.Error{Code: "c", Kind: session.ErrInvalid, Problem: "\x80" + strings.Repeat("é", maxErrorText)}}
	back := sessionOf(sent(t, sessionMessage(&s), new(sessionv1.Session)))
	if back.Host != "h\uFFFD" || !strings.HasSuffix(back.Err.Problem, "é…") || len(back.Err.Problem) > maxErrorText+len("…") {
		t.Errorf("%+v, %q", back, back.Err.Problem)
	}
}

func TestNumbersOutOfRange(t *testing.T) {
	for n, want := range map[int]int32{math.MaxInt: math.MaxInt32, math.MinInt: math.MinInt32, 7: 7} {
		if got := int32Of(n); got != want {
			t.Errorf("%d becomes %d", n, got)
		}
	}
	if err := sendable(&session.Spec{PIDs: []int{1, 1 << 32}}); !errors.Is(err, session.ErrInvalid) {
		t.Errorf("a PID that does not fit: %v", err)
	}
}

// What a stranger writes never panics, and comes back the same once it is ours.
func FuzzConversions(f *testing.F) {
	all := session.Session{ID: "x", Spec: session.Spec{PIDs: []int{1}, Duration: time.Second}, State: session.StateFailed,
		Created: time.Unix(1, 0), Err: session.NotFound("x"), Targets: []profile.Target{{PID: 1}}}
	for _, m := range []proto.Message{statusOf(session.NotFound("x")).Proto(), sessionMessage(&all), specMessage(&all.Spec), wantMessage("x", session.Want{Offset: 5}),
		&sessionv1.ListRequest{States: []sessionv1.State{1, 2, 77}, Pid: -1}} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m sessionv1.Session
		if proto.Unmarshal(b, &m) == nil {
			s := sessionOf(&m)
			again := sessionOf(sessionMessage(&s))
			if !cmp.Equal(s.Spec, again.Spec) || s.ID != again.ID || s.State != again.State {
				t.Errorf("%+v\nbecomes\n%+v", s, again)
			}
		}
		var spec sessionv1.StartRequest
		if proto.Unmarshal(b, &spec) == nil {
			s := specOf(spec.GetSpec())
			_ = s.Validate()
		}
		var list sessionv1.ListRequest
		if proto.Unmarshal(b, &list) == nil {
			if filter, err := filterOf(&list); err == nil {
				filter.Chooses(&all)
			}
		}
		var fetch sessionv1.FetchRequest
		if proto.Unmarshal(b, &fetch) == nil {
			wantOf(&fetch)
		}
		var answer spb.Status
		if proto.Unmarshal(b, &answer) == nil && answer.GetCode() != 0 {
			if err := (&link{}).explain(t.Context(), status.FromProto(&answer).Err()); err == nil || err.Error() == "" {
				t.Errorf("%v becomes %v", &answer, err)
			}
		}
		var header sessionv1.FetchHeader
		if proto.Unmarshal(b, &header) == nil && checkHeader(&header, session.Want{}) == nil && header.GetSize() < 0 {
			t.Errorf("accepted %v", &header)
		}
	})
}
