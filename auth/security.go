// SPDX-License-Identifier: Apache-2.0

// Package auth makes sure of who is at the other end of a connection: by
// certificates, both ways, with TLS 1.3 ([Security]). Certificates are read
// again when their files change. It also makes certificates to try things out
// with ([WriteTryoutCertificates]).
package auth

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"google.golang.org/grpc/credentials"
)

// The modes of a Security.
const (
	ModeMTLS   = "mtls"   // certificates both ways
	ModeSPIFFE = "spiffe" // the same, with certificates from a SPIFFE workload API
	ModeNone   = "none"   // nothing: on the loopback interface only
)

// Security is the object "security" in the configuration of ServiceRadar's
// services. Its zero value is mode mtls, which needs the files.
type Security struct {
	Mode       string `json:"mode"`        // any case; "" is mtls
	CertDir    string `json:"cert_dir"`    // where the files are that have no directory
	ServerName string `json:"server_name"` // that servers must have in their certificates, a SPIFFE ID in mode spiffe; "" is the name dialed, or anyone of the trust domain
	Role       string `json:"role"`        // taken so that files of ServiceRadar's services can be used; says nothing here
	TLS        Files  `json:"tls"`

	// For mode spiffe.
	TrustDomain    string `json:"trust_domain"`     // whose members are believed: "example.org"
	ServerSPIFFEID string `json:"server_spiffe_id"` // that servers must have; "" is what ServerName says
	WorkloadSocket string `json:"workload_socket"`  // "" is unix:/run/spire/sockets/agent.sock
}

// Files are PEM files. Relative ones are in CertDir.
type Files struct {
	Cert     string `json:"cert_file"`      // our certificate, then those between it and the root
	Key      string `json:"key_file"`       // its key
	CA       string `json:"ca_file"`        // who servers' certificates must be from
	ClientCA string `json:"client_ca_file"` // who clients' certificates must be from; "" is CA
}

// Identity is the Security of a certificate as [WriteTryoutCertificates] and
// ServiceRadar's packages lay it out: root.pem, NAME.pem and NAME-key.pem.
func Identity(dir, name string) *Security {
	return &Security{CertDir: dir, TLS: Files{Cert: name + ".pem", Key: name + "-key.pem", CA: "root.pem"}}
}

// Other is the Security of the way to another service: s where nothing is said
// of it, and with the certificates of s where what is said names only whom to
// expect there.
func (s *Security) Other(of *Security) *Security {
	if of == nil {
		return s
	}
	other := *of
	if other.Mode == "" && other.CertDir == "" && other.TLS == (Files{}) && other.TrustDomain == "" && other.WorkloadSocket == "" {
		other = *s
		other.ServerName, other.ServerSPIFFEID = of.ServerName, of.ServerSPIFFEID
	}
	return &other
}

// ServerCredentials are for a server that listens at an address. Who connects
// and is refused is told to the log, and so is each change of the certificates.
// Errors are *Error.
func (s *Security) ServerCredentials(listen string, log *slog.Logger) (credentials.TransportCredentials, error) {
	mode, err := s.mode()
	if err != nil {
		return nil, err
	}
	if mode == ModeNone {
		if err := checkLoopback("listen at", listen); err != nil {
			return nil, err
		}
		return newPlain(log), nil
	}
	if mode == ModeSPIFFE {
		return s.svids("", log)
	}
	k, err := newKeyring(s.files(), forServer, log)
	if err != nil {
		return nil, err
	}
	return &mutual{keys: k, log: newRefusals(log)}, nil
}

// ClientCredentials are for a client of the server at an address. Errors are
// *Error.
func (s *Security) ClientCredentials(dial string) (credentials.TransportCredentials, error) {
	mode, err := s.mode()
	if err != nil {
		return nil, err
	}
	if mode == ModeNone {
		if err := checkLoopback("dial", dial); err != nil {
			return nil, err
		}
		return newPlain(nil), nil
	}
	if mode == ModeSPIFFE {
		return s.svids(s.serverID(), nil)
	}
	k, err := newKeyring(s.files(), forClient, nil)
	if err != nil {
		return nil, err
	}
	return &mutual{keys: k, serverName: s.ServerName}, nil
}

// serverID is the one SPIFFE ID that a server must have; "" if any of the trust
// domain will do.
func (s *Security) serverID() string {
	if s.ServerSPIFFEID == "" && strings.HasPrefix(s.ServerName, "spiffe:") {
		return s.ServerName
	}
	return s.ServerSPIFFEID
}

// mode is the mode that can be used, or why there is none.
func (s *Security) mode() (string, error) {
	switch m := strings.ToLower(s.Mode); m {
	case "", ModeMTLS:
		return ModeMTLS, nil
	case ModeNone:
		return ModeNone, nil
	case ModeSPIFFE:
		return ModeSPIFFE, nil
	}
	return "", &Error{Code: "security_mode_unknown", Problem: fmt.Sprintf("there is no security mode %q", s.Mode),
		Remedy: "say mtls, spiffe, or none on the loopback interface"}
}

// files are the files with their directory.
func (s *Security) files() Files {
	f := s.TLS
	if f.ClientCA == "" {
		f.ClientCA = f.CA
	}
	for _, p := range []*string{&f.Cert, &f.Key, &f.CA, &f.ClientCA} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(s.CertDir, *p)
		}
	}
	return f
}
