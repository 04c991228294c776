// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// connection says which service to speak to, and as whom: a profiler, an agent
// or a poller, which all answer alike.
type connection struct {
	context string
	place
}

// Ports of the services. Without one a profiler is meant, which may be on any
// host; where nothing listens at that port, the error says what does.
const (
	defaultPort     = "50084"
	agentPort       = "50085"
	pollerPort      = "50086"
	defaultIdentity = "admin"
)

// What the environment says where no flag does. It does not name the files one
// by one, so that a flag never meets half of a pair from elsewhere.
const (
	serverVariable     = "SRPROF_SERVER"
	certDirVariable    = "SRPROF_CERT_DIR"
	identityVariable   = "SRPROF_IDENTITY"
	serverNameVariable = "SRPROF_SERVER_NAME"
)

// connectionHelp is a part of each command's long text that has these flags.
const connectionHelp = `
The service (a poller, an agent or a profiler) is named by --server, and the
certificate to show it by --cert-dir (which has root.pem, NAME.pem and
NAME-key.pem, where NAME is --identity) or by --cert, --key and --ca. What is not
given comes from the environment: $` + serverVariable + `, $` + certDirVariable + `, $` + identityVariable + `
and $` + serverNameVariable + `. Where neither names a server, the context does:
that of --context or $` + contextVariable + `, else the current one (srprof context).`

func (n *connection) addFlags(c *cobra.Command) {
	c.Flags().StringVar(&n.context, "context", "", "`NAME` of the context to take server and certificates from")
	completeFlag(c, "context", contextNames)
	n.place.addFlags(c)
}

func (p *place) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.Server, "server", "", "`HOST` or host:port of the service; the port is "+defaultPort+" (a profiler's) unless given; pollers have "+pollerPort)
	f.StringVar(&p.CertDir, "cert-dir", "", "`DIR` with root.pem and the client's certificate and key")
	f.StringVar(&p.Identity, "identity", "", "`NAME` of the certificate in --cert-dir (default \""+defaultIdentity+"\")")
	f.StringVar(&p.Cert, "cert", "", "`FILE` with the client's certificate, instead of --cert-dir")
	f.StringVar(&p.Key, "key", "", "`FILE` with its key")
	f.StringVar(&p.CA, "ca", "", "`FILE` with the certificates that the service's is to be signed by")
	f.StringVar(&p.ServerName, "server-name", "", "`NAME` in the service's certificate, if it is not the host in --server")
	f.BoolVar(&p.Insecure, "insecure", false, "speak without TLS, which a profiler on this host allows if its configuration does")
}

// connectionFlags are the names of these flags.
var connectionFlags = func() (names []string) {
	c := &cobra.Command{}
	new(connection).addFlags(c)
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}()

// given names the first of these flags that the command line has; "" if it has
// none.
func (n *connection) given(c *cobra.Command) string {
	for _, name := range connectionFlags {
		if c.Flags().Changed(name) {
			return name
		}
	}
	return ""
}

// named says whether the command line itself names a service.
func (n *connection) named() bool { return n.Server != "" || n.context != "" }

// flagGroups is the list of a command's flags for its help, with those about
// the connection by themselves.
func flagGroups(c *cobra.Command) string {
	own, connecting := new(pflag.FlagSet), new(pflag.FlagSet)
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if slices.Contains(connectionFlags, f.Name) {
			connecting.AddFlag(f)
		} else {
			own.AddFlag(f)
		}
	})
	text := "Flags:\n" + own.FlagUsages()
	if connecting.HasFlags() {
		text += "\nFlags for the connection:\n" + connecting.FlagUsages()
	}
	return strings.TrimRight(text, "\n")
}

