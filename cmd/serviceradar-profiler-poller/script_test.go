// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/test/scripts"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){name: main}) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Cmds: scripts.Commands()})
}

// What is shipped as an example says what the defaults are, and where the
// certificates are.
func TestShippedConfiguration(t *testing.T) {
	got, err := load("../../deploy/profiler-poller.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), *got, cmpopts.IgnoreUnexported(settings{})); diff != "" {
		t.Error(diff)
	}
}

// docs/poller.md names each key, with its default, and each example in it is one
// that is read.
func TestConfigurationIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/poller.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	s := defaults()
	for _, key := range config.Keys(&s) {
		switch area, _, within := strings.Cut(key, "."); {
		case within && area != "limits" && area != "reports": // as in docs/configuration.md
		case strings.Contains(page, "\n| `"+key+"` |"):
		case strings.Contains(page, "`"+key+"`") && !within: // one of those without effect
		default:
			t.Errorf("%s is not in docs/poller.md", key)
		}
	}
	values := map[string]any{"listen_addr": s.ListenAddr, "data_dir": s.DataDir, "service_name": s.ServiceName}
	for area, of := range map[string]any{"limits": s.Limits, "reports": s.Reports} {
		text, err := json.Marshal(of)
		if err != nil {
			t.Fatal(err)
		}
		var each map[string]json.RawMessage
		if err := json.Unmarshal(text, &each); err != nil {
			t.Fatal(err)
		}
		for key, value := range each {
			values[area+"."+key] = value
		}
	}
	for key, value := range values {
		text, err := json.Marshal(value)
		if err != nil || !strings.Contains(page, "\n| `"+key+"` | `"+string(text)+"` |") {
			t.Errorf("docs/poller.md: the default of %s is %s (%v)", key, text, err)
		}
	}
	for _, e := range strings.Split(page, "```json\n")[1:] {
		text, _, _ := strings.Cut(e, "```")
		if err := config.Parse("docs/poller.md", []byte(text), new(settings)); err != nil {
			t.Error(err)
		}
	}
}
