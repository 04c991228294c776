// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/x509"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"google.golang.org/grpc"
)

// shown is the certificate that a server shows on a connection.
func shown(t *testing.T, c *grpc.ClientConn) *x509.Certificate {
	t.Helper()
	var p peer.Peer
	if _, err := healthpb.NewHealthClient(c).Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.Peer(&p)); err != nil {
		t.Fatal(err)
	}
	return p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0]
}

// Certificates are replaced, by another authority even, while connections
// live: those go on, new ones get the new certificates, on both sides.
func TestRotation(t *testing.T) {
	dir := certificates(t)
	var log logged
	address := server(t, Identity(dir, "profiler"), slog.New(slog.NewTextHandler(&log, nil)))
	creds, err := Identity(dir, "admin").ClientCredentials(address)
	if err != nil {
		t.Fatal(err)
	}
	living := dial(t, address, creds)
	stream, err := healthpb.NewHealthClient(living).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	first := shown(t, living)

	if _, err := WriteTryoutCertificates(dir, Tryout{Overwrite: true}); err != nil {
		t.Fatal(err)
	}
	second := shown(t, dial(t, address, creds)) // the same credentials: those of the client are read again, too
	if first.Equal(second) {
		t.Error("the new certificate is not shown")
	}
	if again := shown(t, living); !again.Equal(first) {
		t.Error("the living connection was made anew")
	}
	ended := make(chan error, 1)
	go func() {
		_, err := stream.Recv()
		ended <- err
	}()
	log.waitFor(t, "certificates were read again")

	// A file that cannot be used changes nothing, and is told once.
	key := filepath.Join(dir, "profiler-key.pem")
	good, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, good[:50], 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if !shown(t, dial(t, address, creds)).Equal(second) {
			t.Error("a broken key changed what is shown")
		}
	}
	if n := strings.Count(log.text(), "certificates changed but cannot be used"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.text())
	}
	// Then it is whole again, in place, and serves.
	if err := os.WriteFile(key, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if !shown(t, dial(t, address, creds)).Equal(second) || strings.Count(log.text(), "were read again") != 2 {
		t.Errorf("the mended key does not serve:\n%s", log.text())
	}
	select {
	case err := <-ended:
		t.Errorf("the stream of before ended: %v", err)
	default:
	}
}

// What did not change for a while is not read again.
func TestUnchangedIsNotRead(t *testing.T) {
	dir := certificates(t)
	k, err := newKeyring(Identity(dir, "profiler").files(), forServer, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	k.read = k.read.Add(2 * settled) // as if the files had been old when they were read
	before := k.current
	if k.config() != before {
		t.Error("read again")
	}
	if err := os.Chtimes(filepath.Join(dir, "root.pem"), time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if k.config() == before {
		t.Error("a change is not seen")
	}
}
