// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHostIP(t *testing.T) {
	for _, c := range []struct{ listen, said, want string }{
		{"192.0.2.7:50084", "", "192.0.2.7"},
		{"192.0.2.7:50084", "192.0.2.8", "192.0.2.8"},
		{":50084", "192.0.2.8", "192.0.2.8"},
		{"[::1]:50084", "", "::1"},
	} {
		if got := HostIP(c.listen, c.said); got != c.want {
			t.Errorf("%s, %q: %s, want %s", c.listen, c.said, got, c.want)
		}
	}
	for _, listen := range []string{":50084", "0.0.0.0:50084", "[::]:50084"} {
		if ip := net.ParseIP(HostIP(listen, "")); ip == nil || ip.IsUnspecified() {
			t.Errorf("%s: %v", listen, ip)
		}
	}
}

func TestLogger(t *testing.T) {
	for _, c := range []struct {
		name   string
		l      Logging
		stderr bool
		debug  bool
		layout string
	}{
		{"defaults", Logging{}, false, false, time.RFC3339},
		{"standard error", Logging{Output: "stderr", Level: "INFO"}, true, false, time.RFC3339},
		{"debug", Logging{Level: "info", Debug: true}, false, true, time.RFC3339},
		{"level debug", Logging{Level: "debug"}, false, true, time.RFC3339},
		{"another time", Logging{TimeFormat: time.RFC1123Z}, false, false, time.RFC1123Z},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.l.Validate(); err != nil {
				t.Fatal(err)
			}
			var out, stderr bytes.Buffer
			log, _ := c.l.Loggers(c.l.Stream(Streams{&out, &stderr}), "profiler")
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

// What the log leaves out for its level, the audit does not.
func TestAuditIsAlwaysWritten(t *testing.T) {
	for _, level := range []string{"info", "error", "disabled"} {
		var out bytes.Buffer
		l := Logging{Level: level}
		log, audit := l.Loggers(&out, "profiler")
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
		want        Logging
	}{
		{nil, Logging{Level: "info", Output: "stdout"}},
		{map[string]string{"LOG_LEVEL": "warn", "LOG_OUTPUT": "stderr", "LOG_TIME_FORMAT": time.RFC1123}, Logging{Level: "warn", Output: "stderr", TimeFormat: time.RFC1123}},
		{map[string]string{"DEBUG": "YES"}, Logging{Level: "info", Output: "stdout", Debug: true}},
		{map[string]string{"DEBUG": "express:*"}, Logging{Level: "info", Output: "stdout"}},
	} {
		got := Logging{Level: "info", Output: "stdout"}
		used := got.FromEnvironment(func(name string) string { return c.environment[name] })
		if diff := cmp.Diff(c.want, got); diff != "" || len(used) != len(c.environment) {
			t.Errorf("%v: %q\n%s", c.environment, used, diff)
		}
	}
}
