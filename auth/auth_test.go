// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// logged is a log to look into, from several goroutines.
type logged struct {
	sync.Mutex
	bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.Write(b)
}

func (l *logged) text() string {
	l.Lock()
	defer l.Unlock()
	return l.String()
}

// waitFor waits until the log has a text: what the server says is written
// beside what the client gets.
func (l *logged) waitFor(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(l.text(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log has no %q:\n%s", text, l.text())
		}
	}
}

func certificates(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := WriteTryoutCertificates(dir, Tryout{}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve serves gRPC's health with creds and returns its port on 127.0.0.1.
func serve(t *testing.T, creds credentials.TransportCredentials) string {
	t.Helper()
	return serveWith(t, creds, func(s *grpc.Server) { healthpb.RegisterHealthServer(s, health.NewServer()) })
}

func serveWith(t *testing.T, creds credentials.TransportCredentials, register func(*grpc.Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(creds))
	register(s)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func dial(t *testing.T, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func ask(t *testing.T, c *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := healthpb.NewHealthClient(c).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func server(t *testing.T, s *Security, log *slog.Logger) string {
	t.Helper()
	creds, err := s.ServerCredentials("127.0.0.1:0", log)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, creds)
}

func client(t *testing.T, s *Security, address string) *grpc.ClientConn {
	t.Helper()
	creds, err := s.ClientCredentials(address)
	if err != nil {
		t.Fatal(err)
	}
	return dial(t, address, creds)
}

// code is the code of an *Error.
func code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// made writes a certificate from dir's root (or from a root of its own, "" ) and
// returns its Security.
func made(t *testing.T, root *issued, name string, change func(*template)) *Security {
	t.Helper()
	dir := t.TempDir()
	c, err := newTemplate(name, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	c.DNSNames, c.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	if change != nil {
		change(c)
	}
	i, err := c.sign(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writeAll(dir, []pemFile{{"root.pem", 0o644, "CERTIFICATE", root.der},
		{name + ".pem", 0o644, "CERTIFICATE", i.der}, {name + "-key.pem", 0o600, "EC PRIVATE KEY", i.keyDER}}, true); err != nil {
		t.Fatal(err)
	}
	return Identity(dir, name)
}

func root(t *testing.T) *issued {
	t.Helper()
	r, err := newRoot(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func expired(c *template) {
	c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
}
func notYet(c *template) {
	c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
}

// raw are credentials that believe what a Security would not: those of a
// careless or hostile peer.
func raw(t *testing.T, s *Security, change func(*tls.Config)) credentials.TransportCredentials {
	t.Helper()
	f := s.files()
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b)
	c := &tls.Config{RootCAs: pool, ClientCAs: pool, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
	if change != nil {
		change(c)
	}
	return credentials.NewTLS(c)
}

// Who may connect: each kind of client at our server, with what it gets told
// and what is logged.
func TestClientsAtOurServer(t *testing.T) {
	r, other := root(t), root(t)
	own := made(t, r, "profiler", nil)
	for _, c := range []struct {
		name   string
		client func(t *testing.T) credentials.TransportCredentials
		want   string // in the client's error; "" means that it may
		log    string
	}{
		{"a good certificate", func(t *testing.T) credentials.TransportCredentials { return raw(t, made(t, r, "a", nil), nil) }, "", ""},
		{"no certificate", func(t *testing.T) credentials.TransportCredentials {
			return raw(t, made(t, r, "a", nil), func(c *tls.Config) { c.Certificates, c.GetClientCertificate = nil, nil })
		}, "certificate required", "the client has no certificate"},
		{"another authority", func(t *testing.T) credentials.TransportCredentials {
			return raw(t, made(t, other, "a", nil), func(c *tls.Config) { c.InsecureSkipVerify = true })
		}, "unknown certificate authority", "the certificate of the client was not made by an authority that is believed here"},
		{"expired", func(t *testing.T) credentials.TransportCredentials { return raw(t, made(t, r, "a", expired), nil) },
			"expired certificate", "the certificate of the client expired on "},
		{"not yet valid", func(t *testing.T) credentials.TransportCredentials { return raw(t, made(t, r, "a", notYet), nil) },
			"expired certificate", "the certificate of the client is not valid before "},
		{"made for servers", func(t *testing.T) credentials.TransportCredentials {
			return raw(t, made(t, r, "a", func(c *template) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), nil)
		}, "bad certificate", "the certificate of the client was not made for a client"},
		{"TLS 1.2", func(t *testing.T) credentials.TransportCredentials {
			return raw(t, made(t, r, "a", nil), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
		}, "protocol version not supported", "the client does not speak TLS 1.3"},
		{"no TLS", func(t *testing.T) credentials.TransportCredentials { return insecure.NewCredentials() },
			"error reading server preface", "the client does not speak TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log logged
			address := server(t, own, slog.New(slog.NewTextHandler(&log, nil)))
			err := ask(t, dial(t, address, c.client(t)))
			if c.want == "" {
				if err != nil || log.text() != "" {
					t.Fatalf("%v\n%s", err, log.text())
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the client got %v, want %q", err, c.want)
			}
			log.waitFor(t, c.log)
		})
	}
}

// The same the other way: what our client says of each kind of server, and of
// servers that do not take it.
func TestOurClientAtServers(t *testing.T) {
	r, other := root(t), root(t)
	good := func(t *testing.T) *Security { return made(t, r, "admin", nil) }
	required := func(c *tls.Config) { c.ClientAuth = tls.RequireAndVerifyClientCert }
	for _, c := range []struct {
		name   string
		server func(t *testing.T) credentials.TransportCredentials
		client func(t *testing.T) *Security
		want   string
	}{
		{"good", func(t *testing.T) credentials.TransportCredentials { return raw(t, made(t, r, "s", nil), required) }, good, ""},
		{"another authority", func(t *testing.T) credentials.TransportCredentials { return raw(t, made(t, other, "s", nil), nil) }, good,
			"the certificate of ADDRESS was not made by an authority that is believed here (ca_file, "},
		{"expired", func(t *testing.T) credentials.TransportCredentials { return raw(t, made(t, r, "s", expired), nil) }, good,
			"the certificate of ADDRESS expired on "},
		{"not yet valid", func(t *testing.T) credentials.TransportCredentials { return raw(t, made(t, r, "s", notYet), nil) }, good,
			"the certificate of ADDRESS is not valid before "},
		{"made for clients", func(t *testing.T) credentials.TransportCredentials {
			return raw(t, made(t, r, "s", func(c *template) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), nil)
		}, good, "was not made for a server (extended key usage)"},
		{"another name", func(t *testing.T) credentials.TransportCredentials {
			return raw(t, made(t, r, "s", func(c *template) { c.DNSNames, c.IPAddresses = []string{"web.example"}, nil }), nil)
		}, good, "the certificate of ADDRESS is for web.example, not for 127.0.0.1; connect by a name it is for, or say which one as server_name"},
		{"the name that was said", func(t *testing.T) credentials.TransportCredentials {
			return raw(t, made(t, r, "s", func(c *template) { c.DNSNames, c.IPAddresses = []string{"web.example"}, nil }), required)
		}, func(t *testing.T) *Security { s := good(t); s.ServerName = "web.example"; return s }, ""},
		{"not the name that was said", func(t *testing.T) credentials.TransportCredentials { return raw(t, made(t, r, "s", nil), nil) },
			func(t *testing.T) *Security { s := good(t); s.ServerName = "web.example"; return s }, "the certificate of ADDRESS is for localhost, 127.0.0.1, not for web.example"},
		{"TLS 1.2", func(t *testing.T) credentials.TransportCredentials {
			return raw(t, made(t, r, "s", nil), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
		}, good, "does not speak the same version of TLS"},
		{"no TLS", func(t *testing.T) credentials.TransportCredentials { return insecure.NewCredentials() }, good, "ADDRESS does not speak TLS"},
		{"does not know our authority", func(t *testing.T) credentials.TransportCredentials {
			return raw(t, made(t, r, "s", nil), func(c *tls.Config) { required(c); c.ClientCAs = x509.NewCertPool() })
		}, good, "ADDRESS does not know the authority of our certificate, "},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := serve(t, c.server(t))
			err := ask(t, client(t, c.client(t), address))
			want := strings.ReplaceAll(c.want, "ADDRESS", address)
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// Refusals of our server in the words of our client.
func TestOurClientRefused(t *testing.T) {
	r, other := root(t), root(t)
	address := server(t, made(t, r, "profiler", nil), nil)
	stranger := made(t, other, "a", nil)
	stranger.TLS.CA = made(t, r, "b", nil).files().CA
	err := ask(t, client(t, stranger, address))
	if want := address + " does not know the authority of our certificate, "; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	err = ask(t, client(t, &Security{Mode: "none"}, address))
	if want := address + " closed the connection at once"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestModes(t *testing.T) {
	dir := certificates(t)
	full := Identity(dir, "profiler")
	for _, c := range []struct {
		name     string
		change   func(*Security)
		address  string
		code     string
		sentence string
	}{
		{"nothing said", func(s *Security) {}, ":50084", "", ""},
		{"in capitals", func(s *Security) { s.Mode = "MTLS" }, ":50084", "", ""},
		{"empty", func(s *Security) { *s = Security{} }, "127.0.0.1:1", "certificate_not_named", "security.tls.cert_file names no file"},
		{"none", func(s *Security) { *s = Security{Mode: "none"} }, "127.0.0.1:1", "", ""},
		{"none by name", func(s *Security) { *s = Security{Mode: "none"} }, "localhost:1", "", ""},
		{"none, IPv6", func(s *Security) { *s = Security{Mode: "none"} }, "[::1]:1", "", ""},
		{"none, all interfaces", func(s *Security) { *s = Security{Mode: "none"} }, ":1", "insecure_not_loopback", "which is not on the loopback interface"},
		{"none, all interfaces by address", func(s *Security) { *s = Security{Mode: "None"} }, "0.0.0.0:1", "insecure_not_loopback", ""},
		{"none, another name", func(s *Security) { *s = Security{Mode: "none"} }, "localhost.example:1", "insecure_not_loopback", ""},
		{"spiffe without a trust domain", func(s *Security) { s.Mode = "spiffe" }, ":1", "trust_domain_invalid", "say whom to believe"},
		{"unknown", func(s *Security) { s.Mode = "tls" }, ":1", "security_mode_unknown", `there is no security mode "tls"; say mtls`},
		{"no such file", func(s *Security) { s.TLS.Cert = "x.pem" }, ":1", "certificate_missing", filepath.Join(dir, "x.pem") + " (cert_file)"},
		{"a directory", func(s *Security) { s.TLS.Key = "." }, ":1", "certificate_not_readable", "is a directory"},
		{"another key", func(s *Security) { s.TLS.Key = "agent-key.pem" }, ":1", "certificate_unusable", "private key does not match public key"},
		{"no PEM", func(s *Security) { s.TLS.CA = os.Args[0] }, ":1", "certificate_unusable", ""},
		{"a key as authority", func(s *Security) { s.TLS.CA = "agent-key.pem" }, ":1", "certificate_unusable", "there is no certificate in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := *full
			c.change(&s)
			_, atServer := s.ServerCredentials(c.address, nil)
			_, atClient := s.ClientCredentials(c.address)
			for _, err := range []error{atServer, atClient} {
				if code(err) != c.code || c.code == "" && err != nil || c.code != "" && !strings.Contains(err.Error(), c.sentence) {
					t.Errorf("got %v [%s], want %q [%s]", err, code(err), c.sentence, c.code)
				}
			}
		})
	}
}

func TestOwnCertificate(t *testing.T) {
	r := root(t)
	for _, c := range []struct {
		code   string
		change func(*template)
	}{
		{"certificate_expired", expired},
		{"certificate_not_yet_valid", notYet},
		{"certificate_wrong_usage", func(c *template) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }},
		{"", func(c *template) { c.ExtKeyUsage = nil }},
	} {
		s := made(t, r, "a", c.change)
		_, atServer := s.ServerCredentials(":1", nil)
		_, atClient := s.ClientCredentials("web.example:1")
		if code(atServer) != c.code || code(atClient) != c.code {
			t.Errorf("want %s: %v, %v", c.code, atServer, atClient)
		}
	}
	_, err := Identity(certificates(t), "admin").ServerCredentials(":1", nil)
	if code(err) != "certificate_wrong_usage" {
		t.Errorf("a client's certificate serves: %v", err)
	}
	old, err := newRoot(-time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := made(t, old, "a", nil).ServerCredentials(":1", nil); code(err) != "certificate_expired" || !strings.Contains(err.Error(), "the authority in") {
		t.Errorf("an expired authority: %v", err)
	}
}

func TestTryoutFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "certs")
	files, err := WriteTryoutCertificates(dir, Tryout{Hosts: []string{"web1.example", "192.0.2.7"}})
	if err != nil || len(files) != 9 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if key := strings.HasSuffix(f, "-key.pem"); key != (st.Mode().Perm() == 0o600) {
			t.Errorf("%s has mode %v", f, st.Mode())
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "profiler.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(c); got != "profiler.serviceradar, localhost, web1.example, 127.0.0.1, ::1, 192.0.2.7" {
		t.Errorf("the profiler's certificate is for %s", got)
	}
	before, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := WriteTryoutCertificates(dir, Tryout{}); code(err) != "certificates_exist" {
		t.Errorf("a second time: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "root.pem")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("what was there has changed: %v", err)
	}
	files, err = WriteTryoutCertificates(dir, Tryout{Overwrite: true, KeepKey: true})
	if err != nil || len(files) != 10 {
		t.Errorf("overwriting: %v: %v", files, err)
	}
	if err := ask(t, client(t, Identity(dir, "admin"), server(t, Identity(dir, "profiler"), nil))); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".cert*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
