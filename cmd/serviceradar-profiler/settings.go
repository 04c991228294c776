// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/carverauto/serviceradar-profiler/access"
	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// settings are the configuration file. Each key is in docs/configuration.md.
type settings struct {
	ListenAddr string          `json:"listen_addr"` // host:port; no host means all interfaces
	HostIP     string          `json:"host_ip"`     // that ServiceRadar knows this host by; "" is found out
	Security   auth.Security   `json:"security"`
	Access     access.Policy   `json:"access"`
	Profiler   profiler.Limits `json:"profiler"`
	Logging    logging         `json:"logging"`

	Variables []string `json:"-"` // of the environment that were taken
}

func defaults() settings {
	return settings{ListenAddr: ":50084", Access: access.DefaultPolicy(), Profiler: profiler.DefaultLimits(), Logging: logging{Level: "info", Output: "stdout"}}
}

// example has, besides the defaults, what has none: the certificates, where
// ServiceRadar's packages put them.
func example() settings {
	s := defaults()
	s.Security = *auth.Identity("/etc/serviceradar/certs", "profiler")
	s.Security.Mode = auth.ModeMTLS
	s.Access.Roles["admin.serviceradar"] = []string{"admin"} // as srprof certs calls it
	return s
}

// load reads the configuration and makes sure of it, the certificates aside.
// Variables of the environment come over the file; no path means no file.
func load(path string) (*settings, error) {
	s := defaults()
	s.Variables = s.Logging.fromEnvironment(os.Getenv)
	if path != "" {
		if err := config.Read(path, &s); err != nil {
			return nil, err
		}
	}
	found, err := config.Overlay(variablePrefix, os.Environ(), &s)
	if err != nil {
		return nil, err
	}
	s.Variables = append(s.Variables, found...)
	for _, check := range []struct {
		key string
		err error
	}{
		{"listen_addr", checkAddress(s.ListenAddr)},
		{"host_ip", checkIP(s.HostIP)},
		{"access", s.Access.Validate()},
		{"profiler", s.Profiler.Validate()},
		{"logging", s.Logging.validate()},
	} {
		if check.err != nil {
			return nil, inFile(s.place(path, check.key), check.key, check.err)
		}
	}
	return &s, nil
}

// inFile says where what is wrong was said.
func inFile(path, key string, err error) error {
	return fmt.Errorf("%s: %s: %w", path, key, err)
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", cmp.Or(port, "none"))
	}
	if err != nil {
		return &session.Error{Code: "bad_listen_addr", Kind: session.ErrInvalid, Problem: fmt.Sprintf("%q is no address to listen at", address), Cause: err,
			Remedy: `write ":50084", or "192.0.2.7:50084" for one interface only`}
	}
	return nil
}

func checkIP(ip string) error {
	if ip != "" && net.ParseIP(ip) == nil {
		return session.Invalid("bad_host_ip", fmt.Sprintf("%q is no IP address", ip), "leave it out to have it found out")
	}
	return nil
}

// hostIP is the address that others know this host by: the one that was
// configured, or that is listened at, or that packets to others would have.
func (s *settings) hostIP() string {
	host, _, err := net.SplitHostPort(s.ListenAddr)
	if ip := net.ParseIP(host); err == nil && ip != nil && !ip.IsUnspecified() {
		return cmp.Or(s.HostIP, host)
	}
	if s.HostIP != "" {
		return s.HostIP
	}
	for _, other := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} { // for documentation (RFC 5737, RFC 3849): nothing is sent
		if c, err := net.Dial("udp", other); err == nil {
			defer c.Close()
			return c.LocalAddr().(*net.UDPAddr).IP.String()
		}
	}
	return "127.0.0.1"
}

// errCannotServe marks failures that are not of the configuration.
var errCannotServe = errors.New("cannot serve")
