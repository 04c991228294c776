// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/debugfile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// debugFlags say where debug files are looked for besides the usual places.
type debugFlags struct {
	options  debugfile.Options
	servers  []string
	megabyte int64
}

// fromEnvironment stands for the servers that the environment names. They are
// not asked unless somebody says so here: a variable that some login script
// has set should not tell a server what runs on this host.
const fromEnvironment = "env"

const serversVariable = "DEBUGINFOD_URLS" // debuginfod-find(1)

func (d *debugFlags) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&d.options.Dirs, "debug-dir", nil, "`DIR` with debug files, laid out like "+debugfile.SystemDir+", which is looked into anyway; may be given several times")
	f.StringArrayVar(&d.servers, "debuginfod", nil, "`URL` of a debuginfod server to ask for debug files, or "+fromEnvironment+" for those in $"+serversVariable+"; it learns the build IDs of what is profiled; may be given several times")
	f.DurationVar(&d.options.Servers.Time, "debuginfod-time", debugfile.DefaultTime, "how long to wait for servers, for all files together")
	f.Int64Var(&d.megabyte, "debuginfod-size", debugfile.DefaultMaxFile>>20, "largest file to take from a server, in `MB`")
	completeDirs(c, "debug-dir")
	completeWords(c, "debuginfod", fromEnvironment)
}

// check completes the options.
func (d *debugFlags) check() error {
	for i, dir := range d.options.Dirs {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "open", Path: dir, Err: unix.ENOTDIR}
		}
		if err == nil {
			d.options.Dirs[i], err = filepath.Abs(dir)
		}
		if err != nil {
			return noDebugDir(err)
		}
	}
	o := &d.options.Servers
	if o.Time <= 0 || d.megabyte <= 0 || d.megabyte > 1<<20 {
		return session.Invalid("bad_debuginfod", "--debuginfod-time and --debuginfod-size are more than nothing", "leave them out for the usual limits")
	}
	o.MaxFile = d.megabyte << 20
	for _, s := range d.servers {
		if s != fromEnvironment {
			o.URLs = append(o.URLs, s)
			continue
		}
		n := len(o.URLs)
		for _, u := range strings.Fields(os.Getenv(serversVariable)) {
			if strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "https://") { // others are options
				o.URLs = append(o.URLs, u)
			}
		}
		if len(o.URLs) == n {
			return session.Invalid("no_debuginfod", fmt.Sprintf("$%s names no server", serversVariable), "name one: --debuginfod URL")
		}
	}
	if err := o.Validate(); err != nil {
		return session.Invalid("bad_debuginfod", err.Error(), "servers are named like https://debuginfod.example.org")
	}
	return nil
}
