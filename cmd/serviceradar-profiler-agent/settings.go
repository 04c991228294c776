// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"strings"
	"unicode"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/agent"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/metrics"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/tracing"
)

// settings are the configuration file. Each key is in docs/agent.md. An
// agent.json of ServiceRadar is one, too.
type settings struct {
	ListenAddr string           `json:"listen_addr"`
	AgentID    string           `json:"agent_id"`
	HostIP     string           `json:"host_ip"`
	Security   auth.Security    `json:"security"`
	Access     access.Policy    `json:"access"`
	Limits     agent.Limits     `json:"limits"`
	Logging    daemon.Logging   `json:"logging"`
	Metrics    metrics.Settings `json:"metrics"`
	Tracing    tracing.Settings `json:"tracing"`

	ProfilerAddress   string         `json:"profiler_address"`
	ProfilerSecurity  *auth.Security `json:"profiler_security,omitempty"` // nil: security
	NextAgentAddress  string         `json:"next_agent_address"`
	NextAgentSecurity *auth.Security `json:"next_agent_security,omitempty"` // nil: security

	ignored

	source daemon.Source
}

// ignored are keys of ServiceRadar's agents, up to those of May 2026, that mean
// nothing here.
type ignored struct {
	AgentName         config.Ignored `json:"agent_name,omitzero"`
	ComponentType     config.Ignored `json:"component_type,omitzero"`
	Partition         config.Ignored `json:"partition,omitzero"`
	ServiceType       config.Ignored `json:"service_type,omitzero"`
	ServiceName       config.Ignored `json:"service_name,omitzero"`
	CheckersDir       config.Ignored `json:"checkers_dir,omitzero"`
	KVAddress         config.Ignored `json:"kv_address,omitzero"`
	KVSecurity        config.Ignored `json:"kv_security,omitzero"`
	DeviceCache       config.Ignored `json:"device_cache_config,omitzero"`
	GatewayAddr       config.Ignored `json:"gateway_addr,omitzero"`
	GatewaySecurity   config.Ignored `json:"gateway_security,omitzero"`
	PushInterval      config.Ignored `json:"push_interval,omitzero"`
	StatusDebounce    config.Ignored `json:"status_debounce_interval,omitzero"`
	StatusHeartbeat   config.Ignored `json:"status_heartbeat_interval,omitzero"`
	SyncRuntime       config.Ignored `json:"sync_runtime_enabled,omitzero"`
	LocalOTLPEndpoint config.Ignored `json:"local_otlp_endpoint,omitzero"`
	AddonCgroupRoot   config.Ignored `json:"addon_cgroup_root,omitzero"`
	PluginCAFiles     config.Ignored `json:"plugin_http_trusted_ca_files,omitzero"`
	Bumblebee         config.Ignored `json:"bumblebee,omitzero"`
	EndpointInventory config.Ignored `json:"endpoint_inventory,omitzero"`
	PublicEndpoints   config.Ignored `json:"k8s_public_endpoints,omitzero"`
	KnownHostsFile    config.Ignored `json:"remote_access_known_hosts_file,omitzero"`
	RDPEnabled        config.Ignored `json:"remote_access_rdp_enabled,omitzero"`
	RDPAdapterPath    config.Ignored `json:"remote_access_rdp_adapter_path,omitzero"`
	EdgeRecordSender  config.Ignored `json:"edge_record_sender,omitzero"`
}

// variablePrefix begins the names of variables of the environment that stand
// for keys of the configuration: SRPROF_AGENT_LOGGING_LEVEL.
const variablePrefix = "SRPROF_AGENT_"

func defaults() settings {
	return settings{
		ListenAddr: ":50085", ProfilerAddress: "127.0.0.1:50084", Access: access.DefaultPolicy(), Limits: agent.DefaultLimits(),
		Logging: daemon.Logging{Level: "info", Output: "stdout"}, Tracing: tracing.Default(),
	}
}

// example has, besides the defaults, what has none: the certificates, where
// ServiceRadar's packages put them.
func example() settings {
	s := defaults()
	s.AgentID = "default-agent"
	s.Security = *auth.Identity("/etc/serviceradar/certs", "agent")
	s.Security.Mode = auth.ModeMTLS
	s.Access.Roles["admin.serviceradar"] = []string{"admin"} // as srprof certs calls them
	s.Access.Roles["poller.serviceradar"] = []string{"poller"}
	s.Access.Permissions["poller"] = []access.Permission{"profiling:*"}
	return s
}

