// SPDX-License-Identifier: Apache-2.0

// Package tryout is the whole system on one machine, to try it: profiler, agent
// and poller with certificates and a context made for them. Nothing of it remains
// however it ends.
package tryout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/contexts"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// System is profiler, agent and poller on this machine.
type System struct {
	Dir    string    // where everything is kept; empty: in a temporary directory
	Listen string    // host or address, for the usual ports; empty: free ports of the loopback interface
	Log    io.Writer // gets the last words of a service that ends by itself

	temporary bool
	host      string // this one's name
	user      int    // who called sudo; -1: nobody did
	services  []*child
}

const (
	// readyTime is for three programs that start, and a machine that is busy.
	readyTime = 30 * time.Second
	// endTime is for one that was told to end. Sessions are not waited for.
	endTime = 5 * time.Second
)

// Run starts the system, says so when a session can be started on it, and ends it
// when ctx is over. It ends with an error if a service does.
func (s *System) Run(ctx context.Context, ready func(*Ready)) (err error) {
	programs, err := findPrograms()
	if err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return err
	}
	keep, err := s.startKeeper()
	if err != nil {
		return errors.Join(err, s.remove())
	}
	defer func() { err = errors.Join(err, s.stop(), keep.end()) }()
	poller, err := s.startAll(ctx, programs)
	if err != nil {
		return err
	}
	if err := s.writeContext(poller); err != nil {
		return err
	}
	ready(s.told(poller))
	select {
	case <-ctx.Done():
		return nil
	case c := <-firstToEnd(s.services):
		return c.died()
	}
}

// Ready is what to tell people of a system that runs.
type Ready struct {
	Poller string // its address
	Host   string // the name of the one host
	Dir    string // with logs and everything that is kept
	Kept   bool   // the directory stays
	Config string // the file with the context, if it is not the usual one
}

func (s *System) told(poller contexts.Place) *Ready {
	r := &Ready{Poller: poller.Server, Host: s.host, Dir: s.Dir, Kept: !s.temporary}
	if s.user >= 0 {
		r.Config = s.userConfig()
	}
	return r
}

// prepare makes the directory with the certificates.
func (s *System) prepare() (err error) {
	if s.host, err = os.Hostname(); err != nil {
		return fmt.Errorf("find this host's name: %w", err)
	}
	s.user = -1
	if id, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil && id > 0 {
		s.user = id
	}
	if s.temporary = s.Dir == ""; s.temporary {
		s.Dir, err = os.MkdirTemp("", "srprof-up-*")
	} else if s.Dir, err = filepath.Abs(s.Dir); err == nil {
		err = os.MkdirAll(s.Dir, 0o700)
	}
	if err != nil {
		return err
	}
	if err := s.makeCertificates(); err != nil {
		return errors.Join(err, s.remove())
	}
	return nil
}

func (s *System) makeCertificates() error {
	dir := s.certs()
	if _, err := os.Stat(filepath.Join(dir, "root.pem")); err != nil {
		t := auth.Tryout{Hosts: []string{s.host}}
		if s.Listen != "" && s.Listen != s.host {
			t.Hosts = append(t.Hosts, s.Listen)
		}
		if _, err := auth.WriteTryoutCertificates(dir, t); err != nil {
			return contexts.CertificateError(err)
		}
	}
	if s.user < 0 {
		return nil
	}
	// Who called sudo may pass through, to the key that is his.
	return errors.Join(os.Chmod(s.Dir, 0o711), os.Chmod(dir, 0o755), os.Chown(filepath.Join(dir, contexts.DefaultIdentity+"-key.pem"), s.user, -1))
}

func (s *System) certs() string { return filepath.Join(s.Dir, "certs") }

// remove removes the directory, unless it is to be kept.
func (s *System) remove() error {
	if !s.temporary {
		return nil
	}
	return os.RemoveAll(s.Dir)
}

// object is JSON to be.
type object map[string]any

// startAll starts each service when the one that it calls is there, and waits
// until this host can be profiled through all of them.
func (s *System) startAll(ctx context.Context, programs map[string]string) (contexts.Place, error) {
	poller, err := s.startServices(ctx, programs)
	if err != nil {
		return contexts.Place{}, err
	}
	p := contexts.Place{Server: poller, CertDir: s.certs()}
	return p, s.waitUntilReady(ctx, &p)
}

// startServices returns the address of the last of them, the poller.
func (s *System) startServices(ctx context.Context, programs map[string]string) (address string, err error) {
	calling := "" // the one before
	for _, one := range []struct {
		name, port string
		more       func() object
	}{
		{profilerProgram, "50084", func() object { return object{"access": mayAll("agent")} }},
		{agentProgram, "50085", func() object {
			return object{"agent_id": s.host, "profiler_address": calling, "access": mayAll("poller")}
		}},
		{pollerProgram, "50086", func() object {
			return object{"data_dir": filepath.Join(s.Dir, "data"), "access": mayAll(contexts.DefaultIdentity), "agents": object{s.host: object{"address": calling}}}
		}},
	} {
		config := one.more()
		config["listen_addr"] = "127.0.0.1:0"
		if s.Listen != "" {
			config["listen_addr"] = net.JoinHostPort(s.Listen, one.port)
		}
		short := strings.TrimPrefix(one.name, "serviceradar-profiler-")
		if one.name == profilerProgram {
			short = "profiler"
		}
		config["security"] = auth.Identity(s.certs(), short)
		c, err := startChild(s.Dir, programs[one.name], config, s.Log)
		if err != nil {
			return "", err
		}
		s.services = append(s.services, c)
		if calling, err = c.listening(ctx, readyTime); err != nil {
			return "", err
		}
	}
	return calling, nil
}

// mayAll gives all permissions to one identity of the certificates.
func mayAll(name string) object {
	return object{"roles": object{name + ".serviceradar": []string{"admin"}}}
}

// waitUntilReady asks the poller until it says that this host can be profiled.
func (s *System) waitUntilReady(ctx context.Context, p *contexts.Place) error {
	security, err := p.Security()
	if err != nil {
		return err
	}
	creds, err := security.ClientCredentials(p.Server)
	if err != nil {
		return contexts.CertificateError(err)
	}
	client, err := remote.Dial(p.Server, creds)
	if err != nil {
		return err
	}
	defer client.Close()
	late, ended := time.After(readyTime), firstToEnd(s.services)
	var last error
	for {
		hosts, err := client.Hosts(ctx, session.Hosts{})
		switch {
		case err != nil:
			last = err
		case len(hosts) == 1 && hosts[0].State == session.HostReady:
			return nil
		case len(hosts) == 1 && hosts[0].Err != nil:
			last = hosts[0].Err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return &session.Error{Code: "host_not_ready", Kind: session.ErrUnavailable, Problem: "the services run, but this host cannot be profiled yet", Cause: last,
				Remedy: "srprof doctor tells what it lacks; with --dir, the services' logs stay"}
		case c := <-ended:
			return c.died()
		case <-time.After(lookEvery):
		}
	}
}

// stop ends all of them: who calls before who is called.
func (s *System) stop() error {
	var all []error
	for _, c := range slices.Backward(s.services) {
		all = append(all, c.stop())
	}
	return errors.Join(all...)
}
