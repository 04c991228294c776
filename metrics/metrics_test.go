// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

func made() *Metrics {
	return New("v1", func() State {
		return State{Healthy: true, Running: 2, Pending: 1, Kept: 3, KeptBytes: 4096, Connections: 5, LogLinesLost: 6, KernelMemory: 7, CertExpires: time.Unix(8, 0)}
	})
}

// What is made conforms to what Prometheus asks of names and helps.
func TestLint(t *testing.T) {
	m := made()
	m.RPCFailed("Unimplemented")
	m.ConnectionRefused("no_tls")
	m.Session(&session.Session{State: session.StateSucceeded}, time.Time{}, &profile.Metadata{Event: "cpu-clock", UserStacks: "unwind tables"})
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestState(t *testing.T) {
	want := `
# HELP srprof_healthy 1 if sessions can be had, 0 if not; the log says why not.
# TYPE srprof_healthy gauge
srprof_healthy 1
# HELP srprof_sessions Sessions that have not ended, by state.
# TYPE srprof_sessions gauge
srprof_sessions{state="pending"} 1
srprof_sessions{state="running"} 2
# HELP srprof_kernel_memory_bytes Memory of BPF maps and programs and of perf's rings, which no RSS has.
# TYPE srprof_kernel_memory_bytes gauge
srprof_kernel_memory_bytes 7
# HELP srprof_certificate_expires_timestamp_seconds When the service's own certificate expires, in seconds since 1970.
# TYPE srprof_certificate_expires_timestamp_seconds gauge
srprof_certificate_expires_timestamp_seconds 8
`
	if err := testutil.GatherAndCompare(made().registry, strings.NewReader(want), "srprof_healthy", "srprof_sessions", "srprof_kernel_memory_bytes", "srprof_certificate_expires_timestamp_seconds"); err != nil {
		t.Error(err)
	}
	none := New("v1", func() State { return State{KernelMemory: -1} })
	for _, name := range []string{"srprof_kernel_memory_bytes", "srprof_certificate_expires_timestamp_seconds"} {
		if n, err := testutil.GatherAndCount(none.registry, name); n != 0 || err != nil {
			t.Errorf("%s is told though it is not known: %v", name, err)
		}
	}
}

// The times of a session that waited 2 s, began within 3 ms, and had its first
// sample 10 ms after its turn.
func TestSessionTimes(t *testing.T) {
	m := made()
	created := time.Unix(1000, 0)
	turn := created.Add(2 * time.Second)
	s := session.Session{State: session.StateRunning, Created: created, Started: turn.Add(3 * time.Millisecond)}
	m.Session(&s, turn, nil)
	s.State = session.StateSucceeded
	m.Session(&s, turn, &profile.Metadata{Event: "e", UserStacks: "u", FirstSample: turn.Add(10 * time.Millisecond), DurationNs: 5e9, SymbolizeNs: 40e6,
		Counts: profile.Counts{Samples: 100, Lost: 7, Truncated: 3, Unknown: 2}})
	r := httptest.NewRecorder()
	m.Handler().ServeHTTP(r, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{
		"srprof_sessions_started_total 1", "srprof_session_wait_seconds_sum 2", "srprof_session_start_seconds_sum 0.003", "srprof_first_sample_seconds_sum 0.01",
		"srprof_symbolize_seconds_sum 0.04", "srprof_sampled_seconds_total 5", "srprof_samples_total 100", "srprof_samples_lost_total 7",
		"srprof_samples_truncated_total 3", "srprof_samples_unknown_total 2", `srprof_recordings_total{event="e",user_stacks="u"} 1`,
		`srprof_sessions_ended_total{code="ok",state="succeeded"} 1`, `srprof_session_start_seconds_bucket{le="0.0025"} 0`, `srprof_session_start_seconds_bucket{le="0.005"} 1`,
	} {
		if !strings.Contains(r.Body.String(), "\n"+line+"\n") {
			t.Errorf("there is no %q", line)
		}
	}
}

// Whatever codes come, the number of labels is bounded.
func TestCodesAreBounded(t *testing.T) {
	m := made()
	for i := range 10 * maxCodes {
		m.ConnectionRefused(fmt.Sprintf("code_%d", i))
	}
	for _, code := range []string{"", strings.Repeat("x", 1000)} {
		m.ConnectionRefused(code)
	}
	if n, err := testutil.GatherAndCount(m.registry, "srprof_connections_refused_total"); n != maxCodes+1 || err != nil {
		t.Errorf("%d codes are told apart: %v", n, err)
	}
}

func TestCodeOf(t *testing.T) {
	m := made()
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, "ok"},
		{session.NotFound("x"), "no_such_session"},
		{fmt.Errorf("far away: %w", session.Invalid("bad_pid", "", "")), "bad_pid"},
		{context.Canceled, "call_ended"},
		{fmt.Errorf("slow: %w", context.DeadlineExceeded), "call_ended"},
		{errors.New("who knows"), "internal"},
	} {
		if got := m.codeOf(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name, address, mode string
		insecure            bool
		want                string // part of the error; none if it is good
	}{
		{"off", "", "none", false, ""},
		{"loopback", "127.0.0.1:9084", "none", false, ""},
		{"loopback by name", "localhost:9084", "none", false, ""},
		{"IPv6 loopback", "[::1]:9084", "none", false, ""},
		{"elsewhere with certificates", ":9084", "mtls", false, ""},
		{"elsewhere, mode not said", "192.0.2.1:9084", "", false, ""},
		{"elsewhere without certificates", ":9084", "NONE", false, "[metrics_without_certificates]"},
		{"elsewhere, written out", ":9084", "none", true, ""},
		{"no port", "127.0.0.1", "mtls", false, "[bad_listen_addr]"},
		{"empty port", "127.0.0.1:", "mtls", false, "[bad_listen_addr]"},
		{"bad port", "127.0.0.1:99999", "mtls", false, "[bad_listen_addr]"},
	} {
		s := Settings{ListenAddr: c.address, Insecure: c.insecure}
		got := ""
		if err := s.Validate(&auth.Security{Mode: c.mode}); err != nil {
			var e *session.Error
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			got = "[" + e.Code + "]"
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Those who connect and say nothing take up places, which are bounded; as soon
// as one is free somebody else has it.
func TestFewPlaces(t *testing.T) {
	s, err := Listen(&Settings{ListenAddr: "127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(made(), slog.New(slog.DiscardHandler))
	defer s.Close()
	address := s.listener.Addr().String()
	var silent []net.Conn
	for range maxReaders {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	places := s.listener.(*few).places
	for len(places) < maxReaders { // it takes them one after the other
		time.Sleep(time.Millisecond)
	}
	answered := make(chan string)
	go func() {
		r, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer r.Body.Close()
		_, err = io.Copy(io.Discard, r.Body)
		answered <- fmt.Sprint(r.Status, err)
	}()
	select {
	case got := <-answered:
		t.Fatalf("there are more places: %s", got)
	case <-time.After(50 * time.Millisecond):
	}
	silent[0].Close()
	if got := <-answered; got != "200 OK<nil>" && got != "200 OK <nil>" {
		t.Error(got)
	}
}

// Nothing else is served, and what is off is off.
func TestServer(t *testing.T) {
	var off *Server
	off.Serve(nil, nil)
	off.Close()
	if s, err := Listen(&Settings{}, nil); s != nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
	s, err := Listen(&Settings{ListenAddr: "127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(&Settings{ListenAddr: s.listener.Addr().String()}, nil); err == nil || !strings.Contains(err.Error(), "metrics.listen_addr") {
		t.Errorf("twice: %v", err)
	}
	s.Serve(made(), slog.New(slog.DiscardHandler))
	url := "http://" + s.listener.Addr().String()
	for path, want := range map[string]int{"/metrics": 200, "/": 404, "/debug/pprof/": 404} {
		r, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
	if r, err := http.Post(url+"/metrics", "text/plain", nil); err != nil || r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("%v: %v", r, err)
	}
	s.Close()
	if _, err := http.Get(url + "/metrics"); err == nil {
		t.Error("it is still answered")
	}
	unserved, err := Listen(&Settings{ListenAddr: "127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	unserved.Close()
	if _, err := unserved.listener.Accept(); err == nil {
		t.Error("it listens still")
	}
}

// What nobody asks for is counted nowhere.
func TestOff(t *testing.T) {
	var off *Metrics
	off.Session(&session.Session{State: session.StateFailed}, time.Time{}, nil)
	off.ConnectionRefused("x")
	off.RPCFailed("x")
	off.Reloaded(true)
	var r session.Fleet
	if off.Runner(r) != r {
		t.Error("calls are counted")
	}
}

// Sessions end and Prometheus asks at the same time.
func TestConcurrently(t *testing.T) {
	m := made()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 100 {
				m.Session(&session.Session{State: session.StateFailed, Err: session.Invalid(fmt.Sprint("c", i), "", "")}, time.Time{}, nil)
				m.ConnectionRefused("x")
				if _, err := testutil.GatherAndCount(m.registry, "srprof_sessions_ended_total"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
