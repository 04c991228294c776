// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/x509"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// workloadServer is a workload API as an agent serves it on a socket, by the
// protocol of SPIFFE (standards/SPIFFE_Workload_API.md).
type workloadServer struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	mu      sync.Mutex
	now     *workload.X509SVIDResponse // nil: nobody is registered
	changed chan struct{}
}

func (w *workloadServer) FetchX509SVID(_ *workload.X509SVIDRequest, out grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	if md, _ := metadata.FromIncomingContext(out.Context()); len(md["workload.spiffe.io"]) != 1 {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	for {
		w.mu.Lock()
		now, changed := w.now, w.changed
		w.mu.Unlock()
		if now == nil {
			return status.Error(codes.PermissionDenied, "no identity issued")
		}
		if err := out.Send(now); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-out.Context().Done():
			return out.Context().Err()
		}
	}
}

func (w *workloadServer) set(r *workload.X509SVIDResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = r
	close(w.changed)
	w.changed = make(chan struct{})
}

// workloadAPI serves one identity on a socket of its own.
func workloadAPI(t *testing.T, r *workload.X509SVIDResponse) (*workloadServer, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	w := &workloadServer{now: r, changed: make(chan struct{})}
	s := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(s, w)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w, socket
}

// svid is an identity of the authority's, as the workload API hands it out.
func svid(t *testing.T, authority *issued, id string, change func(*template)) *workload.X509SVIDResponse {
	t.Helper()
	c, err := newTemplate("", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	c.URIs = []*url.URL{u}
	c.KeyUsage = x509.KeyUsageDigitalSignature
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if change != nil {
		change(c)
	}
	made, err := c.sign(authority)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.key)
	if err != nil {
		t.Fatal(err)
	}
	return &workload.X509SVIDResponse{Svids: []*workload.X509SVID{{SpiffeId: id, X509Svid: made.der, X509SvidKey: key, Bundle: authority.der}}}
}

