// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/metrics"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// measured makes the service listen for Prometheus.
func measured(variables ...string) func(*service) {
	return func(s *service) {
		s.command.Env = append(append(os.Environ(), "SRPROF_PROFILER_METRICS_LISTEN_ADDR=127.0.0.1:0"), variables...)
	}
}

// metrics are the values by their names and labels, as Prometheus reads them.
func (s *service) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	return daemons.Scrape(t, s.waitFor(t, "metrics can be read").Address)
}

// runner is the service as our own client sees it.
func (s *service) runner(t *testing.T, identity string) *remote.Client {
	t.Helper()
	return s.runnerOf(t, auth.Identity(s.dir, identity))
}

func (s *service) runnerOf(t *testing.T, who *auth.Security) *remote.Client {
	t.Helper()
	creds, err := who.ClientCredentials(s.address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := remote.Dial(s.address, creds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func final(t *testing.T, c *remote.Client, id session.ID) (last session.Session) {
	t.Helper()
	for now, err := range c.Watch(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		last = now
	}
	return last
}

// A known sequence of what can happen to requests and sessions: each number is
// exactly right.
func TestMetrics(t *testing.T) {
	s := start(t, `"max_concurrent_sessions": 1, "max_queued_sessions": 1`, measured())
	busy, idle := target(t), programs.Start(t, "sleeper.c", programs.Options{})
	c := s.runner(t, "admin")
	ctx := t.Context()
	begin := func(d time.Duration, pid int) session.Session {
		t.Helper()
		now, err := c.Start(ctx, session.Spec{PIDs: []int{pid}, Duration: d, Frequency: 499})
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	succeeded := final(t, c, begin(2*time.Second, busy.PID).ID)
	if succeeded.State != session.StateSucceeded {
		t.Fatalf("%+v", succeeded)
	}
	if failed := final(t, c, begin(200*time.Millisecond, idle.PID).ID); failed.State != session.StateFailed || failed.Err.Code != "no_samples" {
		t.Fatalf("%+v", failed)
	}
	running := begin(5*time.Minute, busy.PID)
	waiting := begin(4*time.Minute, busy.PID)
	refused := func(spec session.Spec, as *remote.Client) {
		t.Helper()
		if now, err := as.Start(ctx, spec); err == nil {
			t.Fatalf("it starts: %+v", now)
		}
	}
	refused(session.Spec{PIDs: []int{busy.PID}, Duration: 3 * time.Minute, Frequency: 99}, c)                     // busy
	refused(session.Spec{PIDs: []int{busy.PID}, Duration: time.Minute, Frequency: 9999}, c)                       // frequency_limit
	refused(session.Spec{PIDs: []int{busy.PID}, Duration: time.Minute, Frequency: 99}, s.runner(t, "poller"))     // no_role
	refused(session.Spec{PIDs: []int{math.MaxInt32}, Duration: time.Minute, Frequency: 99}, s.runner(t, "agent")) // no_such_process
	m := s.metrics(t)
	check(t, m, map[string]float64{
		`srprof_sessions{state="running"}`: 1,
		`srprof_sessions{state="pending"}`: 1,
	})
	for _, id := range []session.ID{waiting.ID, running.ID} {
		if _, err := c.Cancel(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Get(ctx, "nobody"); err == nil {
		t.Error("there is such a session")
	}
	content, err := c.Fetch(ctx, succeeded.ID, session.Want{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pprof.Read(content.Body)
	if err != nil {
		t.Fatal(err)
	}
	content.Body.Close()
	rest, err := c.Get(ctx, running.ID)
	if err != nil {
		t.Fatal(err)
	}
	m = s.metrics(t)
	check(t, m, map[string]float64{
		`srprof_healthy`:                                                1,
		`srprof_sessions{state="running"}`:                              0,
		`srprof_sessions{state="pending"}`:                              0,
		`srprof_sessions_started_total`:                                 3,
		`srprof_sessions_ended_total{code="ok",state="succeeded"}`:      1,
		`srprof_sessions_ended_total{code="no_samples",state="failed"}`: 1,
		`srprof_sessions_ended_total{code="canceled",state="canceled"}`: 2,
		`srprof_calls_total{call="start",code="ok"}`:                    4,
		`srprof_calls_total{call="start",code="busy"}`:                  1,
		`srprof_calls_total{call="start",code="frequency_limit"}`:       1,
		`srprof_calls_total{call="start",code="no_role"}`:               1,
		`srprof_calls_total{call="start",code="no_such_process"}`:       1,
		`srprof_calls_total{call="watch",code="ok"}`:                    2,
		`srprof_calls_total{call="cancel",code="ok"}`:                   2,
		`srprof_calls_total{call="get",code="no_such_session"}`:         1,
		`srprof_calls_total{call="get",code="ok"}`:                      1,
		`srprof_calls_total{call="fetch",code="ok"}`:                    1,
		`srprof_calls_total{call="list",code="ok"}`:                     0,
		`srprof_session_start_seconds_count`:                            3,
		`srprof_session_wait_seconds_count`:                             3,
		`srprof_results`:                                                4,
		`srprof_log_lines_lost_total`:                                   0,
		`srprof_samples_total`:                                          float64(p.Meta.Counts.Samples + rest.Progress.Samples),
		`srprof_samples_lost_total`:                                     float64(p.Meta.Counts.Lost + rest.Progress.Lost),
		`srprof_samples_truncated_total`:                                float64(p.Meta.Counts.Truncated + rest.Progress.Truncated),
	})
	if sampled := m[`srprof_first_sample_seconds_count`]; sampled != 1 && sampled != 2 { // the canceled one may have had none
		t.Errorf("%v sessions had a first sample", sampled)
	}
	if p.Meta.Counts.Samples == 0 || m[`srprof_result_bytes`] < float64(content.Size) || m[`srprof_kernel_memory_bytes`] < 1<<20 ||
		m[`srprof_connections`] < 3 || m[`process_resident_memory_bytes`] < 1<<20 || m[`process_cpu_seconds_total`] <= 0 {
		t.Errorf("%v", m)
	}
	if left := time.Until(time.UnixMilli(int64(1000 * m[`srprof_certificate_expires_timestamp_seconds`]))); left < time.Hour {
		t.Errorf("the certificate expires in %v", left)
	}
	for name := range m {
		if strings.Contains(name, strconv.Itoa(busy.PID)) || strings.Contains(name, string(running.ID)) || strings.Contains(name, "serviceradar") {
			t.Errorf("%s names somebody", name)
		}
	}
}

func check(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name, v := range want {
		if g, ok := got[name]; !ok || g != v {
			t.Errorf("%s is %v (%v), want %v", name, g, ok, v)
		}
	}
}

// Connections that come to nothing, and calls that nobody knows.
func TestMetricsOfStrangers(t *testing.T) {
	s := start(t, "", measured())
	if c, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}); err == nil { // no certificate
		_, _ = c.Read(make([]byte, 1)) // TLS 1.3 says so only now
		c.Close()
	}
	for _, method := range []string{"/nobody.Knows/It", "/nobody.Knows/That", "/session.v1.SessionService/Nothing"} {
		if err := s.client(t, "admin").Invoke(context.Background(), method, nil, nil); err == nil {
			t.Error("it is answered")
		}
	}
	m := s.metrics(t)
	check(t, m, map[string]float64{`srprof_connections_refused_total{code="client_no_certificate"}`: 1})
	for name := range m {
		if strings.Contains(name, "nobody") {
			t.Error(name)
		}
	}
}

// Elsewhere than on the loopback interface who reads must show a certificate,
// and the service's is read again when it changes.
func TestMetricsByTLS(t *testing.T) {
	s := start(t, "", measured("SRPROF_PROFILER_METRICS_LISTEN_ADDR=0.0.0.0:0"))
	_, port, _ := strings.Cut(s.waitFor(t, "metrics can be read").Address, "]:")
	url := fmt.Sprintf("https://127.0.0.1:%s/metrics", port)
	if r, err := http.Get(strings.Replace(url, "https", "http", 1)); err == nil && r.StatusCode == http.StatusOK {
		t.Error("it is answered without TLS")
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "poller.pem"), filepath.Join(s.dir, "poller-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	client := func(certificates ...tls.Certificate) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates}, ForceAttemptHTTP2: true}}
	}
	if r, err := client().Get(url); err == nil {
		t.Errorf("it is answered without a certificate: %s", r.Status)
	}
	if text := daemons.Get(t, client(own), url); !strings.Contains(text, "srprof_healthy 1") {
		t.Error(text)
	}
}

var metricName = regexp.MustCompile(`\b(?:srprof_|process_(?:cpu|resident|start)_)[a-z0-9_]+\b`)

// ofOthers is what agents and pollers tell of, who have names of their own.
func ofOthers() (text string) {
	agent := metrics.NewAgent("test", nil, func() (metrics.State, metrics.Agent) {
		return metrics.State{}, metrics.Agent{ProfilerSince: time.Now()}
	})
	agent.HandedOn("/s/m", "OK")
	poller := metrics.NewFleet("test", func() (metrics.State, metrics.Fleet) {
		return metrics.State{}, metrics.Fleet{ReportsDropped: map[string]uint64{"summary": 1}}
	})
	for _, m := range []*metrics.Metrics{agent, poller} {
		answer := httptest.NewRecorder()
		m.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		text += answer.Body.String()
	}
	return text
}

// What is shipped for Prometheus and Grafana, and what the documents say, names
// metrics that exist.
func TestShippedForPrometheus(t *testing.T) {
	s := start(t, "", measured())
	known := map[string]bool{}
	for name := range s.metrics(t) {
		name, _, _ = strings.Cut(name, "{")
		known[name] = true
	}
	text := daemons.Get(t, http.DefaultClient, "http://"+s.waitFor(t, "metrics can be read").Address+"/metrics") + ofOthers()
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "HELP" {
			known[f[2]] = true
		}
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		known["srprof_session_dispatch_seconds"+suffix] = true
	}
	// They have no value before something happened.
	for _, name := range []string{"srprof_rpcs_failed_total", "srprof_connections_refused_total", "srprof_recordings_total"} {
		known[name] = true
	}
	for _, file := range []string{"deploy/prometheus/alerts.yml", "deploy/prometheus/dashboard.json", "docs/operations.md"} {
		b, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, ".json") && !json.Valid(b) {
			t.Errorf("%s is not JSON", file)
		}
		named := metricName.FindAllString(string(b), -1)
		if len(named) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, name := range named {
			if !known[name] {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
		if file != "docs/operations.md" {
			continue
		}
		for name := range known {
			if strings.HasPrefix(name, "srprof_") && !strings.Contains(string(b), strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")) {
				t.Errorf("%s does not tell of %s", file, name)
			}
		}
	}
}
