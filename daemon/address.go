// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/carverauto/serviceradar-profiler/session"
)

// CheckListen refuses what is no address to listen at.
func CheckListen(address string) error {
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

// listen listens at an address of the configuration.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, cannotListen(address, err)
	}
	return l, nil
}

func cannotListen(address string, err error) error {
	e := &session.Error{Code: "cannot_listen", Kind: ErrCannotServe, Problem: "cannot listen at " + address, Cause: err,
		Remedy: "choose another listen_addr, or end what listens there"}
	var op *net.OpError
	if errors.As(err, &op) {
		e.Cause = op.Err // the address is in the sentence already
	}
	if errors.Is(err, fs.ErrPermission) {
		e.Kind, e.Remedy = fs.ErrPermission, "ports below 1024 need CAP_NET_BIND_SERVICE; choose another listen_addr"
	}
	return e
}

// CheckIP refuses what is no IP address; to say none is allowed.
func CheckIP(ip string) error {
	if ip != "" && net.ParseIP(ip) == nil {
		return session.Invalid("bad_host_ip", fmt.Sprintf("%q is no IP address", ip), "leave it out to have it found out")
	}
	return nil
}

// HostIP is the address that others know this host by: the one that was
// configured, or that is listened at, or that packets to others would have.
func HostIP(listen, said string) string {
	if said != "" {
		return said
	}
	host, _, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err == nil && ip != nil && !ip.IsUnspecified() {
		return host
	}
	for _, other := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} { // for documentation (RFC 5737, RFC 3849): nothing is sent
		if c, err := net.Dial("udp", other); err == nil {
			defer c.Close()
			return c.LocalAddr().(*net.UDPAddr).IP.String()
		}
	}
	return "127.0.0.1"
}
