// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"
)

// keyring is what is in the files, read again when they change: looked at in
// each handshake, because those are rare and a stat is cheap. While new files
// cannot be used the old content serves on: a certificate and its key are never
// replaced in the same instant.
type keyring struct {
	files Files
	use   use
	log   *slog.Logger // may be nil

	mu      sync.Mutex
	current *tls.Config
	stamps  [4]stamp  // of what was read last, good or not
	read    time.Time // when
	problem string    // why that could not be used; told once
}

// use is what our certificate is for.
type use int

const (
	forServer use = iota
	forClient
)

// stamp changes when a file does.
type stamp struct {
	device, inode    uint64
	size             int64
	modified, status syscall.Timespec
}

func newKeyring(files Files, use use, log *slog.Logger) (*keyring, error) {
	k := &keyring{files: files, use: use, log: log, stamps: stamps(files), read: time.Now()}
	c, err := k.load()
	if err != nil {
		return nil, err
	}
	k.current = c
	return k, nil
}

// settled is how old a file must be, when it is read, to be believed not to
// change any more without a new stamp: the clock of old kernels ticks every
// 10 ms, and whoever writes a file may take his time.
const settled = time.Second

// config is what the files say now, or said when they could last be used.
func (k *keyring) config() *tls.Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := stamps(k.files)
	if now == k.stamps && (k.problem == "" || time.Since(k.read) < settled) && k.read.Sub(newest(&now)) > settled {
		return k.current
	}
	changed := now != k.stamps
	k.stamps, k.read = now, time.Now()
	c, err := k.load()
	switch {
	case err != nil && err.Error() != k.problem:
		k.problem = err.Error()
		k.tell(slog.LevelError, "certificates changed but cannot be used: the former ones serve on", "error", k.problem)
	case err == nil:
		k.current = c
		if changed || k.problem != "" {
			k.tell(slog.LevelInfo, "certificates were read again", "cert_file", k.files.Cert)
		}
		k.problem = ""
	}
	return k.current
}

func (k *keyring) tell(level slog.Level, message string, fields ...any) {
	if k.log != nil {
		k.log.Log(context.Background(), level, message, fields...)
	}
}

func (k *keyring) load() (*tls.Config, error) {
	own, err := loadOwn(k.files, k.use)
	if err != nil {
		return nil, err
	}
	// Tickets would let a peer in whose certificate is not accepted any more.
	c := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, SessionTicketsDisabled: true}
	if k.use == forServer {
		c.Certificates = []tls.Certificate{*own}
		c.ClientAuth = tls.RequireAndVerifyClientCert
		c.ClientCAs, err = loadAuthorities("client_ca_file", k.files.ClientCA)
	} else {
		// Even if the server names other authorities: then it says so, and
		// that is a better answer than "certificate required".
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
		c.RootCAs, err = loadAuthorities("ca_file", k.files.CA)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// loadOwn reads our certificate and its key, and makes sure that others can
// accept it.
func loadOwn(f Files, use use) (*tls.Certificate, error) {
	cert, err := readPEM("cert_file", f.Cert)
	if err != nil {
		return nil, err
	}
	key, err := readPEM("key_file", f.Key)
	if err != nil {
		return nil, err
	}
	own, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, &Error{Code: "certificate_unusable", Cause: err, Problem: fmt.Sprintf("the certificate %s and the key %s cannot be used", f.Cert, f.Key),
			Remedy: "both must be PEM, and made for one another"}
	}
	return &own, checkOwn(own.Leaf, f.Cert, use)
}

