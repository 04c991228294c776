// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/carverauto/serviceradar-profiler/test/scripts"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){name: main}) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata",
		Cmds: scripts.Commands(),
	})
}

// What is shipped as an example says what the defaults are, and where the
// certificates are.
func TestShippedConfiguration(t *testing.T) {
	got, err := load("../../deploy/profiler-agent.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), *got, cmpopts.IgnoreUnexported(settings{})); diff != "" {
		t.Error(diff)
	}
}

// docs/agent.md tells of each key.
func TestConfigurationIsDocumented(t *testing.T) {
	page, s := scripts.Page{Name: "docs/agent.md", Elsewhere: []string{"security", "profiler_security", "next_agent_security", "access", "logging", "metrics", "tracing"}}, defaults()
	page.Documents(t, &s, func() any { return new(settings) })
}
