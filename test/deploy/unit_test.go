// SPDX-License-Identifier: Apache-2.0

// Package deploy_test holds what is in deploy against the real programs: the
// systemd units, their capabilities one by one, the packages and the container
// image's files. What they do on a whole host, test/vm sees.
package deploy_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const units = "../../deploy/systemd/"

// exposure is what systemd-analyze gives at most to a unit: 0 is locked in, 10
// is a service without any hardening. The rest is what the profiler is for, and
// the network.
var exposure = map[string]float64{"serviceradar-profiler": 3.0, "serviceradar-profiler-agent": 1.8, "serviceradar-profiler-poller": 1.6}

func TestUnits(t *testing.T) {
	need(t, "systemd-analyze")
	dir := t.TempDir()
	found, err := filepath.Glob(units + "*.service")
	if err != nil || len(found) != len(exposure) {
		t.Fatalf("%d units, %d limits (%v)", len(found), len(exposure), err)
	}
	for _, path := range found {
		name := strings.TrimSuffix(filepath.Base(path), ".service")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// verify wants the program to be there.
		unit := filepath.Join(dir, name+".service")
		b = bytes.ReplaceAll(b, []byte("ExecStart=/usr/bin/"+name), []byte("ExecStart="+built(t, name)))
		if err := os.WriteFile(unit, b, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte(name)) {
			t.Errorf("systemd-analyze verify: %v: %s", err, out)
		}
		limit := strconv.Itoa(int(exposure[name] * 10))
		out, err = exec.Command("systemd-analyze", "security", "--offline=true", "--threshold="+limit, "--no-pager", unit).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze security, at most %v: %v\n%s", exposure[name], err, out)
		}
	}
}

// setting returns the words of all lines of a unit that set something.
func setting(t *testing.T, path, key string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			words = append(words, strings.Fields(value)...)
		}
	}
	return words
}

// The unit grants what it explains, no more, and what package privilege needs.
func TestUnitCapabilities(t *testing.T) {
	const unit = units + "serviceradar-profiler.service"
	ambient, bounding := setting(t, unit, "AmbientCapabilities"), setting(t, unit, "CapabilityBoundingSet")
	if !slices.Equal(ambient, bounding) || len(ambient) == 0 {
		t.Errorf("ambient %v, bounding %v", ambient, bounding)
	}
	b, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	var explained []string
	for _, m := range regexp.MustCompile(`(?m)^# (CAP_\w+) {2,}\S`).FindAllSubmatch(b, -1) {
		explained = append(explained, string(m[1]))
	}
	if !slices.Equal(ambient, explained) {
		t.Errorf("the unit grants %v and explains %v", ambient, explained)
	}
	var proved []string
	for _, c := range losses {
		proved = append(proved, c.capability)
	}
	if slices.Sort(proved); !slices.Equal(proved, slices.Sorted(slices.Values(ambient))) {
		t.Errorf("the unit grants %v, and what is lost without is tested of %v", ambient, proved)
	}
}

var programs = map[string]string{}

// built is the path of a program, built as it is shipped.
func built(t *testing.T, name string) string {
	t.Helper()
	if path := programs[name]; path != "" {
		return path
	}
	path := filepath.Join(outside, name)
	c := exec.Command("go", "build", "-o", path, "../../cmd/"+name)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	programs[name] = path
	return path
}

// outside is a folder that other users can enter, unlike those of tests.
var outside string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if outside, err = os.MkdirTemp("", "srprof-deploy-*"); err == nil {
		defer os.RemoveAll(outside)
		err = os.Chmod(outside, 0o755)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return m.Run()
}

// need skips a test that needs a program which is not installed.
func need(t *testing.T, commands ...string) {
	t.Helper()
	for _, c := range commands {
		if _, err := exec.LookPath(c); err == nil {
			continue
		}
		if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
			t.Fatalf("%s is missing: test/deps.sh installs it", c)
		}
		t.Skipf("%s is missing: test/deps.sh installs it", c)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
		t.Fatal("not root")
	}
	t.Skip("not root")
}
