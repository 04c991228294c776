// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/remote"
	"github.com/carverauto/serviceradar-profiler/session"
)

// connection says which profiler to speak to, and as whom.
type connection struct {
	server     string
	certDir    string
	identity   string
	cert       string
	key        string
	ca         string
	serverName string
	insecure   bool
}

const (
	defaultPort     = "50084"
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
The profiler is named by --server, and the certificate to show it by --cert-dir
(which has root.pem, NAME.pem and NAME-key.pem, where NAME is --identity) or by
--cert, --key and --ca. What is not given comes from the environment:
$` + serverVariable + `, $` + certDirVariable + `, $` + identityVariable + ` and $` + serverNameVariable + `.`

func (n *connection) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&n.server, "server", "", "`HOST` or host:port of the profiler; the port is "+defaultPort+" unless given")
	f.StringVar(&n.certDir, "cert-dir", "", "`DIR` with root.pem and the client's certificate and key")
	f.StringVar(&n.identity, "identity", "", "`NAME` of the certificate in --cert-dir (default \""+defaultIdentity+"\")")
	f.StringVar(&n.cert, "cert", "", "`FILE` with the client's certificate, instead of --cert-dir")
	f.StringVar(&n.key, "key", "", "`FILE` with its key")
	f.StringVar(&n.ca, "ca", "", "`FILE` with the certificates that the profiler's is to be signed by")
	f.StringVar(&n.serverName, "server-name", "", "`NAME` in the profiler's certificate, if it is not the host in --server")
	f.BoolVar(&n.insecure, "insecure", false, "speak without TLS, which a profiler on this host allows if its configuration does")
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

// dial prepares to speak to the profiler. It is reached at the first question.
func (n *connection) dial() (*remote.Client, error) {
	address, err := address(cmp.Or(n.server, os.Getenv(serverVariable)))
	if err != nil {
		return nil, err
	}
	security, err := n.security()
	if err != nil {
		return nil, err
	}
	creds, err := security.ClientCredentials(address)
	if err != nil {
		return nil, certificateError(err)
	}
	return remote.Dial(address, creds)
}

// address completes what people write.
func address(s string) (string, error) {
	if s == "" {
		return "", session.Invalid("no_server", "no profiler is named", "name one: --server HOST, or $"+serverVariable)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil { // there is no port
		host, port = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), ""
	}
	_, notNumber := strconv.ParseUint(cmp.Or(port, defaultPort), 10, 16)
	if host == "" || notNumber != nil || strings.ContainsAny(host, "/[] ") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return "", session.Invalid("bad_server", fmt.Sprintf("%q is not the address of a profiler", s), "write it as host, host:port or [address]:port")
	}
	return net.JoinHostPort(host, cmp.Or(port, defaultPort)), nil
}

// security is what this side shows, and what it asks of the other.
func (n *connection) security() (*auth.Security, error) {
	if n.insecure {
		return &auth.Security{Mode: auth.ModeNone}, nil // which knows where that is allowed
	}
	dir := cmp.Or(n.certDir, os.Getenv(certDirVariable))
	if dir == "" && (n.cert == "" || n.key == "" || n.ca == "") {
		return nil, session.Invalid("no_certificates", "a profiler wants to see a certificate, and none is named",
			"name their directory: --cert-dir DIR, or $"+certDirVariable+" (srprof certs makes some to try)")
	}
	s := auth.Identity(dir, cmp.Or(n.identity, os.Getenv(identityVariable), defaultIdentity))
	s.ServerName = cmp.Or(n.serverName, os.Getenv(serverNameVariable))
	for _, f := range []struct {
		flag string
		to   *string
	}{{n.cert, &s.TLS.Cert}, {n.key, &s.TLS.Key}, {n.ca, &s.TLS.CA}} {
		if f.flag == "" {
			continue
		}
		file, err := filepath.Abs(f.flag) // or it would be one in the directory
		if err != nil {
			return nil, err
		}
		*f.to = file
	}
	return s, nil
}
