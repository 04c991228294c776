// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestContainer runs the service on the image's files alone, as an engine runs
// it: in a root and a mount namespace of its own, as root with the capabilities
// that docs/deployment.md names, among the host's processes.
func TestContainer(t *testing.T) {
	needRoot(t)
	need(t, "unshare", "setpriv", "chroot", "gcc")
	capabilities := documentedCapabilities(t)
	if paranoid, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid"); err != nil || strings.TrimSpace(string(paranoid)) > "2" {
		t.Skipf("kernel.perf_event_paranoid is %s (%v), which takes CAP_SYS_ADMIN", paranoid, err)
	}
	root := imageFiles(t)
	certs := filepath.Join(root, "etc/serviceradar/certs")
	if out, err := exec.Command(built(t, "srprof"), "certs", "--dir", certs).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c := exec.Command("unshare", "--mount", "--uts", "sh", "-ec", `mount -t proc proc "$1/proc"; mount -t sysfs sysfs "$1/sys"; exec setpriv --bounding-set="$2" --inh-caps=-all chroot "$1" /usr/bin/serviceradar-profiler`,
		"sh", root, "-all,+sys_chroot,+"+strings.Join(capabilities, ",+"))
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SRPROF_PROFILER_LISTEN_ADDR=127.0.0.1:0"}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}()
	var address string
	lines := bufio.NewScanner(out)
	for address == "" && lines.Scan() {
		var l struct {
			Message, Address string
			Missing          []string
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		if l.Message == "privileges" && len(l.Missing) > 0 {
			t.Errorf("missing: %v", l.Missing)
		}
		if l.Message == "listening" {
			address = l.Address
		}
	}
	if address == "" {
		t.Fatal("the service ended")
	}
	go func() {
		for lines.Scan() { // or it would wait for us
		}
	}()
	said, err := exec.Command(built(t, "srprof"), "record", "--server", address, "--cert-dir", certs, "--pid", strconv.Itoa(startPrivate(t)),
		"--duration", "2s", "--format", "folded", "--output", "-").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, want := range []string{"main;in_private ", "main;in_deleted ", "vfs_read_[k]"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("want %q in\n%s", want, said)
		}
	}
}

// documentedCapabilities are those that the page grants to a container.
func documentedCapabilities(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("../../docs/deployment.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`--cap-add ([A-Z_]+)`).FindAllStringSubmatch(string(b), -1) {
		names = append(names, strings.ToLower(m[1]))
	}
	if len(names) == 0 {
		t.Fatal("docs/deployment.md grants no capabilities to a container")
	}
	return names
}

// imageFiles makes the root that the Containerfile describes.
func imageFiles(t *testing.T) string {
	t.Helper()
	root := filepath.Join(outside, "image")
	b, err := os.ReadFile("../../deploy/container/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, mount := range []string{"proc", "sys"} { // an engine makes these
		if err := os.MkdirAll(filepath.Join(root, mount), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	for _, m := range regexp.MustCompile(`(?m)^COPY (\S+) (\S+)$`).FindAllStringSubmatch(string(b), -1) {
		from := filepath.Join("../..", m[1])
		if name, ok := strings.CutPrefix(m[1], "bin/"); ok {
			from = built(t, name)
		}
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, m[2])
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}
