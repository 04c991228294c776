// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// The rpm packages cannot be installed here: what is in them is looked at. (The
// deb packages are installed, in test/vm.)
func TestRPM(t *testing.T) {
	need(t, "rpm", "git")
	dir := t.TempDir()
	out, err := exec.Command("bash", "../../deploy/packages/build.sh", dir, "1.2.3+4.gabcdef0", "amd64").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	query := func(pkg string, args ...string) string {
		out, err := exec.Command("rpm", append(append([]string{"-qp", "--nosignature"}, args...), filepath.Join(dir, pkg))...).CombinedOutput()
		if err != nil {
			t.Fatalf("rpm %v %s: %v\n%s", args, pkg, err, out)
		}
		return string(out)
	}
	for _, c := range []struct {
		pkg  string
		args []string
		want []string // regular expressions
	}{
		{"serviceradar-profiler-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"-l"}, []string{
			`(?m)^/usr/bin/serviceradar-profiler$`, `(?m)^/usr/lib/systemd/system/serviceradar-profiler\.service$`,
			`(?m)^/usr/lib/sysusers\.d/serviceradar-profiler\.conf$`, `(?m)^/etc/serviceradar/certs$`, `(?m)^/usr/share/man/man8/serviceradar-profiler\.8\.gz$`}},
		{"serviceradar-profiler-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"-i"}, []string{`(?m)^Architecture: x86_64$`, `(?m)^Version +: 1\.2\.3\+4\.gabcdef0$`, `(?m)^License +: Apache-2.0$`}},
		{"serviceradar-profiler-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"--configfiles"}, []string{`^/etc/serviceradar/profiler\.json\n$`}},
		{"serviceradar-profiler-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"--queryformat", "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags}\n]"}, []string{
			`(?m)^/etc/serviceradar/profiler\.json -rw-r----- root:serviceradar-profiler cn$`}}, // configuration, noreplace
		{"serviceradar-profiler-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"--requires"}, []string{`(?m)^systemd$`}},
		{"serviceradar-profiler-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"--scripts"}, []string{
			`preinstall scriptlet[^:]*:\n(.*\n)*.*systemd-sysusers -`, `postinstall scriptlet[^:]*:\n(.*\n)*.*systemctl preset serviceradar-profiler`,
			`preuninstall scriptlet[^:]*:\n(.*\n)*.*disable --now serviceradar-profiler`, `postuninstall scriptlet[^:]*:\n(.*\n)*.*try-restart serviceradar-profiler`}},
		{"serviceradar-profiler-agent-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"-l"}, []string{
			`(?m)^/usr/bin/serviceradar-profiler-agent$`, `(?m)^/usr/lib/systemd/system/serviceradar-profiler-agent\.service$`,
			`(?m)^/usr/lib/sysusers\.d/serviceradar-profiler-agent\.conf$`, `(?m)^/usr/share/man/man8/serviceradar-profiler-agent\.8\.gz$`}},
		{"serviceradar-profiler-agent-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"--queryformat", "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags}\n]"}, []string{
			`(?m)^/etc/serviceradar/profiler-agent\.json -rw-r----- root:serviceradar cn$`}},
		{"serviceradar-profiler-agent-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"--scripts"}, []string{
			`preinstall scriptlet[^:]*:\n(.*\n)*.*u serviceradar - .*systemd-sysusers -`, `postinstall scriptlet[^:]*:\n(.*\n)*.*systemctl preset serviceradar-profiler-agent`,
			`postuninstall scriptlet[^:]*:\n(.*\n)*.*try-restart serviceradar-profiler-agent`}},
		{"serviceradar-profiler-poller-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"-l"}, []string{
			`(?m)^/usr/bin/serviceradar-profiler-poller$`, `(?m)^/usr/lib/systemd/system/serviceradar-profiler-poller\.service$`,
			`(?m)^/usr/lib/sysusers\.d/serviceradar-profiler-poller\.conf$`, `(?m)^/usr/share/man/man8/serviceradar-profiler-poller\.8\.gz$`}},
		{"serviceradar-profiler-poller-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"--queryformat", "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILEFLAGS:fflags}\n]"}, []string{
			`(?m)^/etc/serviceradar/profiler-poller\.json -rw-r----- root:serviceradar cn$`}},
		{"srprof-1.2.3+4.gabcdef0-1.x86_64.rpm", []string{"-l"}, []string{`(?m)^/usr/bin/srprof$`, `(?m)^/usr/share/man/man1/srprof\.1\.gz$`,
			`(?m)^/usr/share/bash-completion/completions/srprof$`, `(?m)^/usr/share/zsh/site-functions/_srprof$`, `(?m)^/usr/share/fish/vendor_completions\.d/srprof\.fish$`}},
	} {
		got := query(c.pkg, c.args...)
		for _, want := range c.want {
			if !regexp.MustCompile(want).MatchString(got) {
				t.Errorf("rpm %v %s: want %s in\n%s", c.args, c.pkg, want, got)
			}
		}
	}
	scripts(t)
}

// scripts run under /bin/sh of any distribution.
func scripts(t *testing.T) {
	t.Helper()
	all, err := filepath.Glob("../../deploy/packages/*/*")
	if err != nil || len(all) != 6 {
		t.Fatalf("%v (%v)", all, err)
	}
	for _, path := range append(all, "../../deploy/packages/user.sh") {
		if out, err := exec.Command("sh", "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", path, err, out)
		}
	}
}
