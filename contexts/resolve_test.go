// SPDX-License-Identifier: Apache-2.0

package contexts

import (
	"path/filepath"
	"testing"
)

// What is said goes before the environment, and that before the context; a
// server that is named has nothing to do with the current context.
func TestResolve(t *testing.T) {
	t.Setenv(ConfigVariable, filepath.Join(t.TempDir(), "config.json"))
	err := Change(func(f *File) error {
		f.Contexts = map[string]Place{"prod": {Server: "prod", CertDir: "/prod"}, "lab": {Server: "lab", Cert: "/c", Key: "/k", CA: "/a"}}
		f.Current = "prod"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		label             string
		context, env, dir string // what the environment says
		name              string
		said, want        Place
	}{
		{label: "nothing is said", want: Place{Server: "prod", CertDir: "/prod"}},
		{label: "a context", name: "lab", want: Place{Server: "lab", Cert: "/c", Key: "/k", CA: "/a"}},
		{label: "a context in the environment", context: "lab", want: Place{Server: "lab", Cert: "/c", Key: "/k", CA: "/a"}},
		{label: "a server", said: Place{Server: "x"}, want: Place{Server: "x"}},
		{label: "a server in the environment", env: "x", dir: "/x", want: Place{Server: "x", CertDir: "/x"}},
		{label: "a server and a context", name: "prod", said: Place{Server: "x"}, want: Place{Server: "x", CertDir: "/prod"}},
		{label: "a context goes before the environment", name: "prod", env: "x", want: Place{Server: "x", CertDir: "/prod"}},
		{label: "a directory in place of files", name: "lab", said: Place{CertDir: "/d"}, want: Place{Server: "lab", CertDir: "/d"}},
	} {
		for variable, is := range map[string]string{ContextVariable: c.context, ServerVariable: c.env, CertDirVariable: c.dir, IdentityVariable: "", ServerNameVariable: ""} {
			t.Setenv(variable, is)
		}
		if got, err := Resolve(c.name, &c.said); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.label, got, err, c.want)
		}
	}
}
