// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/process"
)

// asChild makes this program say what it finds where it was put.
const asChild = "HOST_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) == "" {
		os.Exit(m.Run())
	}
	_, err := host.Resolve(context.Background(), byName("no-such-process"))
	if !errors.Is(err, fs.ErrNotExist) {
		fmt.Println("not what was expected:", err)
		os.Exit(1)
	}
	all, err := host.Processes(context.Background(), byName("*"), 0)
	fmt.Printf("%v\n%d of them, %v\n", host.Unseen(), len(all), err)
}

// Where processes cannot be seen, that is said: in a PID namespace of its own,
// and behind hidepid.
func TestUnseen(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "host") // where each user may come
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "host.test")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(program, b, 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ script, want string }{
		"namespace": {"mount -t proc proc /proc && " + program, "in a PID namespace of its own"},
		"hidepid":   {"mount -t proc -o hidepid=2 proc /proc && setpriv --reuid 20001 --regid 20001 --clear-groups " + program, "mounted with hidepid"},
	} {
		t.Run(name, func(t *testing.T) {
			unshare := exec.Command("unshare", "--mount", "--pid", "--fork", "sh", "-c", c.script)
			unshare.Env = append(os.Environ(), asChild+"=1")
			out, err := unshare.CombinedOutput()
			if err != nil && strings.Contains(string(out), "not permitted") && os.Getenv("SRPROF_REQUIRE_ALL") == "" {
				t.Skipf("no namespaces here: %s", out)
			}
			if err != nil || !strings.Contains(string(out), c.want) || !strings.Contains(string(out), "of them, <nil>") {
				t.Errorf("%s%v, want %q", out, err, c.want)
			}
		})
	}
	if why := host.Unseen(); (why != "") == process.ShowsKernelPIDs() {
		t.Errorf("here: %q", why)
	}
}
