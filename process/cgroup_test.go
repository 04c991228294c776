// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

func TestParseCgroups(t *testing.T) {
	for _, c := range []struct {
		name, text, path, unit string
	}{
		{"version 2", "0::/system.slice/nginx.service\n", "/system.slice/nginx.service", "nginx.service"},
		{"below a unit", "0::/system.slice/docker.service/nginx.service\n", "/system.slice/docker.service/nginx.service", "docker.service"},
		{"a user's own unit", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service\n",
			"/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service", "user@1000.service"},
		{"a login", "0::/user.slice/user-1000.slice/session-3.scope\n", "/user.slice/user-1000.slice/session-3.scope", "session-3.scope"},
		{"version 1 by systemd", "5:memory:/\n3:cpu,cpuacct:/system.slice\n1:name=systemd:/system.slice/a.service\n", "/system.slice/a.service", "a.service"},
		{"both", "5:memory:/lxc\n1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n", "/system.slice/b.service", "b.service"},
		{"both, the unified one not in use", "5:memory:/lxc\n1:name=systemd:/system.slice/a.service\n0::/\n", "/system.slice/a.service", "a.service"},
		{"version 1 without systemd", "5:memory:/docker/12ab\n3:cpu:/docker/12ab\n", "/docker/12ab", ""},
		{"no group", "1:name=systemd:/\n0::/\n", "/", ""},
		{"colons", "1:name=systemd:/\n0::/a:b:c.service\n", "/a:b:c.service", "a:b:c.service"},
		{"escaped", "0::/system.slice/_cpu.service\n", "/system.slice/_cpu.service", "cpu.service"},
		{"outside of our namespace", "0::/../../nginx.service\n", "/../../nginx.service", ""},
		{"a slice alone", "0::/system.slice\n", "/system.slice", ""},
		{"not a unit", "0::/system.slice/web/nginx.service\n", "/system.slice/web/nginx.service", ""},
		{"nothing", "", "/", ""},
	} {
		all, err := ParseCgroups(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := all.Path(); got != c.path || Unit(got) != c.unit {
			t.Errorf("%s: %q of unit %q, want %q of %q", c.name, got, Unit(got), c.path, c.unit)
		}
	}
	for _, bad := range []string{"x", "0:", "0::", "0::a", "-1::/", "x::/", "99999999999::/", "\n"} {
		if all, err := ParseCgroups(bad); err == nil {
			t.Errorf("%q: %v", bad, all)
		}
	}
}

func TestReadCgroups(t *testing.T) {
	own, err := ReadCgroups(os.Getpid())
	if err != nil || len(own) == 0 {
		t.Errorf("our own: %v, %v", own, err)
	}
	if _, err := ReadCgroups(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nobody: %v", err)
	}
}

func FuzzParseCgroups(f *testing.F) {
	f.Add("0::/system.slice/nginx.service\n")
	f.Add("12:cpu,cpuacct:/a\n1:name=systemd:/b.service\n0::/\n")
	f.Add("0::/../x\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ParseCgroups(text)
		if err != nil {
			return
		}
		path := all.Path()
		if !strings.HasPrefix(path, "/") {
			t.Errorf("path %q", path)
		}
		if unit := Unit(path); unit != "" && !strings.Contains(path, unit) || strings.Contains(unit, "/") {
			t.Errorf("unit %q of %q", unit, path)
		}
	})
}
