// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// TryoutServices are the components that get a certificate to serve and to call
// others with, TryoutClients those that only call.
var (
	TryoutServices = []string{"profiler", "agent", "poller"}
	TryoutClients  = []string{"admin"}
)

// Tryout says which certificates are made.
type Tryout struct {
	Hosts     []string      // names and IP addresses of the services, besides this host's own on the loopback interface
	Valid     time.Duration // from now on; 0 is 90 days
	Overwrite bool          // files that are there
	KeepKey   bool          // of the root, so that more can be made: root-key.pem
}

// WriteTryoutCertificates makes a root and a certificate for each component, in
// the files that ServiceRadar's packages have: root.pem, NAME.pem and
// NAME-key.pem (EC P-256, as its documentation makes them). It returns their
// names. What is there is not overwritten unless that is asked for; errors are
// *Error.
//
// They are for trying things out: an authority whose key was never kept cannot
// make another certificate, and cannot be misused.
func WriteTryoutCertificates(dir string, t Tryout) ([]string, error) {
	if t.Valid == 0 {
		t.Valid = 90 * 24 * time.Hour
	}
	if t.Valid < time.Minute || t.Valid > 100*365*24*time.Hour {
		return nil, &Error{Code: "bad_validity", Problem: fmt.Sprintf("certificates cannot be valid for %v", t.Valid), Remedy: "say how long, 2160h (90 days) for example"}
	}
	root, err := newRoot(t.Valid)
	if err != nil {
		return nil, err
	}
	files := []pemFile{{"root.pem", 0o644, "CERTIFICATE", root.der}}
	if t.KeepKey {
		files = append(files, pemFile{"root-key.pem", 0o600, "EC PRIVATE KEY", root.keyDER})
	}
	for _, name := range append(append([]string{}, TryoutServices...), TryoutClients...) {
		made, err := root.issue(name, &t)
		if err != nil {
			return nil, err
		}
		files = append(files, pemFile{name + ".pem", 0o644, "CERTIFICATE", made.der}, pemFile{name + "-key.pem", 0o600, "EC PRIVATE KEY", made.keyDER})
	}
	return writeAll(dir, files, t.Overwrite)
}

// issued is a certificate with its key.
type issued struct {
	cert        *x509.Certificate
	key         *ecdsa.PrivateKey
	der, keyDER []byte
}

func newRoot(valid time.Duration) (*issued, error) {
	template, err := newTemplate("serviceradar-profiler try-out root", valid)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return template.sign(nil)
}

// issue makes a certificate. One that only calls others has no name of a host:
// nobody can pass for a service with it.
func (root *issued) issue(name string, t *Tryout) (*issued, error) {
	template, err := newTemplate(name+".serviceradar", t.Valid)
	if err != nil {
		return nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{name + ".serviceradar"}
	for _, service := range TryoutServices {
		if service != name {
			continue
		}
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		for _, host := range append([]string{"localhost", "127.0.0.1", "::1"}, t.Hosts...) {
			if ip := net.ParseIP(host); ip != nil {
				template.IPAddresses = append(template.IPAddresses, ip)
			} else {
				template.DNSNames = append(template.DNSNames, host)
			}
		}
	}
	return template.sign(root)
}

type template struct{ x509.Certificate }

func newTemplate(name string, valid time.Duration) (*template, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &template{x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour), // clocks of hosts differ
		NotAfter:     now.Add(valid),
	}}, nil
}

// sign makes the certificate, by itself if there is no parent.
func (t *template) sign(parent *issued) (*issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if parent == nil {
		parent = &issued{cert: &t.Certificate, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, &t.Certificate, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	return &issued{cert, key, der, keyDER}, err
}

type pemFile struct {
	name string
	mode fs.FileMode
	kind string
	der  []byte
}

// writeAll writes all files or, where one is there, none.
func writeAll(dir string, files []pemFile, overwrite bool) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, notWritten(err)
	}
	for _, f := range files {
		_, err := os.Lstat(filepath.Join(dir, f.name))
		if err == nil && !overwrite {
			return nil, &Error{Code: "certificates_exist", Problem: fmt.Sprintf("there is a %s in %s already", f.name, dir),
				Remedy: "name another directory, or have them overwritten with --force"}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, notWritten(err)
		}
	}
	var written []string
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := writeWhole(path, f.mode, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der})); err != nil {
			return written, notWritten(err)
		}
		written = append(written, path)
	}
	return written, nil
}

// writeWhole puts a file in the place of another in one step, with rights of
// its own: nobody reads a key that is half written or was open to others.
func writeWhole(path string, mode fs.FileMode, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".certificate-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func notWritten(err error) error {
	return &Error{Code: "certificates_not_written", Problem: "cannot write the certificates", Cause: err, Remedy: "name a directory that you may write to"}
}
