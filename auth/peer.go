// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Peer is who is at the other end of a call, as the verified certificate says.
type Peer struct {
	Local       bool     // no certificate: mode none, on this host
	URIs        []string // a SPIFFE ID among them, if there is one
	DNSNames    []string
	CommonName  string
	Serial      string // of the certificate, in hexadecimal
	Fingerprint string // its SHA-256
	Address     string // where the connection comes from
}

// IdentityLocal is the identity of whoever connects without a certificate.
const IdentityLocal = "local"

// IdentityAny is every peer with a certificate.
const IdentityAny = "*"

// Name is the identity by which a peer is called: of those that its certificate
// has, the one that is made for that the most.
func (p *Peer) Name() string {
	for _, name := range p.Identities() {
		return name
	}
	return "serial:" + p.Serial // a certificate without any name
}

// Identities are all names of a peer.
func (p *Peer) Identities() []string {
	if p.Local {
		return []string{IdentityLocal}
	}
	all := slices.Concat(p.URIs, p.DNSNames)
	if p.CommonName != "" && !slices.Contains(all, p.CommonName) {
		all = append(all, p.CommonName)
	}
	return all
}

// Is says whether an identity as it stands in a configuration means this peer:
//
//	spiffe://example.org/agent     this URI, such as a SPIFFE ID
//	spiffe://example.org/agents/*  all URIs below it
//	dns:agent.example              this DNS name
//	cn:admin.serviceradar          this common name
//	admin.serviceradar             either of the two
//	*                              everybody with a certificate
//	local                          whoever connects without one (mode none)
//
// The last two are never names of certificates, so that nobody can have
// himself called so.
func (p *Peer) Is(identity string) bool {
	switch {
	case identity == IdentityLocal:
		return p.Local
	case p.Local:
		return false
	case identity == IdentityAny:
		return true
	case strings.Contains(identity, "://"):
		if below, ok := strings.CutSuffix(identity, "*"); ok {
			return slices.ContainsFunc(p.URIs, func(u string) bool { return len(u) > len(below) && strings.HasPrefix(u, below) })
		}
		return slices.Contains(p.URIs, identity)
	}
	if name, ok := strings.CutPrefix(identity, "dns:"); ok {
		return p.hasDNSName(name)
	}
	if name, ok := strings.CutPrefix(identity, "cn:"); ok {
		return name != "" && name == p.CommonName
	}
	return p.hasDNSName(identity) || identity != "" && identity == p.CommonName
}

func (p *Peer) hasDNSName(name string) bool {
	return slices.ContainsFunc(p.DNSNames, func(d string) bool { return strings.EqualFold(d, name) })
}

// CheckIdentity refuses what no peer can ever be, or more peers than it seems
// to say. The error is an *Error.
func CheckIdentity(identity string) error {
	name := strings.TrimPrefix(strings.TrimPrefix(identity, "dns:"), "cn:")
	star := strings.Index(identity, "*")
	switch {
	case name == "" || strings.TrimSpace(name) != name:
		return &Error{Code: "bad_identity", Problem: fmt.Sprintf("%q is no identity", identity), Remedy: "write a SPIFFE ID, a DNS name, a common name, \"*\" or \"local\""}
	case star >= 0 && identity != IdentityAny && !(strings.Contains(identity, "://") && star == len(identity)-1 && strings.HasSuffix(identity, "/*")):
		return &Error{Code: "bad_identity", Problem: fmt.Sprintf("the star in the identity %q stands where it means nothing", identity), Remedy: "it may be the last part of a URI: spiffe://example.org/agents/*"}
	case strings.HasSuffix(identity, ":///*"):
		return &Error{Code: "bad_identity", Problem: fmt.Sprintf("the identity %q has no trust domain", identity), Remedy: "name one: spiffe://example.org/*"}
	}
	return nil
}

type peerKey struct{}

// WithPeer is a context of a call that came in another way than by gRPC, from a
// peer that is known.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// PeerOf tells who makes a call. The error is an *Error: nobody made sure of
// it.
func PeerOf(ctx context.Context) (Peer, error) {
	if p, ok := ctx.Value(peerKey{}).(Peer); ok {
		return p, nil
	}
	from, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, unknownPeer("the call came over no connection")
	}
	p := Peer{}
	if from.Addr != nil {
		p.Address = from.Addr.String()
	}
	switch info := from.AuthInfo.(type) {
	case localInfo:
		p.Local = true
	case verifiedInfo:
		p.take(info.State.PeerCertificates[0])
	case credentials.TLSInfo:
		if len(info.State.VerifiedChains) == 0 {
			return Peer{}, unknownPeer("its certificate was not verified")
		}
		p.take(info.State.VerifiedChains[0][0])
	default:
		return Peer{}, unknownPeer("the connection has no certificate")
	}
	return p, nil
}

func unknownPeer(why string) error {
	return &Error{Code: "peer_unknown", Problem: "it is not known who calls: " + why, Remedy: "connect with a certificate"}
}

func (p *Peer) take(c *x509.Certificate) {
	for _, u := range c.URIs {
		p.URIs = append(p.URIs, u.String())
	}
	p.DNSNames, p.CommonName = c.DNSNames, c.Subject.CommonName
	p.Serial = c.SerialNumber.Text(16)
	sum := sha256.Sum256(c.Raw)
	p.Fingerprint = hex.EncodeToString(sum[:])
}

// localInfo marks connections of mode none, verifiedInfo those whose
// certificate was verified by other means than crypto/tls. Others cannot make
// them.
type (
	localInfo    struct{ credentials.CommonAuthInfo }
	verifiedInfo struct{ credentials.TLSInfo }
)

// AuthType is of gRPC's interface.
func (localInfo) AuthType() string { return "none" }
