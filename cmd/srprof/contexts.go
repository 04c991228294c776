// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/session"
)

// contextFile is what srprof keeps between two calls: where services are and
// what to show them, under names, as kubectl does.
type contextFile struct {
	Current  string           `json:"current_context"`
	Contexts map[string]place `json:"contexts"`

	path string
}

// place is a service and the certificate to show it. In the file, relative
// names of files are relative to it; once it is read they are absolute.
type place struct {
	Server     string `json:"server,omitempty"`
	CertDir    string `json:"cert_dir,omitempty"`
	Identity   string `json:"identity,omitempty"`
	Cert       string `json:"cert,omitempty"`
	Key        string `json:"key,omitempty"`
	CA         string `json:"ca,omitempty"`
	ServerName string `json:"server_name,omitempty"`
	Insecure   bool   `json:"insecure,omitempty"`
}

// What the environment says of contexts.
const (
	configVariable  = "SRPROF_CONFIG"
	contextVariable = "SRPROF_CONTEXT"
)

// configPath is where contexts are kept (XDG Base Directory Specification), and
// whether somebody named that file.
func configPath() (path string, named bool, err error) {
	if path := os.Getenv(configVariable); path != "" {
		return path, true, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", false, session.Invalid("no_config_dir", "it is not known where contexts are kept: "+err.Error(), "name the file: $"+configVariable)
	}
	return filepath.Join(dir, "srprof", "config.json"), false, nil
}

// readContexts reads the file. There need not be one, unless it was named and
// is not about to be written.
func readContexts(toWrite bool) (*contextFile, error) {
	path, named, err := configPath()
	if err != nil {
		return nil, err
	}
	f := &contextFile{path: path}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && (toWrite || !named) {
		return f, nil
	}
	if err := checkWriters(path); err != nil {
		return nil, err
	}
	if err := config.Read(path, f); err != nil {
		return nil, configError(err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	for name, p := range f.Contexts {
		for _, file := range p.files() {
			if *file != "" && !filepath.IsAbs(*file) {
				*file = filepath.Join(dir, *file)
			}
		}
		f.Contexts[name] = p
	}
	return f, nil
}

// files are the names of files in it.
func (p *place) files() []*string { return []*string{&p.CertDir, &p.Cert, &p.Key, &p.CA} }

// checkWriters refuses a file that strangers can change: it says whom to trust.
func checkWriters(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return nil // who reads it says so
	}
	stat, _ := info.Sys().(*syscall.Stat_t)
	if info.Mode().Perm()&0o002 == 0 && (stat == nil || stat.Uid == 0 || int(stat.Uid) == os.Geteuid()) {
		return nil
	}
	return session.NotPermitted("config_not_private", path+" can be changed by others, who could name a server of theirs", "chown it to yourself, and chmod go-w it", nil)
}

// configError makes an error of package config one of ours.
func configError(err error) error {
	var c *config.Error
	if !errors.As(err, &c) {
		return err
	}
	e := &session.Error{Code: c.Code, Kind: session.ErrInvalid, Problem: strings.ReplaceAll(err.Error(), "\n", "; ")}
	if errors.Is(err, fs.ErrPermission) {
		e.Kind = fs.ErrPermission
	}
	return e
}

// find returns the context of that name, or the current one; nil if none is.
func (f *contextFile) find(name string) (*place, error) {
	if name == "" {
		name = f.Current
	}
	if name == "" {
		return nil, nil
	}
	p, ok := f.Contexts[name]
	if !ok {
		return nil, session.Invalid("no_such_context", fmt.Sprintf("there is no context %q in %s", name, f.path), f.known())
	}
	return &p, nil
}

func (f *contextFile) names() []string { return slices.Sorted(maps.Keys(f.Contexts)) }

func (f *contextFile) known() string {
	if len(f.Contexts) == 0 {
		return "make one: srprof context set NAME --server HOST --cert-dir DIR"
	}
	return "there are " + strings.Join(f.names(), ", ")
}

// write writes the file, whole or not at all, for its owner alone.
func (f *contextFile) write() error {
	fail := func(err error) error {
		e := &session.Error{Code: "config_not_writable", Kind: fs.ErrInvalid, Problem: "cannot write " + f.path, Cause: cause(err), Remedy: "name another file: $" + configVariable}
		if errors.Is(err, fs.ErrPermission) {
			e.Kind = fs.ErrPermission
		}
		return e
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fail(err)
	}
	path := f.path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	file, err := os.CreateTemp(dir, ".config.*.tmp") // with mode 0600
	if err != nil {
		return fail(err)
	}
	defer os.Remove(file.Name())
	_, err = file.Write(append(b, '\n'))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fail(err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fail(err)
	}
	return nil
}

// security is what the place's side shows, and what it asks of the other.
func (p *place) security() (*auth.Security, error) {
	if p.Insecure {
		return &auth.Security{Mode: auth.ModeNone}, nil // which knows where that is allowed
	}
	if p.CertDir == "" && (p.Cert == "" || p.Key == "" || p.CA == "") {
		return nil, session.Invalid("no_certificates", "a profiler wants to see a certificate, and none is named",
			"name their directory: --cert-dir DIR, $"+certDirVariable+" or a context (srprof certs makes some to try)")
	}
	identity := p.Identity
	if identity == "" {
		identity = defaultIdentity
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
