// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/session"
)

// settings are those of a poller, of which some keys are about checks.
type settings struct {
	ListenAddr  string         `json:"listen_addr"`
	ServiceName string         `json:"service_name"`
	ServiceType string         `json:"service_type"`
	Security    config.Ignored `json:"security"`
	Logging     config.Ignored `json:"logging"`
	Config
}

// A poller.json with each key that real pollers know loads as it is.
func TestRealConfiguration(t *testing.T) {
	var s settings
	err := config.Parse("poller.json", []byte(`{
		"agents": {
			"local-agent": {
				"address": ":50051",
				"security": {"server_name": "127.0.0.1", "mode": "mtls", "cert_dir": "/etc/serviceradar/certs", "tls": {"cert_file": "agent.pem"}},
				"checks": [
					{"service_type": "process", "service_name": "serviceradar-agent", "details": "serviceradar-agent"},
					{"service_type": "port", "service_name": "SSH", "details": "127.0.0.1:22", "port": 22},
					{"service_type": "icmp", "service_name": "ping", "details": "1.1.1.1"},
					{"service_type": "grpc", "service_name": "sysmon", "details": "127.0.0.1:50083"},
					{"service_type": "sweep", "service_name": "network_sweep", "details": "", "results_interval": "18h"},
					{"service_type": "grpc", "service_name": "sync", "details": "127.0.0.1:50058", "results_interval": 66600000000000},
					{"service_type": "profiler", "service_name": "ebpf-profiler"},
					{"service_type": "profiler", "service_name": "ebpf-results", "details": "{\"pid\": 4242}", "results_interval": "5m"}
				]
			}
		},
		"listen_addr": ":50053", "service_name": "PollerService", "service_type": "grpc", "core_address": "127.0.0.1:50052",
		"poll_interval": "30s", "poller_id": "default-poller", "partition": "default", "source_ip": "127.0.0.1",
		"security": {"mode": "mtls", "role": "poller"}, "logging": {"level": "info"}
	}`), &s)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := s.Validate(); err != nil {
		t.Fatal(key, err)
	}
	every := func(d time.Duration) *config.Duration { span := config.Duration(d); return &span }
	want := Config{CoreAddress: "127.0.0.1:50052", PollInterval: config.Duration(30 * time.Second), PollerID: "default-poller", Partition: "default", SourceIP: "127.0.0.1",
		Agents: map[string]Agent{"local-agent": {Address: ":50051", Security: config.Ignored{There: true}, Checks: []Check{
			{Type: "process", Name: "serviceradar-agent", Details: "serviceradar-agent"},
			{Type: "port", Name: "SSH", Details: "127.0.0.1:22", Port: 22},
			{Type: "icmp", Name: "ping", Details: "1.1.1.1"},
			{Type: "grpc", Name: "sysmon", Details: "127.0.0.1:50083"},
			{Type: "sweep", Name: "network_sweep", ResultsInterval: every(18 * time.Hour)},
			{Type: "grpc", Name: "sync", Details: "127.0.0.1:50058", ResultsInterval: every(18*time.Hour + 30*time.Minute)},
			{Type: "profiler", Name: "ebpf-profiler"},
			{Type: "profiler", Name: "ebpf-results", Details: `{"pid": 4242}`, ResultsInterval: every(5 * time.Minute)},
		}}}}
	if diff := cmp.Diff(want, s.Config); diff != "" {
		t.Error(diff)
	}
	if s.ListenAddr != ":50053" || s.ServiceName != "PollerService" {
		t.Error("keys beside those of checks are lost")
	}
}

func good() Config {
	return Config{CoreAddress: "192.0.2.1:50052", PollerID: "p", SourceIP: "192.0.2.9", Agents: map[string]Agent{
		"web1": {Address: "192.0.2.7:50051", Checks: []Check{{Type: "icmp", Name: "ping"}}},
	}}
}

