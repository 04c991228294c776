// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/carverauto/serviceradar-profiler/contexts"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// connection says which service to speak to, and as whom: a profiler, an agent
// or a poller, which all answer alike.
type connection struct {
	context string
	contexts.Place
}

// connectionHelp is a part of each command's long text that has these flags.
const connectionHelp = `
The service (a poller, an agent or a profiler) is named by --server, and the
certificate to show it by --cert-dir (which has root.pem, NAME.pem and
NAME-key.pem, where NAME is --identity) or by --cert, --key and --ca. What is not
given comes from the environment: $` + contexts.ServerVariable + `, $` + contexts.CertDirVariable + `, $` + contexts.IdentityVariable + `
and $` + contexts.ServerNameVariable + `. Where neither names a server, the context does:
that of --context or $` + contexts.ContextVariable + `, else the current one (srprof context).`

func (n *connection) addFlags(c *cobra.Command) {
	c.Flags().StringVar(&n.context, "context", "", "`NAME` of the context to take server and certificates from")
	completeFlag(c, "context", contextNames)
	addPlaceFlags(c, &n.Place)
}

func addPlaceFlags(c *cobra.Command, p *contexts.Place) {
	f := c.Flags()
	f.StringVar(&p.Server, "server", "", "`HOST` or host:port of the service; the port is "+contexts.ProfilerPort+" (a profiler's) unless given; pollers have "+contexts.PollerPort)
	f.StringVar(&p.CertDir, "cert-dir", "", "`DIR` with root.pem and the client's certificate and key")
	f.StringVar(&p.Identity, "identity", "", "`NAME` of the certificate in --cert-dir (default \""+contexts.DefaultIdentity+"\")")
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

// dialed is a service that is spoken to, reached at the first question.
type dialed struct {
	*remote.Client
	host    string // where it is, if the port was not given
	command string // what names it in another command: --server web-01
}

// dial prepares to speak to the service.
func (n *connection) dial() (*dialed, error) {
	p, err := contexts.Resolve(n.context, &n.Place)
	if err != nil {
		return nil, err
	}
	at, defaulted, err := contexts.Address(p.Server)
	if err != nil {
		return nil, err
	}
	security, err := p.Security()
	if err != nil {
		return nil, err
	}
	creds, err := security.ClientCredentials(at)
	if err != nil {
		return nil, contexts.CertificateError(err)
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
	service, at, port := contexts.Listening(ctx, d.host)
	if service == "" {
		return err
	}
	told := *e
	told.Remedy = fmt.Sprintf("port %s is a profiler's; something listens at %s, as %s does: --server %s", contexts.ProfilerPort, port, service, at)
	return &told
}
