// SPDX-License-Identifier: Apache-2.0

package remedy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// host is a folder with a host's files; libssl.so.3 is this test itself.
func host(t *testing.T, release string, files ...string) (Host, profile.BuildID) {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	write("usr/lib/x86_64-linux-gnu/libssl.so.3", string(self))
	write("etc/os-release", release)
	for i := 0; i < len(files); i += 2 {
		write(files[i], files[i+1])
	}
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	o, err := object.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	return Host{root}, o.BuildID()
}

const (
	bookworm = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"
	lists    = "/.\n/usr\n/usr/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu/libssl.so.3\n"
)

func TestFill(t *testing.T) {
	const path = "/usr/lib/x86_64-linux-gnu/libssl.so.3"
	check := func(label string, h Host, u profile.Unnamed, want string) {
		t.Helper()
		us := []profile.Unnamed{u}
		h.Fill(us)
		if us[0].Remedy != want {
			t.Errorf("%s: %q, want %q", label, us[0].Remedy, want)
		}
	}
	debian, id := host(t, bookworm, "var/lib/dpkg/info/bash.list", "/bin/bash\n", "var/lib/dpkg/info/libssl3:amd64.list", lists)
	stripped := profile.Unnamed{Path: path, BuildID: id, Reason: profile.ReasonStripped}
	check("Debian", debian, stripped, "install libssl3-dbgsym from the archive debian-debug")

	named, _ := host(t, bookworm+"VERSION_CODENAME=bookworm\n", "var/lib/dpkg/info/libssl3:amd64.list", lists)
	check("Debian with a code name", named, stripped, "install libssl3-dbgsym from the archive debian-debug (suite bookworm-debug)")

	merged, id := host(t, bookworm, "var/lib/dpkg/info/libc6:amd64.list", strings.ReplaceAll(lists, "/usr/lib/x", "/lib/x"))
	check("merged /usr", merged, profile.Unnamed{Path: path, BuildID: id, Reason: profile.ReasonNotCovered},
		"install libc6-dbg")

	ubuntu, id := host(t, "ID=mint\nID_LIKE=\"ubuntu debian\"\n", "var/lib/dpkg/info/libssl3.list", lists)
	check("like Ubuntu", ubuntu, stripped, "install libssl3-dbgsym from ddebs.ubuntu.com")

	fedora, _ := host(t, "ID=fedora\n", "usr/lib/sysimage/rpm/rpmdb.sqlite", "")
	check("Fedora", fedora, stripped, "run debuginfo-install $(rpm -qf /usr/lib/x86_64-linux-gnu/libssl.so.3)")

	both, _ := host(t, bookworm, "var/lib/dpkg/status", "", "var/lib/dpkg/info/libssl3:amd64.list", lists, "var/lib/rpm/rpmdb.sqlite", "")
	check("Debian with the program rpm", both, stripped, "install libssl3-dbgsym from the archive debian-debug")
	none, _ := host(t, bookworm, "var/lib/dpkg/status", "", "var/lib/rpm/rpmdb.sqlite", "")
	check("Debian with the program rpm, of no package", none, stripped, anywhere)

	other := stripped
	other.BuildID = "00ff"
	check("another file of that path", debian, other, anywhere)
	other.Path, other.BuildID = "/opt/libacme.so", id
	check("of no package", debian, other, anywhere)
	other = stripped
	other.Path = "/var/lib"
	check("a folder", debian, other, anywhere)
	check("a host without anything", Host{t.TempDir()}, stripped, anywhere)

	check("has one", debian, profile.Unnamed{Path: path, BuildID: id, Reason: profile.ReasonStripped, Remedy: "x"}, "x")
	check("no file helps", debian, profile.Unnamed{Reason: profile.ReasonHidden}, "")
}

func TestQuoted(t *testing.T) {
	for path, want := range map[string]string{
		"/usr/lib/libstdc++.so.6": "/usr/lib/libstdc++.so.6",
		"/x; rm -rf /":            "'/x; rm -rf /'",
		"/it's":                   `'/it'\''s'`,
	} {
		if got := quoted(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// The database of this machine, if it is Debian's, knows its own shell.
func TestOwner(t *testing.T) {
	if _, err := os.Stat("/" + dpkgInfo); err != nil {
		t.Skip("not Debian: ", err)
	}
	if got := (Host{}).owners([]string{"/usr/bin/dash", "/nowhere"}); len(got) != 1 || got["/usr/bin/dash"] != "dash" {
		t.Errorf("owners are %v", got)
	}
}

func BenchmarkOwners(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		(Host{}).owners([]string{"/usr/lib/x86_64-linux-gnu/libssl.so.3", "/usr/bin/redis-server", "/nowhere"})
	}
}
