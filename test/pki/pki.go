// SPDX-License-Identifier: Apache-2.0

// Package pki is certificates that tests need besides those to try things out
// with: those of strangers, of people, and those that have expired.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Pool is the authority of a directory of auth.WriteTryoutCertificates.
func Pool(t testing.TB, certs string) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(certs, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(b)
	return p
}

// Pair is one of its certificates.
func Pair(t testing.TB, certs, name string) tls.Certificate {
	t.Helper()
	c, err := tls.LoadX509KeyPair(filepath.Join(certs, name+".pem"), filepath.Join(certs, name+"-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Issue makes a client's certificate of the same authority, whose key was kept,
// that is valid until then: from now on, or up to now.
func Issue(t testing.TB, certs, name string, valid time.Duration) tls.Certificate {
	t.Helper()
	root := Pair(t, certs, "root")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(valid), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, root.Leaf, key.Public(), root.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
