// SPDX-License-Identifier: Apache-2.0

package serviceradar

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// fixture answers with sessions as a test wrote them: failures, texts of a
// certain size and what else a real profiler cannot be asked for. What does not
// need that is tested with the real one, in contract_test.go.
type fixture struct {
	sessions []session.Session
	texts    map[session.ID]string
	bodies   map[session.ID]func() io.Reader // for what is too large for a string
	started  []session.Spec
	refuse   error // of Start
}

func (f *fixture) Start(_ context.Context, spec session.Spec) (session.Session, error) {
	if f.refuse != nil {
		return session.Session{}, f.refuse
	}
	f.started = append(f.started, spec)
	return session.Session{ID: "3c6ba1c8-7a3f-4b1c-9c4e-0c7d0d6d7a11", Spec: spec, State: session.StateRunning}, nil
}

func (f *fixture) Get(_ context.Context, id session.ID) (session.Session, error) {
	for _, s := range f.sessions {
		if s.ID == id {
			return s, nil
		}
	}
	return session.Session{}, session.NotFound(id)
}

func (f *fixture) List(_ context.Context, choice session.Filter) (all []session.Session, err error) {
	for _, s := range f.sessions {
		if choice.Chooses(&s) {
			all = append(all, s)
		}
	}
	return all, nil
}

func (f *fixture) Watch(ctx context.Context, id session.ID) iter.Seq2[session.Session, error] {
	return func(yield func(session.Session, error) bool) { yield(f.Get(ctx, id)) }
}

func (f *fixture) Fetch(ctx context.Context, id session.ID, want session.Want) (*session.Content, error) {
	s, err := f.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if body := f.bodies[id]; body != nil {
		return &session.Content{Session: s, Format: want.Format, Body: io.NopCloser(body())}, nil
	}
	text, ok := f.texts[id]
	if !ok {
		return nil, &session.Error{Code: "canceled", Kind: session.ErrCanceled, Problem: "the session was canceled before it began"}
	}
	sum := sha256.Sum256([]byte(text))
	return &session.Content{Session: s, Format: want.Format, Size: int64(len(text)), Digest: hex.EncodeToString(sum[:]), Body: io.NopCloser(strings.NewReader(text))}, nil
}

func (f *fixture) Cancel(ctx context.Context, id session.ID) (session.Session, error) {
	return f.Get(ctx, id)
}

// A few sessions, oldest first.
const (
	idOld      session.ID = "00000000-0000-4000-8000-000000000001"
	idFailed   session.ID = "00000000-0000-4000-8000-000000000002"
	idCanceled session.ID = "00000000-0000-4000-8000-000000000003"
	idNever    session.ID = "00000000-0000-4000-8000-000000000004" // canceled before it began
	idEmpty    session.ID = "00000000-0000-4000-8000-000000000005"
	idNew      session.ID = "00000000-0000-4000-8000-000000000006"
	idRunning  session.ID = "00000000-0000-4000-8000-000000000007"
	idPending  session.ID = "00000000-0000-4000-8000-000000000008"
)

func example() *fixture {
	f := &fixture{texts: map[session.ID]string{
		idOld: "old;main 7\n", idCanceled: "half;main 3\n", idEmpty: "", idNew: "new;main;work 40\nnew;main;wait<int> 2\n", idRunning: "so;far 1\n",
	}}
	begin := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	add := func(id session.ID, pid int, state session.State, err *session.Error) {
		s := session.Session{ID: id, State: state, Host: "web1", Spec: session.Spec{PIDs: []int{pid}, Duration: time.Second, Frequency: 99}, Err: err, Shared: 1}
		s.Created = begin.Add(time.Duration(len(f.sessions)) * time.Minute)
		if state.Final() {
			s.Ended = s.Created.Add(time.Second)
		}
		f.sessions = append(f.sessions, s)
	}
	add(idOld, 41, session.StateSucceeded, nil)
	add(idFailed, 42, session.StateFailed, session.NotPermitted("no_permission", "the kernel refused", "run it as root", nil))
	add(idCanceled, 43, session.StateCanceled, &session.Error{Code: "canceled", Kind: session.ErrCanceled, Problem: "somebody canceled it"})
	add(idNever, 44, session.StateCanceled, &session.Error{Code: "canceled", Kind: session.ErrCanceled, Problem: "somebody canceled it"})
	add(idEmpty, 45, session.StateSucceeded, nil)
	add(idNew, 46, session.StateSucceeded, nil)
	add(idRunning, 47, session.StateRunning, nil)
	add(idPending, 47, session.StatePending, nil)
	return f
}

var (
	errBusy      = &session.Error{Code: "busy", Kind: session.ErrBusy, Problem: "10 sessions run and 10 wait", Remedy: "try again in 2s", RetryAfter: 2 * time.Second}
	errNoProcess = &session.Error{Code: "no_such_process", Kind: fs.ErrNotExist, Problem: "there is no process 4242"}
)

// serve has a server with ServiceRadar's interfaces until the test ends.
func serve(t testing.TB, runner session.Runner, limits remote.Limits) (*grpc.ClientConn, *atomic.Bool) {
	t.Helper()
	unhealthy := new(atomic.Bool)
	server := grpc.NewServer()
	RegisterServiceRadar(server, runner, About{
		Host: "web1", HostIP: "192.0.2.7", Version: "1.2.3", Limits: func() remote.Limits { return limits },
		Health: func() remote.Health {
			if unhealthy.Load() {
				return remote.Health{Reason: "the service is stopping"}
			}
			return remote.Health{Healthy: true, Running: 3, Queued: 2}
		},
	})
	return dial(t, server), unhealthy
}

func dial(t testing.TB, server *grpc.Server) *grpc.ClientConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}

// stacks is folded text of n stacks whose counts are 1, 2, 3 …
func stacks(n, frames int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "busy;main;%sf%07d %d\n", strings.Repeat("std::vector<int>::push_back;", frames), i, i+1)
	}
	return b.String()
}

func target(pid int, command string) profile.Target {
	return profile.Target{PID: pid, Name: "busy", Command: command}
}
