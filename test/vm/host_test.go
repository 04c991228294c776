// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostKernel is the kernel of the Debian that is installed.
const hostKernel, hostSuite = "6.1", "bookworm"

// hostPackages are what that Debian has besides what every one has.
var hostPackages = []string{"systemd", "systemd-sysv", "procps", "passwd", "init-system-helpers"}

// TestHost installs our packages on a Debian that has just been installed, with
// systemd as its first process, and uses, upgrades and removes them.
func TestHost(t *testing.T) {
	t.Parallel()
	image := images(t)[hostKernel]
	m := machines["amd64"]
	need(t, m.qemu, compilers["amd64"], "go", "mmdebstrap", "git")
	if os.Geteuid() != 0 {
		if os.Getenv(requireAll) != "" {
			t.Fatal("not root")
		}
		t.Skip("not root, which makes a Debian's files")
	}
	debian, err := debianRoot()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	initrd := filepath.Join(t.TempDir(), "host.cpio")
	if err := hostArchive(t, debian, initrd); err != nil {
		t.Fatal(err)
	}
	t.Logf("built in %v", time.Since(began).Round(time.Second))
	results, console, err := emulate(t, m, image, initrd, 1536, strings.Join([]string{
		"console=" + m.console, "panic=-1", "loglevel=3", "systemd.show_status=0", "systemd.wants=srprof-vm.service",
		"systemd.mask=serial-getty@ttyS0.service", "systemd.mask=getty@tty1.service", "systemd.mask=systemd-firstboot.service",
	}, " "))
	reportAll(t, results, console, err)
}

// debianRoot is an archive with the files of a small Debian. It is kept in the
// user's cache, and made anew every month.
func debianRoot() (string, error) {
	dir := cacheFor("debian")
	to := filepath.Join(dir, hostSuite+"-"+strings.Join(hostPackages, "+")+".tar")
	info, err := os.Stat(to)
	if err == nil && time.Since(info.ModTime()) < 30*24*time.Hour {
		return to, nil
	}
	had := err == nil
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	main, security, err := mirrors()
	if err != nil {
		return "", err
	}
	args := []string{"--quiet", "--variant=essential", "--format=tar", "--include=" + strings.Join(hostPackages, ",")}
	for _, unneeded := range []string{"doc", "man", "info", "locale", "i18n", "zoneinfo", "bash-completion"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+unneeded+"/*")
	}
	args = append(args, hostSuite, to+".new", "deb "+main+" "+hostSuite+" main", "deb "+security+" "+hostSuite+"-security main")
	if out, err := exec.Command("mmdebstrap", args...).CombinedOutput(); err != nil {
		if had {
			return to, nil // an older one does
		}
		return "", fmt.Errorf("mmdebstrap %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return to, os.Rename(to+".new", to)
}

// hostInit gives systemd a root that it can turn over to services in mount
// namespaces of their own, which the kernel's first one is not.
const hostInit = `#!/bin/sh
mount -t proc proc /proc
mount --bind / /mnt
cd /mnt
mount --move . /
exec chroot . /lib/systemd/systemd
`

const hostUnit = `[Unit]
Description=what the test does
After=multi-user.target
[Service]
Type=exec
ExecStart=/srprof-vm/host
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
Environment=HOME=/root NO_COLOR=1
`

// hostArchive makes the machine's first file system: Debian, our packages, and
// who tries them.
func hostArchive(t *testing.T, debian, to string) error {
	dir := t.TempDir()
	goTool(t, "amd64", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "host"), "./host")
	compile(t, "amd64", "syscalls.c", filepath.Join(dir, "syscalls"), "-O2")
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	a := archive{w: f}
	if err := a.addTar(debian); err != nil {
		return err
	}
	const folder, file, executable = 0o040755, 0o100644, 0o100755
	for _, d := range []string{"srprof-vm", "srprof-vm/debs", "home/app"} {
		a.add(d, folder, 0, nil)
	}
	const user = 2000
	a.addOf("home/app/bin", 0o040700, 0, user, user, nil)
	for _, x := range []struct {
		name string
		mode int
		user int
		path string
	}{
		{"srprof-vm/host", executable, 0, filepath.Join(dir, "host")},
		{"home/app/bin/syscalls", 0o100700, user, filepath.Join(dir, "syscalls")},
		{"srprof-vm/runbook.md", file, 0, "../../docs/runbook.md"},
		{"srprof-vm/debs/srprof.deb", file, 0, packed(t, "0.0.1", "srprof")},
		{"srprof-vm/debs/agent.deb", file, 0, packed(t, "0.0.1", "serviceradar-profiler-agent")},
		{"srprof-vm/debs/poller.deb", file, 0, packed(t, "0.0.1", "serviceradar-profiler-poller")},
		{"srprof-vm/debs/poller-new.deb", file, 0, packed(t, "9.9.9", "serviceradar-profiler-poller")},
		{"srprof-vm/debs/old.deb", file, 0, packed(t, "0.0.1", "serviceradar-profiler")},
		{"srprof-vm/debs/new.deb", file, 0, packed(t, "9.9.9", "serviceradar-profiler")},
	} {
		b, err := os.ReadFile(x.path)
		if err != nil {
			return err
		}
		a.addOf(x.name, x.mode, 0, x.user, x.user, b)
	}
	a.add("dev/console", 0o020600, 5<<8|1, nil)
	a.add("init", executable, 0, []byte(hostInit))
	a.add("etc/systemd/system/srprof-vm.service", file, 0, []byte(hostUnit))
	a.add("etc/hostname", file, 0, []byte("web-01\n"))
	a.add("etc/hosts", file, 0, []byte("127.0.0.1 localhost web-01\n"))
	a.add("TRAILER!!!", 0, 0, nil)
	return errors.Join(a.err, f.Close())
}

var packages = map[string]string{} // folders with packages, by version

// packed is the path of a package of ours.
func packed(t *testing.T, version, name string) string {
	t.Helper()
	dir, ok := packages[version]
	if !ok {
		dir = t.TempDir()
		c := exec.Command("bash", "../../deploy/packages/build.sh", dir, version, "amd64")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
		packages[version] = dir
	}
	return filepath.Join(dir, name+"_"+version+"_amd64.deb")
}

// addTar adds what is in a tar archive. Hard links become copies.
func (a *archive) addTar(from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	linked := map[string][]byte{}
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return a.err
		}
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		name := path.Clean(h.Name)
		if name == "." || slices.ContainsFunc([]string{"var/lib/apt/", "var/cache/apt/", "dev/"}, func(p string) bool { return strings.HasPrefix(name, p) && h.Typeflag != tar.TypeDir }) {
			continue
		}
		mode := int(h.Mode & 0o7777)
		var content []byte
		switch h.Typeflag {
		case tar.TypeDir:
			mode |= 0o040000
		case tar.TypeSymlink:
			mode, content = mode|0o120000, []byte(h.Linkname)
		case tar.TypeLink:
			mode, content = mode|0o100000, linked[path.Clean(h.Linkname)]
		case tar.TypeReg:
			var b bytes.Buffer
			if _, err := io.Copy(&b, t); err != nil {
				return fmt.Errorf("%s: %s: %w", from, name, err)
			}
			mode, content = mode|0o100000, b.Bytes()
			linked[name] = content
		default:
			return fmt.Errorf("%s: %s is of type %c", from, name, h.Typeflag)
		}
		a.addOf(name, mode, 0, h.Uid, h.Gid, content)
	}
}
