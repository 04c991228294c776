// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/checks"
	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/metrics"
	"github.com/carverauto/serviceradar-profiler/poller"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/tracing"
)

// settings are the configuration file. Each key is in docs/poller.md. A
// poller.json of ServiceRadar is one, too.
type settings struct {
	ListenAddr   string           `json:"listen_addr"`
	DataDir      string           `json:"data_dir"`
	ServiceName  string           `json:"service_name"` // under which its health is asked for
	Security     auth.Security    `json:"security"`
	CoreSecurity *auth.Security   `json:"core_security,omitempty"` // nil: security
	Access       access.Policy    `json:"access"`
	Limits       poller.Limits    `json:"limits"`
	Reports      reports          `json:"reports"`
	Logging      daemon.Logging   `json:"logging"`
	Metrics      metrics.Settings `json:"metrics"`
	Tracing      tracing.Settings `json:"tracing"`

	checks.Config
	ignored

	source daemon.Source
}

// reports bound what waits for a core that is away.
type reports struct {
	MaxBytes int64 `json:"max_bytes"`
	MaxItems int   `json:"max_items"`
}

// ignored are keys of ServiceRadar's pollers that mean nothing here.
type ignored struct {
	ServiceType config.Ignored `json:"service_type,omitzero"`
	KVAddress   config.Ignored `json:"kv_address,omitzero"`
	KVDomain    config.Ignored `json:"kv_domain,omitzero"`
	KVSecurity  config.Ignored `json:"kv_security,omitzero"`
}

// variablePrefix begins the names of variables of the environment that stand
// for keys of the configuration: SRPROF_POLLER_LOGGING_LEVEL.
const variablePrefix = "SRPROF_POLLER_"

func defaults() settings {
	return settings{
		ListenAddr: ":50086", DataDir: "/var/lib/serviceradar/profiler-poller", ServiceName: "PollerService",
		Access: access.DefaultPolicy(), Limits: poller.DefaultLimits(), Reports: reports{MaxBytes: 256 << 20, MaxItems: 10_000},
		Logging: daemon.Logging{Level: "info", Output: "stdout"}, Tracing: tracing.Default(),
	}
}

// example has, besides the defaults, what has none: the certificates, where
// ServiceRadar's packages put them, and hosts.
func example() settings {
	s := defaults()
	s.Security = *auth.Identity("/etc/serviceradar/certs", "poller")
	s.Security.Mode = auth.ModeMTLS
	s.Access.Roles["admin.serviceradar"] = []string{"admin"} // as srprof certs calls it
	s.Agents = map[string]checks.Agent{"local-agent": {Address: "127.0.0.1:50085", Checks: []checks.Check{}}}
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
	key, wrong := s.Config.Validate()
	return &s, s.source.First(
		daemon.Checked{Key: "listen_addr", Err: daemon.CheckListen(s.ListenAddr)},
		daemon.Checked{Key: "data_dir", Err: s.checkDir()},
		daemon.Checked{Key: key, Err: wrong},
		daemon.Checked{Key: "access", Err: s.Access.ValidateFleet()},
		daemon.Checked{Key: "limits", Err: s.Limits.Validate()},
		daemon.Checked{Key: "reports", Err: s.Reports.validate()},
		daemon.Checked{Key: "logging", Err: logging.Validate()},
		daemon.Checked{Key: "metrics", Err: s.Metrics.Validate(&s.Security)},
		daemon.Checked{Key: "tracing", Err: s.Tracing.Validate()},
	)
}

func (s *settings) checkDir() error {
	if !filepath.IsAbs(s.DataDir) {
		return session.Invalid("bad_data_dir", fmt.Sprintf("data_dir is %q, which is another directory wherever the program is started", s.DataDir), "write a path from the root: /var/lib/serviceradar/profiler-poller")
	}
	return nil
}

func (r *reports) validate() error {
	if r.MaxBytes < 1<<20 || r.MaxBytes > 1<<40 {
		return session.Invalid("bad_limit", fmt.Sprintf("max_bytes is %d", r.MaxBytes), "choose from 1 MiB to 1 TiB")
	}
	if r.MaxItems < 1 || r.MaxItems > 1_000_000 {
		return session.Invalid("bad_limit", fmt.Sprintf("max_items is %d", r.MaxItems), "choose from 1 to 1000000")
	}
	return nil
}

// plain says whether nobody shows a certificate.
func (s *settings) plain() bool { return strings.EqualFold(s.Security.Mode, auth.ModeNone) }

// ownPort is where people expect a poller.
const ownPort = "50086"

// notes are what is good, and yet may be otherwise than it seems.
func (s *settings) notes() []string {
	var notes []string
	if names := config.IgnoredIn(&s.ignored); len(names) > 0 {
		notes = append(notes, "without effect here: "+strings.Join(names, ", "))
	}
	for _, a := range s.Agents {
		if a.Security.There {
			notes = append(notes, "without effect here: security of single agents; security is for all of them, and server_name can be an agent's own")
			break
		}
	}
	if s.Logging.OTel.Enabled {
		notes = append(notes, "without effect here: logging.otel; collect what is written to output")
	}
	if _, port, err := net.SplitHostPort(s.ListenAddr); err == nil && port != ownPort && port != "0" {
		notes = append(notes, fmt.Sprintf("it listens on port %s and not on %s, where people expect a poller: srprof --server HOST:%s", port, ownPort, port))
	}
	if !s.Config.Reports() {
		notes = append(notes, "there is no core_address: nothing is checked, and nothing reported to ServiceRadar")
	}
	if s.Access.Empty() {
		notes = append(notes, daemon.NobodyMay)
	}
	return notes
}