func (s *settings) reach() *daemon.Reach {
	return &daemon.Reach{Name: name, ListenAddr: s.ListenAddr, Security: &s.Security, Metrics: &s.Metrics, Tracing: &s.Tracing}
}

// load reads the configuration and makes sure of it, the certificates aside.
func load(path string) (_ *settings, err error) {
	s := defaults()
	if s.source, err = daemon.ReadSettings(path, variablePrefix, &s.Logging, &s); err != nil {
		return nil, err
	}
	logging := s.Logging
	logging.OTel.Enabled = false // notes tell of it
	return &s, s.source.First(
		daemon.Checked{Key: "listen_addr", Err: daemon.CheckListen(s.ListenAddr)},
		daemon.Checked{Key: "profiler_address", Err: checkDial(s.ProfilerAddress)},
		daemon.Checked{Key: "next_agent_address", Err: s.checkNext()},
		daemon.Checked{Key: "host_ip", Err: s.checkIP()},
		daemon.Checked{Key: "access", Err: s.Access.Validate()},
		daemon.Checked{Key: "limits", Err: s.Limits.Validate()},
		daemon.Checked{Key: "logging", Err: logging.Validate()},
		daemon.Checked{Key: "metrics", Err: s.Metrics.Validate(&s.Security)},
		daemon.Checked{Key: "tracing", Err: s.Tracing.Validate()},
	)
}

func checkDial(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || host == "" || port == "" {
		return &session.Error{Code: "bad_address", Kind: session.ErrInvalid, Problem: fmt.Sprintf("%q is no address to connect to", address), Cause: err,
			Remedy: `write host:port: "127.0.0.1:50084"`}
	}
	return nil
}

// checkNext also refuses to lend our certificate to whoever has none.
func (s *settings) checkNext() error {
	if s.NextAgentAddress == "" {
		return nil
	}
	if err := checkDial(s.NextAgentAddress); err != nil {
		return err
	}
	if strings.EqualFold(s.Security.Mode, auth.ModeNone) && !strings.EqualFold(s.nextSecurity().Mode, auth.ModeNone) {
		return session.Invalid("open_to_next_agent", "security mode none would let each user of this host call the next agent with this agent's certificate",
			"use mode mtls, or leave next_agent_address out")
	}
	return nil
}

// checkIP lets pass what ServiceRadar's own files have there: a name, in those
// for containers, and in its packages a word where nothing is known.
func (s *settings) checkIP() error {
	if s.namedIP() {
		return nil
	}
	return daemon.CheckIP(s.HostIP)
}

// namedIP says whether host_ip is no address, and no mistake in writing one.
func (s *settings) namedIP() bool {
	return net.ParseIP(s.HostIP) == nil && !strings.Contains(s.HostIP, ":") && strings.ContainsFunc(s.HostIP, unicode.IsLetter)
}

func (s *settings) hostIP() string {
	if s.namedIP() {
		return daemon.HostIP(s.ListenAddr, "")
	}
	return daemon.HostIP(s.ListenAddr, s.HostIP)
}

func (s *settings) profilerSecurity() *auth.Security { return s.Security.Other(s.ProfilerSecurity) }
func (s *settings) nextSecurity() *auth.Security     { return s.Security.Other(s.NextAgentSecurity) }

// notes are what is good, and yet may be otherwise than it seems.
func (s *settings) notes() []string {
	var notes []string
	if names := config.IgnoredIn(&s.ignored); len(names) > 0 {
		notes = append(notes, "without effect here: "+strings.Join(names, ", "))
	}
	if s.Logging.OTel.Enabled {
		notes = append(notes, "without effect here: logging.otel; collect what is written to output")
	}
	if s.namedIP() {
		notes = append(notes, fmt.Sprintf("host_ip is %s, which is no address, so it is found out: %s", s.HostIP, s.hostIP()))
	}
	if s.Access.Empty() {
		notes = append(notes, daemon.NobodyMay)
	}
	return notes
}
