// SPDX-License-Identifier: Apache-2.0

// Package scripts is what the scripts have in common that test our commands.
package scripts

import (
	"errors"
	"os/exec"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/carverauto/serviceradar-profiler/auth"
)

// Commands are those that scripts may use besides testscript's own:
//
//	code N command…   the command must exit with N
//	certs DIR         certificates to try things out with
func Commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){"code": code, "certs": certs}
}

func code(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%v: exit code %d, want %s", args[1:], code, args[0])
	}
}

func certs(ts *testscript.TestScript, _ bool, args []string) {
	_, err := auth.WriteTryoutCertificates(ts.MkAbs(args[0]), auth.Tryout{})
	ts.Check(err)
}
