// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Config are the keys of ServiceRadar's poller.json that are about checks,
// with its names and meanings, and labels.
type Config struct {
	Agents       map[string]Agent `json:"agents"` // by the name that core knows them by
	CoreAddress  string           `json:"core_address"`
	PollInterval config.Duration  `json:"poll_interval"` // 0: DefaultInterval
	PollerID     string           `json:"poller_id"`
	Partition    string           `json:"partition"` // empty: DefaultPartition
	SourceIP     string           `json:"source_ip"` // "auto": the address that core sees
}

// Agent is a host with an agent, and what to ask it.
type Agent struct {
	Address string `json:"address"` // host:port; without a host, this one
	// Security is taken and without effect, as it was with real pollers up to
	// August 2025: one identity is for all.
	Security config.Ignored `json:"security,omitzero"`
	Checks   []Check        `json:"checks"`

	// Ours alone: labels for selectors, where the host's sessions are asked for,
	// if not at Address, and the name that its certificate must have, if not that
	// of the poller's security.
	Labels          map[string]string `json:"labels,omitempty"`
	ProfilerAddress string            `json:"profiler_address,omitempty"`
	ServerName      string            `json:"server_name,omitempty"`
}

// Check is one thing to ask an agent in each poll.
type Check struct {
	Type    string `json:"service_type"`
	Name    string `json:"service_name"`
	Details string `json:"details,omitempty"` // what they mean, whoever does the check knows
	Port    int32  `json:"port,omitempty"`    // sent with checks of type port
	// ResultsInterval makes it a check for results, no more often than that; nil:
	// it asks for the status, in each poll.
	ResultsInterval *config.Duration `json:"results_interval,omitempty"`
}

// What is so where nothing is said, as with real pollers.
const (
	DefaultInterval  = 30 * time.Second
	DefaultPartition = "default"
)

// minInterval is of polls: for tests, and for who wants it so.
const minInterval = 100 * time.Millisecond

func (c *Config) interval() time.Duration {
	if c.PollInterval == 0 {
		return DefaultInterval
	}
	return time.Duration(c.PollInterval)
}

func (c *Config) partition() string {
	if c.Partition == "" {
		return DefaultPartition
	}
	return c.Partition
}

// Reports says whether there is anything to tell core.
func (c *Config) Reports() bool { return c.CoreAddress != "" }

func (c *Config) anyCheck() bool {
	for _, a := range c.Agents {
		if len(a.Checks) > 0 {
			return true
		}
	}
	return false
}

// Validate finds what is wrong, as a real poller would and some more, and under
// which key. A poller without core may do all but check.
func (c *Config) Validate() (key string, err error) {
	core := `leave out the checks, or say where core is: "core_address": "192.0.2.1:50052"`
	switch {
	case len(c.Agents) == 0:
		return "agents", session.Invalid("no_agents", "there are no agents", `name at least one: "agents": {"web1": {"address": "192.0.2.7:50051"}}`)
	case c.CoreAddress == "" && c.anyCheck():
		return "core_address", session.Invalid("no_core_address", "there are checks, and no core_address to report them to", core)
	case c.CoreAddress != "" && c.PollerID == "":
		return "poller_id", session.Invalid("no_poller_id", "poller_id is missing", "core takes reports from those that its known_pollers names: write that name")
	case c.CoreAddress != "" && c.SourceIP == "":
		return "source_ip", session.Invalid("no_source_ip", "source_ip is missing", `write the address by which core is to know this host, or "auto"`)
	case c.CoreAddress != "" && !isHostPort(c.CoreAddress):
		return "core_address", badAddress(c.CoreAddress)
	case c.PollInterval != 0 && time.Duration(c.PollInterval) < minInterval:
		return "poll_interval", session.Invalid("bad_poll_interval", fmt.Sprintf("a poll every %v is too often", c.PollInterval), `write at least "1s"; a bare number is in nanoseconds`)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Agents)) {
		a := c.Agents[name]
		if key, err := a.validate(); err != nil {
			return "agents." + name + key, err
		}
		if err := (&session.Hosts{Names: []string{literally(name)}}).Validate(); err != nil || strings.TrimSpace(name) == "" {
			return "agents." + name, session.Invalid("bad_agent_name", fmt.Sprintf("%q is no name of an agent", name), "use printable characters, at most 253 bytes")
		}
	}
	return "", nil
}

func (a *Agent) validate() (key string, err error) {
	if a.Address == "" {
		return ".address", session.Invalid("no_agent_address", "the agent has no address", `write host:port: "192.0.2.7:50051"`)
	}
	if !isHostPort(a.Address) {
		return ".address", badAddress(a.Address)
	}
	if a.ProfilerAddress != "" && !isHostPort(a.ProfilerAddress) {
		return ".profiler_address", badAddress(a.ProfilerAddress)
	}
	for i := range a.Checks {
		c := &a.Checks[i]
		key := fmt.Sprintf(".checks[%d]", i)
		if c.Type == "" || c.Name == "" {
			return key, session.Invalid("bad_check", "a check has no service_type or no service_name", "write both")
		}
		if c.Type == TypeProfiler {
			if _, err := parseDetails(c.Details); err != nil {
				return key + ".details", err
			}
		}
	}
	return "", nil
}

func isHostPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return err == nil && port != ""
}

func badAddress(address string) error {
	return session.Invalid("bad_address", fmt.Sprintf("%q is no address to connect to", address), `write host:port: "192.0.2.7:50051"`)
}

// literally is a pattern of session.Hosts that means one name.
func literally(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}
