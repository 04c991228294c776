// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc/credentials"
)

// HTTPS is what a server's credentials mean for HTTP: the same certificates, of
// both sides, read again when they change. It is nil for those of mode none.
func HTTPS(c credentials.TransportCredentials) *tls.Config {
	var now func() *tls.Config
	switch c := c.(type) {
	case *mutual:
		now = func() *tls.Config { return c.keys.config().Clone() }
	case *svids:
		now = func() *tls.Config { return c.config(tlsconfig.MTLSServerConfig(c.source, c.source, c.authorize)) }
	default:
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		config := now()
		config.NextProtos = []string{"http/1.1"} // all that Prometheus needs
		return config, nil
	}}
}

// Expires is when the certificate of a server's credentials does; zero if there
// is none.
func Expires(c credentials.TransportCredentials) time.Time {
	switch c := c.(type) {
	case *mutual:
		if own := c.keys.config().Certificates; len(own) > 0 && own[0].Leaf != nil {
			return own[0].Leaf.NotAfter
		}
	case *svids:
		if own, err := c.source.GetX509SVID(); err == nil && len(own.Certificates) > 0 {
			return own.Certificates[0].NotAfter
		}
	}
	return time.Time{}
}

// OnLoopback says whether an address, host:port, is on the loopback interface
// for certain.
func OnLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || host == "localhost"
}