func TestValidate(t *testing.T) {
	agent := func(c *Config, change func(*Agent)) {
		a := c.Agents["web1"]
		change(&a)
		c.Agents["web1"] = a
	}
	for _, c := range []struct {
		name, key, code string
		change          func(*Config)
	}{
		{"good", "", "", func(*Config) {}},
		{"no agents", "agents", "no_agents", func(c *Config) { c.Agents = nil }},
		{"no core", "core_address", "no_core_address", func(c *Config) { c.CoreAddress = "" }},
		{"no core, and no checks", "", "", func(c *Config) {
			c.CoreAddress, c.PollerID, c.SourceIP = "", "", ""
			agent(c, func(a *Agent) { a.Checks = nil })
		}},
		{"no poller ID", "poller_id", "no_poller_id", func(c *Config) { c.PollerID = "" }},
		{"no source IP", "source_ip", "no_source_ip", func(c *Config) { c.SourceIP = "" }},
		{"a core that is no address", "core_address", "bad_address", func(c *Config) { c.CoreAddress = "core" }},
		{"nanoseconds meant for seconds", "poll_interval", "bad_poll_interval", func(c *Config) { c.PollInterval = 30 }},
		{"an agent without address", "agents.web1.address", "no_agent_address", func(c *Config) { agent(c, func(a *Agent) { a.Address = "" }) }},
		{"an agent with a bad one", "agents.web1.address", "bad_address", func(c *Config) { agent(c, func(a *Agent) { a.Address = "web1" }) }},
		{"a bad address of sessions", "agents.web1.profiler_address", "bad_address", func(c *Config) { agent(c, func(a *Agent) { a.ProfilerAddress = "web1" }) }},
		{"an agent without name", "agents. ", "bad_agent_name", func(c *Config) { c.Agents[" "] = c.Agents["web1"] }},
		{"a pattern for a name", "", "", func(c *Config) { c.Agents["web[*"] = c.Agents["web1"] }},
		{"a check without name", "agents.web1.checks[0]", "bad_check", func(c *Config) { agent(c, func(a *Agent) { a.Checks = []Check{{Type: "icmp"}} }) }},
		{"details that nobody understands", "agents.web1.checks[0].details", "bad_details", func(c *Config) {
			agent(c, func(a *Agent) { a.Checks = []Check{{Type: "profiler", Name: "p", Details: "what?"}} })
		}},
	} {
		config := good()
		c.change(&config)
		key, err := config.Validate()
		var e *session.Error
		if key != c.key || (c.code == "") != (err == nil) || err != nil && (!errors.As(err, &e) || e.Code != c.code || !errors.Is(err, session.ErrInvalid)) {
			t.Errorf("%s: %s: %v", c.name, key, err)
		}
	}
}

func TestDetails(t *testing.T) {
	base := details{Duration: seconds(session.DefaultDuration), Frequency: session.DefaultFrequency}
	with := func(change func(*details)) details {
		d := base
		change(&d)
		return d
	}
	for text, want := range map[string]details{
		"":                  base,
		" 127.0.0.1:50084 ": base,
		"{}":                base,
		`{"pid": 7}`:        with(func(d *details) { d.PID = 7 }),
		`{"unit": "nginx", "duration": "1m", "frequency": 499, "children": true}`: with(func(d *details) {
			d.Unit, d.Duration, d.Frequency, d.Children = "nginx", seconds(time.Minute), 499, true
		}),
		`{"hottest": true, "duration": 2.5}`: with(func(d *details) { d.Hottest, d.Duration = true, seconds(2500*time.Millisecond) }),
		`{"session_id": "s"}`:                with(func(d *details) { d.SessionID = "s" }),
	} {
		got, err := parseDetails(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable()); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for text, why := range map[string]string{
		"what?":                            "details are",
		`{"pid": 7} {}`:                    "go on after",
		`{"pids": [7]}`:                    "unknown field",
		`{"pid": -7}`:                      "not a process ID",
		`{"name": "a", "unit": "b"}`:       "2 ways to choose",
		`{"name": "a", "duration": "1y"}`:  "unknown unit",
		`{"name": "a", "duration": -1}`:    "out of range",
		`{"name": "a", "frequency": 0}`:    "frequency",
		`{"name": "a", "session_id": "s"}`: "a session, and a process",
		`{"name": `:                        "cannot be read",
	} {
		if _, err := parseDetails(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", text, err)
		}
	}
	d, err := parseDetails(`{"pid": 7, "duration": "1s"}`)
	if err != nil {
		t.Fatal(err)
	}
	spec := d.spec("web[1]")
	if !spec.Hosts.Mean("web[1]", nil) || spec.Hosts.Mean("web1", nil) || spec.Validate() != nil || spec.Requester != "poller schedule" {
		t.Errorf("%+v", spec)
	}
}
