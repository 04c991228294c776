// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/proto/monitoring"
	"github.com/carverauto/serviceradar-profiler/test/agents"
)

// Hosts that are not as hosts should be: made up, without profiling, or with a
// certificate that no service of ours would show.

// node is one more node, which pollers know, with a certificate of its own.
func (s *site) node(name string) *node {
	s.t.Helper()
	at := s.net.add(s.t, name)
	s.knows(at, object{"site": "odd"})
	s.issue(s.certs, name, at, -time.Hour, 24*time.Hour)
	return at
}

// simulate has a host at the node that samples nothing, and whose profile is as
// large as is wanted.
func (s *site) simulate(at *node, o agents.Options) *agents.Hosts {
	s.t.Helper()
	creds, err := auth.Identity(s.certs, at.name).ServerCredentials(at.address+":"+agentPort, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.simulateWith(at, o, creds)
}

func (s *site) simulateWith(at *node, o agents.Options, creds credentials.TransportCredentials) *agents.Hosts {
	s.t.Helper()
	hosts, err := agents.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	go func() { _ = hosts.Serve(s.listen(at), creds) }() // until the listener is closed
	return hosts
}

func (s *site) listen(at *node) net.Listener {
	s.t.Helper()
	l, err := at.listen(agentPort)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	return l
}

// plain has an agent of ServiceRadar at the node, which knows no profiling.
func (s *site) plain(at *node) {
	s.t.Helper()
	creds, err := auth.Identity(s.certs, at.name).ServerCredentials(at.address+":"+agentPort, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(creds))
	monitoring.RegisterAgentServiceServer(server, checker{})
	go func() { _ = server.Serve(s.listen(at)) }() // until the listener is closed
	s.t.Cleanup(server.Stop)
}

// checker answers checks and nothing else.
type checker struct {
	monitoring.UnimplementedAgentServiceServer
}

func (checker) GetStatus(context.Context, *monitoring.StatusRequest) (*monitoring.StatusResponse, error) {
	return &monitoring.StatusResponse{Available: true, Message: []byte(`{"status":"ok"}`)}, nil
}

// issue makes a certificate for a service at a node, by the root of a directory,
// that is valid from and until so long from now.
func (s *site) issue(dir, name string, at *node, from, until time.Duration) {
	s.t.Helper()
	root, err := tls.LoadX509KeyPair(filepath.Join(dir, "root.pem"), filepath.Join(dir, "root-key.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name + ".serviceradar"}, DNSNames: []string{name + ".serviceradar"},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.ParseIP(at.address)},
	}, root.Leaf, &key.PublicKey, root.PrivateKey)
	if err != nil {
		s.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	replace(s.t, filepath.Join(s.certs, name+"-key.pem"), "EC PRIVATE KEY", private)
	replace(s.t, filepath.Join(s.certs, name+".pem"), "CERTIFICATE", der)
}

// replace writes a file as those do who renew certificates: whole at once.
func replace(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(to+".new", to)
	}
	if err != nil {
		t.Fatal(err)
	}
}
