// SPDX-License-Identifier: Apache-2.0

// Package contexts is where a service is and which certificate to show it: by
// what somebody says, by the environment, or by a name in a file of contexts.
package contexts

import (
	"cmp"
	"path/filepath"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Place is a service and the certificate to show it. In the file, relative
// names of files are relative to it; once it is read they are absolute.
type Place struct {
	Server     string `json:"server,omitempty"`
	CertDir    string `json:"cert_dir,omitempty"`
	Identity   string `json:"identity,omitempty"`
	Cert       string `json:"cert,omitempty"`
	Key        string `json:"key,omitempty"`
	CA         string `json:"ca,omitempty"`
	ServerName string `json:"server_name,omitempty"`
	Insecure   bool   `json:"insecure,omitempty"`
}

// under is p, but for what o says.
func (p Place) under(o *Place) Place {
	if o.CertDir != "" {
		p.Cert, p.Key, p.CA = "", "", ""
	}
	p.Server, p.CertDir, p.Identity = cmp.Or(o.Server, p.Server), cmp.Or(o.CertDir, p.CertDir), cmp.Or(o.Identity, p.Identity)
	p.Cert, p.Key, p.CA = cmp.Or(o.Cert, p.Cert), cmp.Or(o.Key, p.Key), cmp.Or(o.CA, p.CA)
	p.ServerName, p.Insecure = cmp.Or(o.ServerName, p.ServerName), p.Insecure || o.Insecure
	return p
}

// DefaultIdentity is the name of the certificate where none is said.
const DefaultIdentity = "admin"

// Files are the names of files in it.
func (p *Place) Files() []*string { return []*string{&p.CertDir, &p.Cert, &p.Key, &p.CA} }

// FullServer is the server with its port, if it has a server at all.
func (p *Place) FullServer() string {
	if full, _, err := Address(p.Server); err == nil {
		return full
	}
	return p.Server
}

// Shown is what it shows a service, in short.
func (p *Place) Shown() string {
	switch {
	case p.Insecure:
		return "none (insecure)"
	case p.Cert != "":
		return p.Cert
	case p.CertDir != "":
		return filepath.Join(p.CertDir, cmp.Or(p.Identity, DefaultIdentity)+".pem")
	}
	return "-"
}

// Security is what the place's side shows, and what it asks of the other.
func (p *Place) Security() (*auth.Security, error) {
	if p.Insecure {
		return &auth.Security{Mode: auth.ModeNone}, nil // which knows where that is allowed
	}
	if p.CertDir == "" && (p.Cert == "" || p.Key == "" || p.CA == "") {
		if p.Cert+p.Key+p.CA != "" {
			return nil, session.Invalid("no_certificates", "certificate, key and authority belong together, and not all of them are named", "name --cert, --key and --ca, or the directory of all three: --cert-dir DIR")
		}
		return nil, session.Invalid("no_certificates", "a service wants to see a certificate, and none is named",
			"name their directory: --cert-dir DIR, $"+CertDirVariable+" or a context (srprof certs makes some to try)")
	}
	identity := p.Identity
	if identity == "" {
		identity = DefaultIdentity
	}
	s := auth.Identity(p.CertDir, identity)
	s.ServerName = p.ServerName
	for _, f := range []struct {
		named string
		to    *string
	}{{p.Cert, &s.TLS.Cert}, {p.Key, &s.TLS.Key}, {p.CA, &s.TLS.CA}} {
		if f.named == "" {
			continue
		}
		file, err := filepath.Abs(f.named) // or it would be one in the directory
		if err != nil {
			return nil, err
		}
		*f.to = file
	}
	return s, nil
}
