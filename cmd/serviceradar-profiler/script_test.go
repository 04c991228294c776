// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/carverauto/serviceradar-profiler/test/scripts"
)

// The test binary is the program too: in scripts by its name, in Go tests by
// mainEnv.
const mainEnv = "SRPROF_TEST_SERVICE"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){name: main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: func(e *testscript.Env) error { e.Setenv("PATH", e.Getenv("PATH")+":/usr/sbin"); return nil },
		Cmds:  scripts.Commands(),
	})
}

// docs/configuration.md tells of each key.
func TestConfigurationIsDocumented(t *testing.T) {
	page, s := scripts.Page{Name: "docs/configuration.md", Unnoticed: []string{"logging.otel."}}, defaults()
	page.Documents(t, &s, func() any { return new(settings) })
}
