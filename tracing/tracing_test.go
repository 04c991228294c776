// SPDX-License-Identifier: Apache-2.0

package tracing

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
)

func TestValidate(t *testing.T) {
	secret := map[string]string{"authorization": "Bearer x"}
	for _, c := range []struct {
		name   string
		change func(*Settings)
		want   string // part of the error
	}{
		{"off, whatever else is said", func(s *Settings) { *s = Settings{SampleRatio: 7} }, ""},
		{"environment", func(*Settings) {}, ""},
		{"endpoint", func(s *Settings) { s.Endpoint, s.Headers = "c:4317", secret }, ""},
		{"URL", func(s *Settings) { s.Endpoint = "http://c:4317/v1" }, "is no address"},
		{"no port", func(s *Settings) { s.Endpoint = "c" }, "is no address"},
		{"insecure", func(s *Settings) { s.Endpoint, s.Insecure = "c:4317", true }, ""},
		{"insecure with a secret", func(s *Settings) { s.Endpoint, s.Insecure, s.Headers = "c:4317", true, secret }, "without TLS"},
		{"insecure with a secret on this host", func(s *Settings) { s.Endpoint, s.Insecure, s.Headers = "127.0.0.1:4317", true, secret }, ""},
		{"insecure with files", func(s *Settings) { s.Endpoint, s.Insecure, s.TLS.CA = "c:4317", true, "x" }, "insecure is true"},
		{"insecure nowhere", func(s *Settings) { s.Insecure = true }, "there is none"},
		{"files for nowhere", func(s *Settings) { s.TLS.CA = "x" }, "there is none"},
		{"certificate without key", func(s *Settings) { s.Endpoint, s.TLS.Cert = "c:4317", "x" }, "without its key"},
		{"ratio", func(s *Settings) { s.SampleRatio = 1.5 }, "sample_ratio is 1.5"},
		{"no duration", func(s *Settings) { s.BatchTimeout = "soon" }, `batch_timeout is "soon"`},
		{"long", func(s *Settings) { s.BatchTimeout = "1h" }, "batch_timeout"},
	} {
		s := Default()
		s.Enabled = true
		c.change(&s)
		err := s.Validate()
		var e *session.Error
		if err == nil && c.want == "" {
			continue
		}
		if c.want == "" || !errors.As(err, &e) || e.Code != "bad_tracing" || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "Bearer") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// Files that cannot be used are told before anything is served.
func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(dir, auth.Tryout{}); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("empty.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tls := range []Files{
		{CA: file("absent.pem")},
		{CA: file("empty.pem")},
		{Cert: file("agent.pem"), Key: file("admin-key.pem")},
		{Cert: file("agent.pem"), Key: file("admin-key.pem"), CA: file("root.pem")},
	} {
		s := Default()
		s.Enabled, s.Endpoint, s.TLS = true, "127.0.0.1:1", tls
		if _, err := Start(&s, About{}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%+v is taken", tls)
		}
	}
}

// What is off costs nothing, and is nil.
func TestOff(t *testing.T) {
	s := Default()
	off, err := Start(&s, About{}, nil)
	if off != nil || err != nil {
		t.Fatalf("%v, %v", off, err)
	}
	var r session.Runner
	if off.Runner(r) != r || off.Calls() != nil {
		t.Error("something is traced")
	}
	off.Close(t.Context())
}

// Of what goes wrong all the time there is one line a minute.
func TestFaults(t *testing.T) {
	var log bytes.Buffer
	f := faults{log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 100 {
		f.Handle(errors.New("nobody there"))
	}
	f.last = time.Now().Add(-2 * tellFaultsEvery)
	f.Handle(errors.New("still nobody"))
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), `error="still nobody" more_since_last=99`) {
		t.Errorf("%d lines: %s", n, log.String())
	}
}
