// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What is shipped as an example says what the defaults are, and where the
// certificates are.
func TestShippedConfiguration(t *testing.T) {
	got, err := load("../../deploy/profiler.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), *got); diff != "" {
		t.Error(diff)
	}
}

// What config example writes is read back as the same.
func TestExampleIsRead(t *testing.T) {
	var out bytes.Buffer
	if code := run(t.Context(), []string{"config", "example"}, streams{&out, os.Stderr}); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	file := filepath.Join(t.TempDir(), "profiler.json")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), *got); diff != "" {
		t.Error(diff)
	}
}

func TestHostIP(t *testing.T) {
	for _, c := range []struct{ listen, said, want string }{
		{"192.0.2.7:50084", "", "192.0.2.7"},
		{"192.0.2.7:50084", "192.0.2.8", "192.0.2.8"},
		{":50084", "192.0.2.8", "192.0.2.8"},
		{"[::1]:50084", "", "::1"},
	} {
		s := settings{ListenAddr: c.listen, HostIP: c.said}
		if got := s.hostIP(); got != c.want {
			t.Errorf("%s, %q: %s, want %s", c.listen, c.said, got, c.want)
		}
	}
	for _, listen := range []string{":50084", "0.0.0.0:50084", "[::]:50084"} {
		s := settings{ListenAddr: listen}
		if ip := net.ParseIP(s.hostIP()); ip == nil || ip.IsUnspecified() {
			t.Errorf("%s: %v", listen, ip)
		}
	}
}

func TestLogger(t *testing.T) {
	for _, c := range []struct {
		name   string
		l      logging
		stderr bool
		debug  bool
		layout string
	}{
		{"defaults", logging{}, false, false, time.RFC3339},
		{"standard error", logging{Output: "stderr", Level: "INFO"}, true, false, time.RFC3339},
		{"debug", logging{Level: "info", Debug: true}, false, true, time.RFC3339},
		{"level debug", logging{Level: "debug"}, false, true, time.RFC3339},
		{"another time", logging{TimeFormat: time.RFC1123Z}, false, false, time.RFC1123Z},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.l.validate(); err != nil {
				t.Fatal(err)
			}
			var out, stderr bytes.Buffer
			log, _ := c.l.loggers(c.l.stream(streams{&out, &stderr}))
			log.Debug("small")
			log.Warn("large", "session", "s", "level_of", 1)
			text, empty := &out, &stderr
			if c.stderr {
				text, empty = empty, text
			}
			lines := strings.Split(strings.TrimSpace(text.String()), "\n")
			if empty.Len() > 0 || strings.Contains(text.String(), "small") != c.debug {
				t.Errorf("%s%s", &out, &stderr)
			}
			var got map[string]any
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(c.layout, got["time"].(string))
			if err != nil || time.Since(at) > time.Hour {
				t.Errorf("%v: %v", got["time"], err)
			}
			delete(got, "time")
			want := map[string]any{"level": "warn", "component": "profiler", "message": "large", "session": "s", "level_of": 1.0}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Another program listens there already: that is no fault of the configuration.
func TestCannotListen(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	file := filepath.Join(t.TempDir(), "profiler.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"listen_addr": %q, "security": {"mode": "none"}}`, other.Addr()), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, stderr bytes.Buffer
	code := run(t.Context(), []string{"--config", file}, streams{&out, &stderr})
	want := fmt.Sprintf("serviceradar-profiler: cannot listen at %s (bind: address already in use); choose another listen_addr, or end what listens there [cannot_listen]\n", other.Addr())
	if code != exitFailed || stderr.String() != want || out.Len() > 0 {
		t.Errorf("exit code %d\n%s%s", code, &out, &stderr)
	}
}

// What the log leaves out for its level, the audit does not.
func TestAuditIsAlwaysWritten(t *testing.T) {
	for _, level := range []string{"info", "error", "disabled"} {
		var out bytes.Buffer
		l := logging{Level: level}
		log, audit := l.loggers(&out)
		log.Info("a line of the log")
		log.With("a", 1).WithGroup("g").Info("a line of the log")
		audit.Info("access")
		if got := strings.Count(out.String(), "a line of the log"); got > 0 != (level == "info") || !strings.Contains(out.String(), `"message":"access"`) {
			t.Errorf("%s: %s", level, out.String())
		}
	}
}

// What ServiceRadar's services read from the environment where their
// configuration says nothing about logs.
func TestLoggingFromEnvironment(t *testing.T) {
	for _, c := range []struct {
		environment map[string]string
		want        logging
	}{
		{nil, logging{Level: "info", Output: "stdout"}},
		{map[string]string{"LOG_LEVEL": "warn", "LOG_OUTPUT": "stderr", "LOG_TIME_FORMAT": time.RFC1123}, logging{Level: "warn", Output: "stderr", TimeFormat: time.RFC1123}},
		{map[string]string{"DEBUG": "YES"}, logging{Level: "info", Output: "stdout", Debug: true}},
		{map[string]string{"DEBUG": "express:*"}, logging{Level: "info", Output: "stdout"}},
	} {
		got := defaults().Logging
		used := got.fromEnvironment(func(name string) string { return c.environment[name] })
		if diff := cmp.Diff(c.want, got); diff != "" || len(used) != len(c.environment) {
			t.Errorf("%v: %q\n%s", c.environment, used, diff)
		}
	}
}
