// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
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
	"github.com/carverauto/serviceradar-profiler/spelling"
)

// connection says which service to speak to, and as whom: a profiler, an agent
// or a poller, which all answer alike.
type connection struct {
	context string
	contexts.Place
	asked []string // hosts of the service that the command line names
}

// connectionHelp is a part of each command's long text that has these flags.
const connectionHelp = `
Which service (a poller, an agent or a profiler), and with which certificate, is
said by the flags for the connection, else by $` + contexts.ServerVariable + `, $` + contexts.CertDirVariable + `,
$` + contexts.IdentityVariable + ` and $` + contexts.ServerNameVariable + `, else by the context of --context or
$` + contexts.ContextVariable + `, else by the current one; srprof context --help tells the rest.`

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
	completeDirs(c, "cert-dir")
	completeFiles(c, "cert", "key", "ca")
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
	at      string // its address
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
	d := &dialed{Client: client, at: at}
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
	return n.hint(ctx, there, do(there))
}

// hint tells what was probably meant, as far as the service's own answer does not.
func (n *connection) hint(ctx context.Context, there *dialed, err error) error {
	var e *session.Error
	if !errors.As(err, &e) {
		return err
	}
	told := *e
	switch {
	case e.Code == "unreachable":
		told.Remedy = cmp.Or(there.elsewhere(ctx), e.Remedy)
	case e.Code == "no_such_host":
		told.Remedy = n.nearHost(ctx, there) + e.Remedy
	case strings.Contains(e.Problem, there.at): // not what the service has met elsewhere
		told.Remedy = n.byFlag(e)
	}
	return &told
}

// byFlag is a remedy that names flags, where package auth speaks of keys of a
// configuration.
func (n *connection) byFlag(e *session.Error) string {
	switch e.Code {
	case "server_wrong_name":
		return "connect by a name it is for, or say which one to expect: --server-name NAME"
	case "server_unknown_authority":
		return "name the certificate of the authority that made it: --ca FILE, or root.pem in --cert-dir"
	case "no_tls":
		return "check the address; a service on this host that is configured to speak without TLS takes --insecure"
	case "closed_at_once":
		if n.Insecure {
			return "it may want certificates: leave --insecure out"
		}
	}
	return e.Remedy
}

// elsewhere tells who named no port, and got no answer, what does answer there.
func (d *dialed) elsewhere(ctx context.Context) string {
	if d.host == "" {
		return ""
	}
	service, at, port := contexts.Listening(ctx, d.host)
	if service == "" {
		return ""
	}
	return fmt.Sprintf("port %s is a profiler's; something listens at %s, as %s does: --server %s", contexts.ProfilerPort, port, service, at)
}

// nearHost names hosts that are spelled nearly as those that are not there, if
// this client may see them.
func (n *connection) nearHost(ctx context.Context, there *dialed) string {
	all, err := there.Hosts(ctx, session.Hosts{})
	if err != nil {
		return "" // there is an error already
	}
	var names []string
	for i := range all {
		names = append(names, all[i].Name)
	}
	for _, name := range n.asked {
		if near := spelling.Nearest(name, names); near != "" && !slices.Contains(names, name) {
			return fmt.Sprintf("did you mean %q? ", near)
		}
	}
	return ""
}
