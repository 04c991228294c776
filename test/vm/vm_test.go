// SPDX-License-Identifier: Apache-2.0

// Package vm_test boots kernels of Debian's suites in QEMU and lets the first
// process of each (see the command in init) record programs with known stacks.
// Everything is emulated (no KVM is needed, nor root), so nothing here is
// measured by time: only what was found counts.
package vm_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

const (
	// requireAll in the environment makes a missing program, or a mirror that
	// cannot be reached, a failure.
	requireAll = "SRPROF_REQUIRE_ALL"
	// ownKernel in the environment is a kernel image to boot instead.
	ownKernel = "SRPROF_VM_KERNEL"
	// moreEnv in the environment are NAME=VALUE pairs for the environment
	// inside the virtual machine: SRPROF_BPF_BUILD=4.9, say, or
	// SRPROF_VM_ONLY=clock for the checks with that in their names.
	moreEnv = "SRPROF_VM_ENV"
)

// kernel is one that is booted.
type kernel struct {
	name    string
	arch    string // as Go spells it, and Debian
	suite   string
	pattern string // of the package's name; the newest version is taken
	release string // how uname -r must begin
}

var kernels = []kernel{
	{name: "5.10", arch: "amd64", suite: "bullseye-security", pattern: `linux-image-5\.10\.0-\d+-cloud-amd64`, release: "5.10."},
	{name: "6.1", arch: "amd64", suite: "bookworm-security", pattern: `linux-image-6\.1\.0-\d+-cloud-amd64`, release: "6.1."},
	{name: "6.12", arch: "amd64", suite: "trixie-security", pattern: `linux-image-6\.12\.\d+\+deb13[.\d]*-cloud-amd64`, release: "6.12."},
	// From 6.19 on the image is in linux-binary-*; linux-image-* only names it.
	{name: "newest", arch: "amd64", suite: "trixie-backports", pattern: `linux-binary-\d+\.\d+\.\d+\+deb13[.\d]*-cloud-amd64`},
	{name: "arm64 6.1", arch: "arm64", suite: "bookworm-security", pattern: `linux-image-6\.1\.0-\d+-cloud-arm64`, release: "6.1."},
}

func TestKernels(t *testing.T) {
	t.Parallel()
	if path := os.Getenv(ownKernel); path != "" {
		arch, err := archOf(path)
		if err != nil {
			t.Fatal(err)
		}
		boot(t, &kernel{name: path, arch: arch}, path)
		return
	}
	images := images(t)
	for i := range kernels {
		k := &kernels[i]
		t.Run(strings.ReplaceAll(k.name, " ", "_"), func(t *testing.T) {
			t.Parallel() // most of the time a machine has but one busy CPU
			boot(t, k, images[k.name])
		})
	}
}

// downloadOnce asks the mirror once for all tests.
var downloadOnce = sync.OnceValues(func() (map[string]string, error) { return download(kernels) })

// images are the kernels' images by name.
func images(t *testing.T) map[string]string {
	t.Helper()
	need(t, "apt-get", "dpkg-deb")
	images, err := downloadOnce()
	if errors.Is(err, errUnreachable) && os.Getenv(requireAll) == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return images
}

// need skips a test that needs a program which is not installed.
func need(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		_, err := exec.LookPath(c)
		switch {
		case err == nil:
		case os.Getenv(requireAll) != "":
			t.Fatalf("%s is missing: test/deps.sh installs it", c)
		default:
			t.Skipf("%s is missing: test/deps.sh installs it", c)
		}
	}
}