func checkOwn(leaf *x509.Certificate, file string, use use) error {
	now := time.Now()
	if now.After(leaf.NotAfter) {
		return &Error{Code: "certificate_expired", Problem: fmt.Sprintf("the certificate %s expired on %s", file, date(leaf.NotAfter)), Remedy: "make a new one"}
	}
	if now.Before(leaf.NotBefore) {
		return &Error{Code: "certificate_not_yet_valid", Problem: fmt.Sprintf("the certificate %s is not valid before %s", file, date(leaf.NotBefore)), Remedy: "check this host's clock"}
	}
	wanted, name := x509.ExtKeyUsageServerAuth, "serverAuth"
	if use == forClient {
		wanted, name = x509.ExtKeyUsageClientAuth, "clientAuth"
	}
	if len(leaf.ExtKeyUsage) == 0 {
		return nil
	}
	for _, u := range leaf.ExtKeyUsage {
		if u == wanted || u == x509.ExtKeyUsageAny {
			return nil
		}
	}
	return &Error{Code: "certificate_wrong_usage", Problem: fmt.Sprintf("the certificate %s was not made for %s (extended key usage)", file, name), Remedy: "make one that was"}
}

func loadAuthorities(key, file string) (*x509.CertPool, error) {
	b, err := readPEM(key, file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	found, latest := false, time.Time{}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, &Error{Code: "certificate_unusable", Problem: fmt.Sprintf("a certificate in %s (%s) cannot be read", file, key), Cause: err, Remedy: "make it again"}
		}
		pool.AddCert(c)
		found = true
		if c.NotAfter.After(latest) {
			latest = c.NotAfter
		}
	}
	if !found {
		return nil, &Error{Code: "certificate_unusable", Problem: fmt.Sprintf("there is no certificate in %s (%s)", file, key), Remedy: "it must be PEM, with the certificate of the authority"}
	}
	if time.Now().After(latest) {
		return nil, &Error{Code: "certificate_expired", Problem: fmt.Sprintf("the authority in %s (%s) expired on %s", file, key, date(latest)), Remedy: "make new certificates"}
	}
	return pool, nil
}

const maxPEM = 1 << 20 // of a file

func readPEM(key, file string) ([]byte, error) {
	if file == "" {
		return nil, &Error{Code: "certificate_not_named", Problem: "security.tls." + key + " names no file",
			Remedy: "mode mtls needs cert_file, key_file and ca_file; srprof certs makes some to try it out"}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, unreadable(key, file, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, unreadable(key, file, err)
	}
	if len(b) > maxPEM {
		return nil, &Error{Code: "certificate_unusable", Problem: fmt.Sprintf("%s (%s) is larger than 1 MiB", file, key), Remedy: "name a PEM file"}
	}
	return b, nil
}

func unreadable(key, file string, err error) error {
	e := &Error{Code: "certificate_not_readable", Problem: fmt.Sprintf("cannot read %s (%s)", file, key), Cause: err, Remedy: "name a file that this program may read"}
	var p *fs.PathError
	if errors.As(err, &p) {
		e.Cause = p.Err // the path is in the sentence already
	}
	if errors.Is(err, fs.ErrNotExist) {
		e.Code, e.Remedy = "certificate_missing", "name one that exists; srprof certs makes some to try it out"
	}
	return e
}

// date is a day where that is exact enough to act on.
func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

func stamps(f Files) [4]stamp {
	var all [4]stamp
	for i, file := range []string{f.Cert, f.Key, f.CA, f.ClientCA} {
		var st syscall.Stat_t
		if file != "" && syscall.Stat(file, &st) == nil { // what cannot be looked at has the zero stamp
			all[i] = stamp{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}
		}
	}
	return all
}

// newest is when the last of the files changed. The status changes with each
// write, and nobody can set its time.
func newest(all *[4]stamp) time.Time {
	var t time.Time
	for _, s := range all {
		if at := time.Unix(s.status.Unix()); at.After(t) {
			t = at
		}
	}
	return t
}

// Reread reads the certificates of credentials again, if their files changed,
// without waiting for the next connection. The error says why what is in the
// files cannot be used, and that what was there before serves on.
func Reread(c credentials.TransportCredentials) error {
	m, ok := c.(*mutual)
	if !ok {
		return nil // there are no files
	}
	m.keys.config()
	m.keys.mu.Lock()
	defer m.keys.mu.Unlock()
	if m.keys.problem != "" {
		return &Error{Code: "certificates_unusable", Problem: m.keys.problem, Remedy: "the former ones serve on"}
	}
	return nil
}