// domainRoot is an authority with the trust domain's name in it, as SPIFFE
// wants.
func domainRoot(t *testing.T, domain string) *issued {
	t.Helper()
	c, err := newTemplate("authority of "+domain, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c.IsCA, c.BasicConstraintsValid = true, true
	c.KeyUsage = x509.KeyUsageCertSign
	c.URIs = []*url.URL{{Scheme: "spiffe", Host: domain}}
	r, err := c.sign(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func spiffe(socket, serverName string) *Security {
	return &Security{Mode: "spiffe", TrustDomain: "example.org", WorkloadSocket: "unix:" + socket, ServerName: serverName}
}

func TestSPIFFE(t *testing.T) {
	r, other := domainRoot(t, "example.org"), domainRoot(t, "example.org")
	foreign := domainRoot(t, "elsewhere.org")
	_, serverSocket := workloadAPI(t, svid(t, r, "spiffe://example.org/profiler", nil))
	with := func(a, b *workload.X509SVIDResponse) *workload.X509SVIDResponse { // a's identity, and both authorities believed
		a.FederatedBundles = map[string][]byte{"spiffe://elsewhere.org": b.Svids[0].Bundle}
		return a
	}
	strangerKnown := svid(t, foreign, "spiffe://elsewhere.org/agent", nil)
	strangerKnown.FederatedBundles = map[string][]byte{"spiffe://example.org": r.der}
	_, federating := workloadAPI(t, with(svid(t, r, "spiffe://example.org/profiler", nil), svid(t, foreign, "spiffe://elsewhere.org/x", nil)))
	for _, c := range []struct {
		name       string
		server     string
		client     *workload.X509SVIDResponse
		serverName string
		want, log  string
	}{
		{"both of the domain", serverSocket, svid(t, r, "spiffe://example.org/agent", nil), "", "", ""},
		{"the server that was named", serverSocket, svid(t, r, "spiffe://example.org/agent", nil), "spiffe://example.org/profiler", "", ""},
		{"not the server that was named", serverSocket, svid(t, r, "spiffe://example.org/agent", nil), "spiffe://example.org/poller", "unexpected ID", ""},
		{"of another authority", serverSocket, svid(t, other, "spiffe://example.org/agent", nil), "", "was not made by an authority that is believed here", ""},
		{"of a domain that is known, but not ours", federating, strangerKnown, "spiffe://example.org/profiler", "bad certificate", "unexpected trust domain"},
		{"expired", serverSocket, svid(t, r, "spiffe://example.org/agent", expired), "", "certificate", "expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, socket := workloadAPI(t, c.client)
			var log logged
			address := server(t, spiffe(c.server, ""), slogTo(&log))
			err := ask(t, client(t, spiffe(socket, c.serverName), address))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if c.log != "" {
				log.waitFor(t, c.log)
			}
		})
	}
}

// Whom a server must be can be said by either key; what is no ID is refused, and
// does not mean anybody.
func TestSPIFFEServerID(t *testing.T) {
	r := domainRoot(t, "example.org")
	_, socket := workloadAPI(t, svid(t, r, "spiffe://example.org/profiler", nil))
	address := server(t, spiffe(socket, ""), nil)
	for _, c := range []struct{ name, id, want string }{
		{"", "spiffe://example.org/profiler", ""},
		{"core.example.org", "spiffe://example.org/profiler", ""},
		{"spiffe://example.org/core", "spiffe://example.org/profiler", ""},
		{"core.example.org", "spiffe://example.org/core", "unexpected ID"},
		{"core.example.org", "", ""},
	} {
		s := spiffe(socket, c.name)
		s.ServerSPIFFEID = c.id
		if err := ask(t, client(t, s, address)); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	s := spiffe(socket, "")
	s.ServerSPIFFEID = "core.example.org"
	if _, err := s.ClientCredentials(address); code(err) != "server_name_invalid" {
		t.Errorf("%v", err)
	}
}

// Peers without an identity of SPIFFE are refused, though TLS is in order.
func TestSPIFFERefusesOthers(t *testing.T) {
	r := domainRoot(t, "example.org")
	_, socket := workloadAPI(t, svid(t, r, "spiffe://example.org/profiler", nil))
	var log logged
	address := server(t, spiffe(socket, ""), slogTo(&log))
	for name, s := range map[string]*Security{"no identity": made(t, r, "agent", nil)} {
		if err := ask(t, dial(t, address, raw(t, s, insecureVerify))); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := ask(t, dial(t, address, raw(t, made(t, r, "agent", nil), noCertificate))); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("no certificate: %v", err)
	}
	if err := ask(t, dial(t, address, raw(t, made(t, r, "agent", nil), tls12))); err == nil || !strings.Contains(err.Error(), "protocol version not supported") {
		t.Errorf("TLS 1.2: %v", err)
	}
}

// Who calls is known by his SPIFFE ID, and by the new one when it changes; a
// connection that lives goes on.
func TestSPIFFERotates(t *testing.T) {
	r := domainRoot(t, "example.org")
	_, at := workloadAPI(t, svid(t, r, "spiffe://example.org/profiler", nil))
	api, socket := workloadAPI(t, svid(t, r, "spiffe://example.org/agents/1", nil))
	atServer, err := spiffe(at, "").ServerCredentials(":1", nil)
	if err != nil {
		t.Fatal(err)
	}
	atClient, err := spiffe(socket, "").ClientCredentials("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := calledBy(t, atServer, atClient)
	if err != nil || p.Name() != "spiffe://example.org/agents/1" || !p.Is("spiffe://example.org/agents/*") {
		t.Errorf("%+v, %v", p, err)
	}
	api.set(svid(t, r, "spiffe://example.org/agents/2", nil))
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if p, err = calledBy(t, atServer, atClient); err == nil && p.Name() == "spiffe://example.org/agents/2" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the new certificate is not in use: %+v, %v", p, err)
		}
	}
}

func TestSPIFFEUnavailable(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for as long as the program does")
	}
	_, refusing := workloadAPI(t, nil)
	for name, c := range map[string]struct{ socket, want string }{
		"nobody there":   {filepath.Join(t.TempDir(), "none.sock"), "no such file"},
		"not registered": {refusing, "no identity issued"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := spiffe(c.socket, "").ServerCredentials(":1", nil)
			if code(err) != "workload_api_unavailable" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}
