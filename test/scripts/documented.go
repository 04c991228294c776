// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/config"
)

// Page is one that tells of a configuration.
type Page struct {
	Name      string   // as docs/agent.md
	Elsewhere []string // what another page tells of in detail: objects of the configuration
	Unnoticed []string // keys that are taken, without effect, and have no row
}

// Documents makes sure that a page names each key, with its default, and that
// each example on it is one that is read. The defaults are a pointer; fresh makes
// another one.
func (p *Page) Documents(t *testing.T, defaults any, fresh func() any) {
	t.Helper()
	b, err := os.ReadFile("../../" + p.Name)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, key := range config.Keys(defaults) {
		area, _, within := strings.Cut(key, ".")
		told := strings.Contains(page, "\n| `"+key+"` |") || p.Elsewhere != nil && !within && strings.Contains(page, "`"+key+"`") // one of those without effect
		if !told && !p.passes(area, within, key) {
			t.Errorf("%s is not in %s", key, p.Name)
		}
	}
	for key, value := range flat(t, defaults) {
		area, _, within := strings.Cut(key, ".")
		if !p.passes(area, within, key) && !strings.Contains(page, "\n| `"+key+"` | "+value+" |") {
			t.Errorf("%s: the default of %s is %s", p.Name, key, value)
		}
	}
	examples := strings.Split(page, "```json\n")[1:]
	if len(examples) == 0 {
		t.Errorf("%s has no example", p.Name)
	}
	for _, e := range examples {
		text, _, _ := strings.Cut(e, "```")
		if err := config.Parse(p.Name, []byte(text), fresh()); err != nil {
			t.Error(err)
		}
	}
}

func (p *Page) passes(area string, within bool, key string) bool {
	return within && slices.Contains(p.Elsewhere, area) || slices.ContainsFunc(p.Unnoticed, func(k string) bool { return strings.HasPrefix(key, k) })
}

// nothing are values that say none.
var nothing = []string{`""`, `"0s"`, "null"}

// flat are the values of a configuration by their keys, as pages show them.
func flat(t *testing.T, s any) map[string]string {
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
		if all[path] = "`" + string(text) + "`"; slices.Contains(nothing, string(text)) {
			all[path] = "–"
		}
	}
	walk("", tree)
	return all
}
