// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

func upCommand(s streams) *cobra.Command {
	var u up
	c := &cobra.Command{
		Use:   "up [flags]",
		Short: "Run profiler, agent and poller on this machine, to try the whole system",
		Long: `Starts the three services as they are installed on many hosts, on this one: with
certificates made for it, on free ports of the loopback interface, and with what
they keep in a directory that is removed at the end. It makes a context of it,
so that srprof run, ps, list and all others find it; then it says what to type.

Ctrl-C ends it, and nothing of it remains; nor does it however else it ends. The
profiler needs to be root, and so does this command. With sudo, what it makes
can be used by who called sudo.

The programs are looked for beside srprof, then in $PATH.`,
		Example: `  sudo srprof up
  sudo srprof up --dir /var/tmp/try                keeps sessions, profiles and certificates
  sudo srprof up --listen 192.0.2.7                for others to call, on the usual ports`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			u.streams = s
			return u.run(c.Context())
		},
	}
	f := c.Flags()
	f.StringVar(&u.dir, "dir", "", "keep everything in `DIR`, and go on with what is there (default: a temporary directory)")
	f.StringVar(&u.listen, "listen", "", "`HOST` or address to listen at, on the usual ports (default: free ports of 127.0.0.1)")
	c.AddCommand(upCleanupCommand())
	return c
}

// up is the whole system on one machine.
type up struct {
	streams
	dir, listen string

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

func (u *up) run(ctx context.Context) (err error) {
	programs, err := findPrograms()
	if err != nil {
		return err
	}
	if err := u.prepare(); err != nil {
		return err
	}
	keep, err := u.startKeeper()
	if err != nil {
		return errors.Join(err, u.remove())
	}
	defer func() { err = errors.Join(err, u.stop(), keep.end()) }()
	place, err := u.startAll(ctx, programs)
	if err != nil {
		return err
	}
	if err := u.writeContext(place); err != nil {
		return err
	}
	u.tell(place)
	select {
	case <-ctx.Done():
		fmt.Fprintln(u.err, "srprof: ending")
		return nil
	case c := <-firstToEnd(u.services):
		return c.died()
	}
}

// findPrograms finds the services' programs, and says what to do where there is
// one too few, or no right to use them.
func findPrograms() (map[string]string, error) {
	own, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil, session.NotPermitted("not_root", "the profiler that is to be started needs to be root", "type: sudo "+own+" up", nil)
	}
	found := map[string]string{}
	for _, name := range []string{profilerProgram, agentProgram, pollerProgram} {
		path, err := lookBeside(own, name)
		if err != nil {
			return nil, &session.Error{Code: "program_missing", Kind: err, Problem: fmt.Sprintf("%s is neither in %s nor in $PATH", name, filepath.Dir(own)),
				Remedy: "install its package, or put it beside srprof: make build makes all of them"}
		}
		found[name] = path
	}
	return found, nil
}

// prepare makes the directory with the certificates.
func (u *up) prepare() (err error) {
	if u.host, err = os.Hostname(); err != nil {
		return fmt.Errorf("find this host's name: %w", err)
	}
	u.user = -1
	if id, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil && id > 0 {
		u.user = id
	}
	if u.temporary = u.dir == ""; u.temporary {
		u.dir, err = os.MkdirTemp("", "srprof-up-*")
	} else if u.dir, err = filepath.Abs(u.dir); err == nil {
		err = os.MkdirAll(u.dir, 0o700)
	}
	if err != nil {
		return err
	}
	if err := u.makeCertificates(); err != nil {
		return errors.Join(err, u.remove())
	}
	return nil
}

func (u *up) makeCertificates() error {
	dir := u.certs()
	if _, err := os.Stat(filepath.Join(dir, "root.pem")); err != nil {
		t := auth.Tryout{Hosts: []string{u.host}}
		if u.listen != "" && u.listen != u.host {
			t.Hosts = append(t.Hosts, u.listen)
		}
		if _, err := auth.WriteTryoutCertificates(dir, t); err != nil {
			return certificateError(err)
		}
	}
	if u.user < 0 {
		return nil
	}
	// Who called sudo may pass through, to the key that is his.
	return errors.Join(os.Chmod(u.dir, 0o711), os.Chmod(dir, 0o755), os.Chown(filepath.Join(dir, defaultIdentity+"-key.pem"), u.user, -1))
}

func (u *up) certs() string { return filepath.Join(u.dir, "certs") }

// remove removes the directory, unless it is to be kept.
func (u *up) remove() error {
	if !u.temporary {
		return nil
	}
	return os.RemoveAll(u.dir)
}

// object is JSON to be.
type object map[string]any

// startAll starts each service when the one that it calls is there, and waits
// until this host can be profiled through all of them.
func (u *up) startAll(ctx context.Context, programs map[string]string) (place, error) {
	poller, err := u.startServices(ctx, programs)
	if err != nil {
		return place{}, err
	}
	p := place{Server: poller, CertDir: u.certs()}
	return p, u.waitUntilReady(ctx, &p)
}

// startServices returns the address of the last of them, the poller.
func (u *up) startServices(ctx context.Context, programs map[string]string) (address string, err error) {
	calling := "" // the one before
	for _, s := range []struct {
		name, port string
		more       func() object
	}{
		{profilerProgram, "50084", func() object { return object{"access": mayAll("agent")} }},
		{agentProgram, "50085", func() object {
			return object{"agent_id": u.host, "profiler_address": calling, "access": mayAll("poller")}
		}},
		{pollerProgram, "50086", func() object {
			return object{"data_dir": filepath.Join(u.dir, "data"), "access": mayAll(defaultIdentity), "agents": object{u.host: object{"address": calling}}}
		}},
	} {
		config := s.more()
		config["listen_addr"] = "127.0.0.1:0"
		if u.listen != "" {
			config["listen_addr"] = net.JoinHostPort(u.listen, s.port)
		}
		short := strings.TrimPrefix(s.name, "serviceradar-profiler-")
		if s.name == profilerProgram {
			short = "profiler"
		}
		config["security"] = auth.Identity(u.certs(), short)
		c, err := startChild(u.dir, programs[s.name], config, u.err)
		if err != nil {
			return "", err
		}
		u.services = append(u.services, c)
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
func (u *up) waitUntilReady(ctx context.Context, p *place) error {
	security, err := p.security()
	if err != nil {
		return err
	}
	creds, err := security.ClientCredentials(p.Server)
	if err != nil {
		return certificateError(err)
	}
	client, err := remote.Dial(p.Server, creds)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	ended := firstToEnd(u.services)
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
			return errors.Join(ctx.Err(), last)
		case c := <-ended:
			return c.died()
		case <-time.After(lookEvery):
		}
	}
}

// tell says what to type.
func (u *up) tell(p place) {
	fmt.Fprintf(u.err, "srprof: profiler, agent and poller serve; the poller is at %s\n", p.Server)
	fmt.Fprint(u.err, "\nIn another terminal:\n\n")
	if u.user >= 0 {
		fmt.Fprintf(u.out, "  export %s=%s\n", configVariable, u.userConfig())
	}
	fmt.Fprintf(u.out, `  srprof hosts
  srprof ps %[1]s
  srprof run %[1]s --hottest -d 10s -o flame.svg
`, u.host)
	kept := "and removes all of it"
	if !u.temporary {
		kept = "and keeps " + u.dir
	}
	fmt.Fprintf(u.err, "\nCtrl-C ends it %s. Logs are in %s.\n", kept, u.dir)
}
