// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// Whatever an agent says: what comes of it is JSON with the host's names, and an
// array stays what it is.
func FuzzWithHost(f *testing.F) {
	for _, seed := range []string{``, `{}`, `null`, `[1]`, `"text"`, `{"status":"fine"}`, `{"status":{"ip":""},"host_ip":7}`, `{"a":`, "main;foo 10\n", `{"hostname":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		out := withHost(message, hostNames{"192.0.2.7", "web1"})
		if !json.Valid(out) {
			t.Fatalf("%q: %q", message, out)
		}
		if trimmed := bytes.TrimSpace(message); json.Valid(trimmed) && trimmed[0] == '[' {
			if !bytes.Equal(out, message) {
				t.Fatalf("%q: %q", message, out)
			}
			return
		}
		var o map[string]any // a struct's fields would take keys of other cases
		err := json.Unmarshal(out, &o)
		status, _ := o["status"].(map[string]any)
		if err != nil || o["host_ip"] == nil || o["hostname"] == nil || status["ip"] == nil || status["host_name"] == nil {
			t.Fatalf("%q: %q: %v", message, out, err)
		}
	})
}

// Which host a check is about.
func TestWhereabouts(t *testing.T) {
	for _, c := range []struct {
		address, source, details string
		want                     hostNames
	}{
		{"192.0.2.7:50051", "198.51.100.1", "", hostNames{"192.0.2.7", "192.0.2.7"}},
		{"192.0.2.7:50051", "198.51.100.1", "127.0.0.1:22", hostNames{"192.0.2.7", "192.0.2.7"}},
		{"192.0.2.7:50051", "198.51.100.1", "1.1.1.1", hostNames{"1.1.1.1", "1.1.1.1"}},
		{"192.0.2.7:50051", "198.51.100.1", " [2001:db8::0001]:161 ", hostNames{"2001:db8::1", "2001:db8::1"}},
		{"192.0.2.7:50051", "198.51.100.1", "nginx", hostNames{"192.0.2.7", "192.0.2.7"}},
		{"[2001:db8::7]:50051", "198.51.100.1", "", hostNames{"2001:db8::7", "2001:db8::7"}},
		{":50051", "198.51.100.1", "", hostNames{"198.51.100.1", "web1"}},
		{"127.0.0.1:50051", "198.51.100.1", "", hostNames{"198.51.100.1", "web1"}},
		{"localhost:50051", "198.51.100.1", "", hostNames{"198.51.100.1", "web1"}},
		{"127.0.0.1:50051", "a-poller", "", hostNames{"127.0.0.1", "web1"}},
	} {
		w := newWhereabouts(c.address, c.source)
		w.find(t.Context())
		if got := w.names("web1", &Check{Details: c.details}); got != c.want {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

// A few agents are asked at once, many within a part of the interval, and each
// always at its own moment of it.
func TestJitter(t *testing.T) {
	for agents, want := range map[int]time.Duration{1: 0, 2: 10 * time.Millisecond, 50: 490 * time.Millisecond, 10_000: 3 * time.Second} {
		if got := spread(30*time.Second, agents); got != want {
			t.Errorf("%d agents: %v", agents, got)
		}
	}
	var tenths [10]int
	for i := range 10_000 {
		name := fmt.Sprint("web", i)
		at := jitter(name, 3*time.Second)
		if at < 0 || at >= 3*time.Second || at != jitter(name, 3*time.Second) {
			t.Fatalf("%s: %v", name, at)
		}
		tenths[at/(300*time.Millisecond)]++
	}
	for i, n := range tenths {
		if n < 800 || n > 1200 {
			t.Errorf("%d of 10000 agents in tenth %d", n, i)
		}
	}
	if jitter("web1", 0) != 0 {
		t.Error("there is no time for jitter")
	}
}
