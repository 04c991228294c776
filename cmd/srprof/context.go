// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/carverauto/serviceradar-profiler/contexts"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

func contextCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "context",
		Short: "Name services and certificates once: list, use, show, set, delete",
		Long: `A context is a service and the certificate to show it, under a name. The current
one is used where neither a flag nor $` + contexts.ServerVariable + ` names a server, and neither
--context nor $` + contexts.ContextVariable + ` another context.

The certificate is that of --identity in --cert-dir: a directory with root.pem,
NAME.pem and NAME-key.pem. Or the files are named one by one: --cert, --key, --ca.

Contexts are in $` + contexts.ConfigVariable + `, else in srprof/config.json below $XDG_CONFIG_HOME
(by default ~/.config). Files that it names are relative to it.`,
		Example: `  srprof context set prod --server poller.example:50086 --cert-dir ~/certs/prod
  srprof context set lab --server lab-01 --cert-dir ~/certs/lab
  srprof context use prod
  srprof --help && srprof hosts --context lab`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(contextListCommand(s), contextUseCommand(s), contextShowCommand(s), contextSetCommand(s), contextDeleteCommand(s))
	return c
}

func contextListCommand(s streams) *cobra.Command {
	var form formFlag
	c := &cobra.Command{
		Use:   "list",
		Short: "List the contexts, the current one marked",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := contexts.Read()
			if err != nil {
				return err
			}
			if form.json() {
				return writeJSON(s.Out, f)
			}
			if len(f.Contexts) == 0 {
				fmt.Fprintf(s.Err, "srprof: there are no contexts; %s\n", f.Known())
				return nil
			}
			t := terminal.NewTable(s.Out, "CURRENT", "NAME", "SERVER", "CERTIFICATES")
			for _, name := range f.Names() {
				p := f.Contexts[name]
				mark := " "
				if name == f.Current {
					mark = "*"
				}
				t.Row(mark, name, p.FullServer(), p.Shown())
			}
			return t.Write()
		},
	}
	form.addFormFlag(c, false)
	return c
}

func contextShowCommand(s streams) *cobra.Command {
	var form formFlag
	c := &cobra.Command{
		Use:   "show [NAME]",
		Short: "Show the current context, or that of a name",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := contexts.Read()
			if err != nil {
				return err
			}
			name := strings.Join(args, "")
			p, err := f.Find(name)
			if err == nil && p == nil {
				err = session.Invalid("no_context", "no context is the current one", f.Known())
			}
			if err != nil {
				return err
			}
			if form.json() {
				return writeJSON(s.Out, struct {
					Name string `json:"name"`
					*contexts.Place
				}{cmp.Or(name, f.Current), p})
			}
			t := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
			for _, field := range [][2]string{{"name", cmp.Or(name, f.Current)}, {"server", p.FullServer()}, {"certificate", p.Shown()},
				{"key", p.Key}, {"authority", p.CA}, {"server name", p.ServerName}, {"kept in", f.At()}} {
				if field[1] != "" {
					fmt.Fprintf(t, "%s\t%s\n", field[0], terminal.Printable(field[1]))
				}
			}
			return t.Flush()
		},
	}
	form.addFormFlag(c, false)
	completeContexts(c)
	return c
}

func contextUseCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "use NAME",
		Short: "Make a context the current one",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return contexts.Change(func(f *contexts.File) error {
				if _, err := f.Find(args[0]); err != nil || args[0] == "" {
					return cmp.Or(err, error(session.Invalid("no_context", "no context is named", f.Known())))
				}
				f.Current = args[0]
				fmt.Fprintf(s.Err, "srprof: the context is %s now\n", terminal.Printable(args[0]))
				return nil
			})
		},
	}
	completeContexts(c)
	return c
}

func contextSetCommand(s streams) *cobra.Command {
	var given contexts.Place
	c := &cobra.Command{
		Use:   "set NAME [flags]",
		Short: "Make a context, or change what the flags say of one",
		Long: `Makes a context, or changes of one that is there what the flags say. The first
one is the current one at once. Nothing is asked of the server, and keys are not
copied: the context names the files.`,
		Example: `  srprof context set prod --server poller.example:50086 --cert-dir ~/certs/prod
  srprof context set prod --identity alice`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			if name == "" || name != terminal.Printable(name) || strings.ContainsAny(name, " \t") {
				return session.Invalid("bad_context", fmt.Sprintf("%q is no name of a context", name), "use letters, digits and signs")
			}
			return contexts.Change(func(f *contexts.File) error {
				p := f.Contexts[name]
				if err := take(&p, &given, c.Flags()); err != nil {
					return err
				}
				if f.Contexts == nil {
					f.Contexts = map[string]contexts.Place{}
				}
				f.Contexts[name] = p
				f.Current = cmp.Or(f.Current, name)
				fmt.Fprintf(s.Err, "srprof: context %s: %s, certificate %s\n", terminal.Printable(name), cmp.Or(terminal.Printable(p.FullServer()), "no server"), terminal.Printable(p.Shown()))
				return nil
			})
		},
	}
	addPlaceFlags(c, &given)
	completeContexts(c)
	return c
}

// take takes over what the flags say. What they do not say stays, but for the
// other way to name certificates.
func take(p, given *contexts.Place, flags *pflag.FlagSet) error {
	if flags.Changed("server") {
		if _, _, err := contexts.Address(given.Server); err != nil {
			return err
		}
	}
	for _, f := range given.Files() {
		if *f == "" {
			continue
		}
		file, err := filepath.Abs(*f)
		if err != nil {
			return err
		}
		*f = file
	}
	if flags.Changed("cert-dir") {
		p.Cert, p.Key, p.CA = "", "", ""
	}
	if flags.Changed("insecure") {
		p.Insecure = given.Insecure
	}
	for _, f := range []struct {
		flag     string
		to, from *string
	}{{"server", &p.Server, &given.Server}, {"cert-dir", &p.CertDir, &given.CertDir}, {"identity", &p.Identity, &given.Identity}, {"cert", &p.Cert, &given.Cert},
		{"key", &p.Key, &given.Key}, {"ca", &p.CA, &given.CA}, {"server-name", &p.ServerName, &given.ServerName}} {
		if flags.Changed(f.flag) {
			*f.to = *f.from
		}
	}
	return nil
}

func contextDeleteCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "delete NAME",
		Short: "Forget a context; the files that it names stay",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return contexts.Change(func(f *contexts.File) error {
				if _, err := f.Find(args[0]); err != nil || args[0] == "" {
					return cmp.Or(err, error(session.Invalid("no_context", "no context is named", f.Known())))
				}
				delete(f.Contexts, args[0])
				if f.Current == args[0] {
					f.Current = ""
					fmt.Fprintln(s.Err, "srprof: it was the current one: none is now")
				}
				return nil
			})
		},
	}
	completeContexts(c)
	return c
}
