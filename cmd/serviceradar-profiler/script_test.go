// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/carverauto/serviceradar-profiler/config"
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

// docs/configuration.md names each key, with its default, and each example in
// it is one that is read.
func TestConfigurationIsDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	s := defaults()
	for _, key := range config.Keys(&s) {
		if strings.HasPrefix(key, "logging.otel.") {
			continue // taken, without effect
		}
		if !strings.Contains(page, "\n| `"+key+"` |") {
			t.Errorf("%s is not in docs/configuration.md", key)
		}
	}
	for key, value := range flat(t, s) {
		if !strings.Contains(page, "\n| `"+key+"` | "+value+" |") {
			t.Errorf("docs/configuration.md: the default of %s is %s", key, value)
		}
	}
	examples := strings.Split(page, "```json\n")[1:]
	if len(examples) == 0 {
		t.Error("docs/configuration.md has no example")
	}
	for _, e := range examples {
		text, _, _ := strings.Cut(e, "```")
		if err := config.Parse("docs/configuration.md", []byte(text), new(settings)); err != nil {
			t.Error(err)
		}
	}
}

// flat are the values of a configuration by their keys, as the page shows them.
func flat(t *testing.T, s settings) map[string]string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var tree map[string]any
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		if m, ok := v.(map[string]any); ok {
			for key, v := range m {
				walk(strings.TrimPrefix(path+"."+key, "."), v)
			}
			return
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if all[path] = "`" + string(text) + "`"; string(text) == `""` {
			all[path] = "–"
		}
	}
	walk("", tree)
	return all
}
