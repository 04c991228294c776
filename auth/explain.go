// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// explainServer says why a client does not go on with a server.
func explainServer(peer, name, ca string, err error) error {
	e := &Error{Code: "handshake_failed", Problem: "no secure connection to " + peer, Cause: err}
	var wrongName x509.HostnameError
	if errors.As(err, &wrongName) {
		e.Code, e.Cause = "server_wrong_name", nil
		e.Problem = fmt.Sprintf("the certificate of %s is for %s, not for %s", peer, names(wrongName.Certificate), hostOf(name))
		e.Remedy = "connect by a name it is for, or say which one as server_name"
		return e
	}
	if explainCertificate(e, "server", "the certificate of "+peer, "ca_file, "+ca, err) {
		return e
	}
	var header tls.RecordHeaderError
	if errors.As(err, &header) {
		e.Code, e.Problem, e.Cause = "no_tls", peer+" does not speak TLS", nil
		e.Remedy = "check the address; a service in mode none is reached on the loopback interface only, in mode none"
		return e
	}
	if r := explainAlert(peer, "", err); r != nil {
		return r
	}
	return e
}

// explainClient says why a server does not go on with a client.
func explainClient(err error) error {
	e := &Error{Code: "handshake_failed", Problem: "no secure connection", Cause: err}
	if explainCertificate(e, "client", "the certificate of the client", "client_ca_file", err) {
		return e
	}
	var header tls.RecordHeaderError
	switch text := err.Error(); {
	case errors.As(err, &header):
		e.Code, e.Problem, e.Cause = "no_tls", "the client does not speak TLS", nil
	case strings.Contains(text, "didn't provide a certificate"):
		e.Code, e.Problem, e.Cause = "client_no_certificate", "the client has no certificate", nil
	case strings.Contains(text, "unsupported versions"), strings.Contains(text, "protocol version"):
		e.Code, e.Problem, e.Cause = "tls_too_old", "the client does not speak TLS 1.3", nil
	case strings.Contains(text, "remote error"):
		e.Code, e.Problem = "server_not_believed", "the client does not accept our certificate"
	case errors.Is(err, io.EOF):
		e.Code, e.Problem, e.Cause = "handshake_failed", "the client hung up before it said who it is", nil
	}
	return e
}

// explainCertificate fills in what is wrong with the other side's certificate.
func explainCertificate(e *Error, side, whose, authority string, err error) bool {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		e.Code, e.Cause = side+"_unknown_authority", nil
		e.Problem = fmt.Sprintf("%s was not made by an authority that is believed here (%s)", whose, authority)
		e.Remedy = "both sides must have the certificate of the other's authority"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil && time.Now().Before(invalid.Cert.NotBefore):
		e.Code, e.Cause = side+"_certificate_not_yet_valid", nil
		e.Problem = fmt.Sprintf("%s is not valid before %s", whose, date(invalid.Cert.NotBefore))
		e.Remedy = "check the clocks of both hosts"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		e.Code, e.Cause = side+"_certificate_expired", nil
		e.Problem = fmt.Sprintf("%s expired on %s", whose, date(invalid.Cert.NotAfter))
		e.Remedy = "make a new one, or check the clock of this host"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		e.Code, e.Cause = side+"_certificate_wrong_usage", nil
		e.Problem = fmt.Sprintf("%s was not made for a %s (extended key usage)", whose, side)
		e.Remedy = "make one that was"
	case errors.As(err, &invalid):
		e.Code = side + "_certificate_unusable"
		e.Problem = whose + " cannot be used"
	default:
		return false
	}
	return true
}

// alerts are the other side's reasons, in the words of crypto/tls (RFC 8446,
// section 6.2); their type is not exported.
var alerts = []struct{ text, code, problem, remedy string }{
	{"certificate required", "certificate_required", "%s wants a certificate, and was shown none", "name one as cert_file and key_file"},
	{"unknown certificate authority", "certificate_refused", "%s does not know the authority of our certificate%s", "use a certificate of an authority that is among its client_ca_file"},
	{"expired certificate", "certificate_refused", "%s says that our certificate%s has expired or is not valid yet", "make a new one, and check the clocks of both hosts"},
	{"bad certificate", "certificate_refused", "%s does not accept our certificate%s", "it must be made for clients (extended key usage clientAuth)"},
	{"unsupported certificate", "certificate_refused", "%s does not accept our certificate%s", "it must be made for clients (extended key usage clientAuth)"},
	{"protocol version not supported", "tls_too_old", "%s does not speak the same version of TLS", "both sides need TLS 1.3"},
}

// explainAlert says why the other side hung up; nil if it did not say.
func explainAlert(peer, cert string, err error) error {
	if cert != "" {
		cert = ", " + cert
	}
	for _, a := range alerts {
		if !strings.Contains(err.Error(), "remote error: tls: "+a.text) {
			continue
		}
		args := []any{peer, cert}
		return &Error{Code: a.code, Problem: fmt.Sprintf(a.problem, args[:strings.Count(a.problem, "%s")]...), Remedy: a.remedy, Cause: err}
	}
	return nil
}

// explainRefusal says why a server hung up on a client that had accepted it.
func explainRefusal(peer, cert string, err error) error {
	if r := explainAlert(peer, cert, err); r != nil {
		return r
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return &Error{Code: "closed_at_once", Problem: peer + " closed the connection at once", Cause: err, Remedy: "its log says why"}
	}
	return err
}

// names are those that a certificate is for.
func names(c *x509.Certificate) string {
	all := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no host"
	}
	return strings.Join(all, ", ")
}

// hostOf is an address without its port.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