// resolve finds out where to go: by flags, then by the environment, then by the
// context. A server that is named otherwise has nothing to do with the current
// context, unless that is named too.
func (n *connection) resolve() (place, error) {
	p := place{
		Server: os.Getenv(serverVariable), CertDir: os.Getenv(certDirVariable),
		Identity: os.Getenv(identityVariable), ServerName: os.Getenv(serverNameVariable),
	}
	name := cmp.Or(n.context, os.Getenv(contextVariable))
	if name != "" || cmp.Or(n.Server, p.Server) == "" {
		f, err := readContexts(false)
		if err != nil {
			return p, err
		}
		kept, err := f.find(name)
		if err != nil {
			return p, err
		}
		if kept != nil {
			p = kept.under(&p)
		}
	}
	return p.under(&n.place), nil
}

// under is p, but for what o says.
func (p place) under(o *place) place {
	if o.CertDir != "" {
		p.Cert, p.Key, p.CA = "", "", ""
	}
	p.Server, p.CertDir, p.Identity = cmp.Or(o.Server, p.Server), cmp.Or(o.CertDir, p.CertDir), cmp.Or(o.Identity, p.Identity)
	p.Cert, p.Key, p.CA = cmp.Or(o.Cert, p.Cert), cmp.Or(o.Key, p.Key), cmp.Or(o.CA, p.CA)
	p.ServerName, p.Insecure = cmp.Or(o.ServerName, p.ServerName), p.Insecure || o.Insecure
	return p
}

// dialed is a service that is spoken to, reached at the first question.
type dialed struct {
	*remote.Client
	host    string // where it is, if the port was not given
	command string // what names it in another command: --server web-01
}

// dial prepares to speak to the service.
func (n *connection) dial() (*dialed, error) {
	p, err := n.resolve()
	if err != nil {
		return nil, err
	}
	at, defaulted, err := address(p.Server)
	if err != nil {
		return nil, err
	}
	security, err := p.security()
	if err != nil {
		return nil, err
	}
	creds, err := security.ClientCredentials(at)
	if err != nil {
		return nil, certificateError(err)
	}
	client, err := remote.Dial(at, creds)
	if err != nil {
		return nil, err
	}
	d := &dialed{Client: client}
	if defaulted {
		d.host, _, _ = net.SplitHostPort(at)
	}
	if n.Server != "" {
		d.command = " --server " + n.Server
	} else if n.context != "" {
		d.command = " --context " + n.context
	}
	return d, nil
}

// ask does something with the service.
func (n *connection) ask(ctx context.Context, do func(*dialed) error) error {
	there, err := n.dial()
	if err != nil {
		return err
	}
	defer there.Close()
	return there.hint(ctx, do(there))
}

// hint tells who named no port, and got no answer, what does answer there.
func (d *dialed) hint(ctx context.Context, err error) error {
	var e *session.Error
	if d.host == "" || !errors.As(err, &e) || e.Code != "unreachable" {
		return err
	}
	for _, other := range []struct{ port, service string }{{pollerPort, "a poller"}, {agentPort, "an agent"}} {
		at := net.JoinHostPort(d.host, other.port)
		conn, dialErr := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", at)
		if dialErr != nil {
			continue
		}
		conn.Close()
		told := *e
		told.Remedy = fmt.Sprintf("port %s is a profiler's; something listens at %s, as %s does: --server %s", defaultPort, other.port, other.service, at)
		return &told
	}
	return err
}

// address completes what people write. It says whether the port is the usual
// one because none was given.
func address(s string) (at string, defaulted bool, err error) {
	if s == "" {
		return "", false, session.Invalid("no_server", "no service is named", "name one: --server HOST, $"+serverVariable+" or srprof context set")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil { // there is no port
		host, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), ""
	}
	_, notNumber := strconv.ParseUint(cmp.Or(port, defaultPort), 10, 16)
	if host == "" || notNumber != nil || strings.ContainsAny(host, "/[] ") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return "", false, session.Invalid("bad_server", fmt.Sprintf("%q is not the address of a service", s), "write it as host, host:port or [address]:port")
	}
	return net.JoinHostPort(host, cmp.Or(port, defaultPort)), port == "", nil
}
