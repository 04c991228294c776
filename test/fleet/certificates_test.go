// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"crypto/tls"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/agents"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// stands waits until a host is in a state.
func (f *fleet) stands(name string, want session.HostState) session.Host {
	f.t.Helper()
	var last session.Host
	daemons.Until(f.t, name+" is "+string(want), func() bool {
		hosts, err := f.client.Hosts(f.t.Context(), on(name))
		if err != nil || len(hosts) != 1 {
			f.t.Fatalf("%d hosts are called %s: %v", len(hosts), name, err)
		}
		last = hosts[0]
		return last.State == want
	})
	return last
}

// isAway waits until a host is, for a reason.
func (f *fleet) isAway(name, code, words string) {
	f.t.Helper()
	h := f.stands(name, session.HostAway)
	if h.Err == nil || h.Err.Code != code || !strings.Contains(h.Err.Problem, words) || h.Err.Remedy == "" {
		f.t.Errorf("%s is away, and that is said of it: %+v; want %s", name, h.Err, code)
	}
	if out, _ := f.srprof(f.pollerAddress(), "hosts", name); !strings.Contains(out, "away") || !strings.Contains(out, words) {
		f.t.Errorf("srprof hosts does not say %q:\n%s", words, out)
	}
}

// A host whose certificate has expired, or is not valid yet, is away, and why is
// said; with a good one it is ready again by itself.
func TestHostsCertificate(t *testing.T) {
	for _, bad := range []struct {
		name, code, words string
		from, until       time.Duration
	}{
		{"expired", "server_certificate_expired", "expired on", -48 * time.Hour, -24 * time.Hour},
		{"not yet valid", "server_certificate_not_yet_valid", "is not valid before", 24 * time.Hour, 48 * time.Hour},
	} {
		t.Run(bad.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 0)
			at := s.node("odd")
			s.issue(s.certs, "odd", at, bad.from, bad.until)
			var shown atomic.Pointer[tls.Certificate]
			show := func() {
				c, err := tls.LoadX509KeyPair(filepath.Join(s.certs, "odd.pem"), filepath.Join(s.certs, "odd-key.pem"))
				if err != nil {
					t.Fatal(err)
				}
				shown.Store(&c)
			}
			show() // as none of our services would: they look at their own certificates
			s.simulateWith(at, agents.Options{}, credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert,
				GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Load(), nil }}))
			f := s.fleet(0, nil)
			f.isAway("odd", bad.code, bad.words)
			waits := f.start(session.Spec{PIDs: []int{1}, Duration: 100 * time.Millisecond, Hosts: on("odd")})
			if h := waits.Hosts[0]; waits.State.Final() || !strings.Contains(h.Waiting, bad.words) {
				t.Errorf("a session of that host is %s, and waits for %q", waits.State, h.Waiting)
			}
			s.issue(s.certs, "odd", at, -time.Hour, time.Hour)
			show()
			f.stands("odd", session.HostReady)
			last := f.ended(waits.ID)
			f.endsAsOneOf(&last, nil)
		})
	}
}

// An agent has a certificate of another authority: it believes nobody, and
// nobody believes it. With the right one again, all is well by itself.
func TestAnotherAuthority(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	own := t.TempDir()
	if _, err := auth.WriteTryoutCertificates(own, auth.Tryout{Hosts: []string{s.hosts[0].address}, KeepKey: true}); err != nil {
		t.Fatal(err)
	}
	good := s.certs
	f := s.fleet(1, nil)
	h := s.hosts[0]
	use := func(dir string) {
		for _, name := range []string{"agent", "agent-key"} {
			copyFile(t, filepath.Join(dir, name+".pem"), filepath.Join(good, name+".pem"))
		}
	}
	kept := t.TempDir()
	for _, name := range []string{"agent", "agent-key"} {
		copyFile(t, filepath.Join(good, name+".pem"), filepath.Join(kept, name+".pem"))
	}
	use(own)
	h.agent.Kill() // connections that live are not asked again for their certificates
	h.agent.Start()
	f.isAway(h.name, "server_unknown_authority", "was not made by an authority that is believed here")
	use(kept)
	f.stands(h.name, session.HostReady)
	f.endsAs("started after that", f.start(session.Spec{PIDs: []int{programs.Start(t, "split.c", programs.Options{}).PID}, Duration: time.Second, Hosts: on(h.name)}).ID, well)
}

// The poller's certificate is replaced while a session runs: nothing is
// dropped, and whom it calls, and who calls it, is shown the new one from then
// on.
func TestPollersCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, nil)
	target := programs.Start(t, "split.c", programs.Options{})
	one := f.start(session.Spec{PIDs: []int{target.PID}, Duration: 3 * time.Second, Hosts: on("web-01")})
	before := f.serial()
	f.issue(f.certs, "poller", f.hub, -time.Hour, time.Hour)
	f.poller.Signal(syscall.SIGHUP)
	f.poller.WaitFor("the configuration was read again")
	if after := f.serial(); after == before {
		t.Error("the new certificate is not shown")
	}
	if got, err := f.client.Get(t.Context(), one.ID); err != nil { // over the connection of before
		t.Errorf("%s, %v", got.State, err)
	}
	f.endsAs("running meanwhile", one.ID, well)
	h := f.hosts[0]
	h.agent.Kill()
	h.agent.Start()
	f.endsAs("started after that", f.start(session.Spec{PIDs: []int{target.PID}, Duration: time.Second, Hosts: on("web-01")}).ID, well)
	if len(f.failed()) > 0 {
		t.Errorf("%v", f.failed())
	}
	f.balance(2)
}

// failed are the sessions that have.
func (f *fleet) failed() (all []session.Session) {
	f.t.Helper()
	all, err := f.client.List(f.t.Context(), session.Filter{States: []session.State{session.StateFailed, session.StateCanceled}})
	if err != nil {
		f.t.Fatal(err)
	}
	return all
}

// serial is the number of the certificate that the poller shows to whom connects
// now.
func (f *fleet) serial() string {
	f.t.Helper()
	raw, err := f.hub.dial(f.t.Context(), f.pollerAddress())
	if err != nil {
		f.t.Fatal(err)
	}
	defer raw.Close()
	admin, err := tls.LoadX509KeyPair(filepath.Join(f.certs, "admin.pem"), filepath.Join(f.certs, "admin-key.pem"))
	if err != nil {
		f.t.Fatal(err)
	}
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{admin}, NextProtos: []string{"h2"}}) // which it is, is what is asked
	if err := c.HandshakeContext(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}
