// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/contexts"
)

func certsCommand(s streams) *cobra.Command {
	var dir string
	var t auth.Tryout
	c := &cobra.Command{
		Use:   "certs --dir DIR [flags]",
		Short: "Make certificates to try the services out with",
		Long: `Makes an authority, and certificates of it for the services and for a client
named admin, in the files that ServiceRadar has: root.pem, NAME.pem and
NAME-key.pem, where NAME is profiler, agent, poller or admin. Those of the
services are valid for localhost, 127.0.0.1, ::1 and each --host.

The authority's key is thrown away, so that nobody can make more of them: to
have another one, make all anew. Certificates for production come from the
authority of your ServiceRadar.`,
		Example: "  srprof certs --dir certs\n  srprof certs --dir certs --host web1.example --host 192.0.2.7 --force",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			files, err := auth.WriteTryoutCertificates(dir, t)
			for _, f := range files {
				fmt.Fprintln(s.Out, f)
			}
			return contexts.CertificateError(err)
		},
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "directory to write to; it is made if it is missing")
	f.StringArrayVar(&t.Hosts, "host", nil, "name or IP address by which the services are reached, too; may be given several times")
	f.DurationVar(&t.Valid, "valid", 90*24*time.Hour, "how long they are valid")
	f.BoolVar(&t.Overwrite, "force", false, "overwrite what is there")
	f.BoolVar(&t.KeepKey, "keep-root-key", false, "keep the authority's key, in root-key.pem")
	completeDirs(c, "dir")
	if err := c.MarkFlagRequired("dir"); err != nil {
		panic(err) // it was defined just now
	}
	return c
}
