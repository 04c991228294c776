// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/logger"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/credentials"
)

// defaultWorkloadSocket is where ServiceRadar's services look for the workload
// API.
const defaultWorkloadSocket = "unix:/run/spire/sockets/agent.sock"

// workloadWithin is for how long the first answer of the workload API is waited
// for.
const workloadWithin = 10 * time.Second

// svids are mode spiffe: certificates, and the authorities to believe, from
// the SPIFFE workload API, which sends new ones before the old ones expire. It
// is asked for as long as the program runs: credentials are not closed.
type svids struct {
	source    *workloadapi.X509Source
	authorize tlsconfig.Authorizer
	log       *refusals
}

// svids begins to ask the workload API. The other side must be of the trust
// domain; or, where a SPIFFE ID is named, that one.
func (s *Security) svids(named string, log *slog.Logger) (*svids, error) {
	domain, err := spiffeid.TrustDomainFromString(s.TrustDomain)
	if err != nil {
		return nil, &Error{Code: "trust_domain_invalid", Problem: fmt.Sprintf("security.trust_domain %q is no trust domain", s.TrustDomain), Cause: err,
			Remedy: "say whom to believe: \"example.org\""}
	}
	w := &svids{authorize: tlsconfig.AuthorizeMemberOf(domain), log: newRefusals(log)}
	if named != "" {
		id, err := spiffeid.FromString(named)
		if err != nil {
			return nil, &Error{Code: "server_name_invalid", Problem: fmt.Sprintf("%q, which servers are to have, is no SPIFFE ID", named), Cause: err,
				Remedy: "write spiffe://example.org/profiler as security.server_spiffe_id"}
		}
		w.authorize = tlsconfig.AuthorizeID(id)
	}
	socket := cmp.Or(s.WorkloadSocket, defaultWorkloadSocket)
	if strings.HasPrefix(socket, "/") {
		socket = "unix:" + socket
	}
	said := &lastError{Logger: logger.Null}
	ctx, cancel := context.WithTimeout(context.Background(), workloadWithin)
	defer cancel()
	w.source, err = workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(socket), workloadapi.WithLogger(said)))
	if err != nil {
		return nil, &Error{Code: "workload_api_unavailable", Problem: fmt.Sprintf("the SPIFFE workload API at %s gives no certificate", socket), Cause: said.or(err),
			Remedy: "start its agent, let this program reach the socket, and register it there"}
	}
	return w, nil
}

// config is what tlsconfig makes, as strict as in mode mtls. Without tickets
// each connection shows a certificate that is checked.
func (w *svids) config(of *tls.Config) *tls.Config {
	of.MinVersion, of.NextProtos, of.SessionTicketsDisabled = tls.VersionTLS13, []string{"h2"}, true
	return of
}

// ServerHandshake makes sure of the client.
func (w *svids) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	held := &heldOpen{Conn: raw, hold: true}
	config := w.config(tlsconfig.MTLSServerConfig(w.source, w.source, w.authorize))
	c, info, err := credentials.NewTLS(config).ServerHandshake(held)
	held.hold = false
	if err != nil {
		err = explainClient(err)
		w.log.refused(raw, err)
		linger(raw)
		raw.Close()
		return nil, nil, err
	}
	of, ok := info.(credentials.TLSInfo)
	if !ok || len(of.State.PeerCertificates) == 0 { // both are certain
		c.Close()
		return nil, nil, unknownPeer("the connection has no certificate")
	}
	return c, verifiedInfo{of}, nil
}

// ClientHandshake makes sure of the server, and shows it our certificate.
func (w *svids) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config := w.config(tlsconfig.MTLSClientConfig(w.source, w.source, w.authorize))
	c, info, err := credentials.NewTLS(config).ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, explainServer(authority, authority, "the workload API", err)
	}
	return &answer{Conn: c, explain: func(err error) error { return explainRefusal(authority, "", err) }}, info, nil
}

// Info is of gRPC's interface. Names of hosts mean nothing here.
func (w *svids) Info() credentials.ProtocolInfo { return credentials.NewTLS(nil).Info() }

// Clone copies, as gRPC wants; the source stays in common.
func (w *svids) Clone() credentials.TransportCredentials {
	n := *w
	return &n
}

// OverrideServerName is of gRPC's interface, and without effect: who the server
// must be is a SPIFFE ID.
func (w *svids) OverrideServerName(string) error { return nil }

// lastError remembers what the workload API said last: the source itself only
// says that it waited for too long.
type lastError struct {
	logger.Logger
	mu   sync.Mutex
	text string
}

// Errorf is of the library's interface.
func (l *lastError) Errorf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = fmt.Sprintf(format, args...)
}

func (l *lastError) or(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == "" {
		return err
	}
	return fmt.Errorf("%s; %w", l.text, err)
}
