// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/process"
)

// asUser runs a program under a user's numbers, as setpriv's options say, until
// the test ends.
func asUser(t *testing.T, options ...string) int {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	c := exec.Command("setpriv", append(options, "--clear-groups", "sleep", "300")...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if s, err := process.ReadStat(c.Process.Pid); err == nil && s.Comm == "sleep" {
			return c.Process.Pid
		}
		if time.Now().After(end) {
			t.Fatal("setpriv did not come to run the program")
		}
	}
}

// newCgroup makes a control group in the unified hierarchy or that of systemd,
// if there is one to write to, until the processes that enter it have ended.
func newCgroup(t *testing.T, group string) (enter func(pid int)) {
	t.Helper()
	for _, base := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(filepath.Join(base, "cgroup.procs")); err != nil {
			continue
		}
		dir := filepath.Join(base, group)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			continue
		}
		t.Cleanup(func() { removeGroups(t, base, group) })
		return func(pid int) {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
		t.Fatal("no control groups can be made here")
	}
	t.Skip("no control groups can be made here")
	return nil
}

// removeGroups removes a group and those above it that the test made, once the
// kernel has let go of the processes.
func removeGroups(t *testing.T, base, group string) {
	for dir := group; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		var err error
		for range 400 {
			if err = os.Remove(filepath.Join(base, dir)); err == nil || errors.Is(err, fs.ErrNotExist) {
				break
			}
			if entries, e := os.ReadDir(filepath.Join(base, dir)); e == nil && hasDirectory(entries) {
				return // somebody else's
			}
			time.Sleep(5 * time.Millisecond)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a control group is left: %v", err)
			return
		}
	}
}

func hasDirectory(entries []os.DirEntry) bool {
	for _, e := range entries {
		if e.IsDir() {
			return true
		}
	}
	return false
}

func rule(t *testing.T, text string) *Scope {
	t.Helper()
	return &policy(t, `{"permissions": {"own": ["profiling:start"]}, "scope": `+text+`}`).Scope
}

// Scopes on real processes: of other users, of several at once, in control
// groups, by executable and by name.
func TestScopeOfProcesses(t *testing.T) {
	own := os.Getpid()
	alice := asUser(t, "--reuid", "20001", "--regid", "20001")
	mixed := asUser(t, "--ruid", "20001", "--euid", "20002", "--regid", "20001") // as a setuid program is
	unit := fmt.Sprintf("srprof-test-%d.service", own)
	enter := newCgroup(t, "/srproftest.slice/"+unit+"/workers")
	web := asUser(t, "--reuid", "20003", "--regid", "20003")
	enter(web)
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		scope string
		pid   int
		want  string // in the refusal; "" means that it may
	}{
		{"no rules", `{}`, own, ""},
		{"another role's limits", `{"allow": {"operator": [{"users": ["20001"]}]}}`, own, ""},
		{"his user", `{"allow": {"own": [{"users": ["20001"]}]}}`, alice, ""},
		{"not his user", `{"allow": {"own": [{"users": ["20001"]}]}}`, web, "not one of those that the role may"},
		{"one of two users", `{"allow": {"own": [{"users": ["20001"]}]}}`, mixed, "not one of those that the role may"},
		{"both of two users", `{"allow": {"own": [{"users": ["20001-20002"]}]}}`, mixed, ""},
		{"nothing at all", `{"allow": {"own": []}}`, alice, "not one of those that the role may"},
		{"a rule of several", `{"allow": {"own": [{"users": ["root"]}, {"users": ["20001"]}]}}`, alice, ""},
		{"all of a rule", `{"allow": {"own": [{"users": ["20003"], "units": ["` + unit + `"]}]}}`, web, ""},
		{"half of a rule", `{"allow": {"own": [{"users": ["20001"], "units": ["` + unit + `"]}]}}`, web, "not one of those"},
		{"unit by pattern", `{"allow": {"own": [{"units": ["srprof-test-*.service"]}]}}`, web, ""},
		{"another unit", `{"allow": {"own": [{"units": ["nginx.service"]}]}}`, web, "not one of those"},
		{"no unit", `{"allow": {"own": [{"units": ["*.service"]}]}}`, alice, "not one of those"},
		{"group", `{"allow": {"own": [{"cgroups": ["/srproftest.slice"]}]}}`, web, ""},
		{"group's name begun", `{"allow": {"own": [{"cgroups": ["/srproftest"]}]}}`, web, "not one of those"},
		{"executable", `{"allow": {"own": [{"executables": ["` + executable + `"]}]}}`, own, ""},
		{"another executable", `{"allow": {"own": [{"executables": ["/bin/x"]}]}}`, own, "not one of those"},
		{"never that user", `{"never": [{"users": ["20002"]}]}`, mixed, "nobody may profile"},
		{"never that unit", `{"never": [{"units": ["` + unit + `"]}]}`, web, "nobody may profile"},
		{"never that group", `{"never": [{"cgroups": ["/srproftest.slice"]}]}`, web, "nobody may profile"},
		{"never that name", `{"never": [{"names": ["slee?"]}]}`, web, "nobody may profile"},
		{"never that PID", `{"never": [{"pids": [1, ` + strconv.Itoa(alice) + `]}]}`, alice, "nobody may profile"},
		{"never the others", `{"never": [{"pids": [1], "users": ["root"]}]}`, own, ""},
		{"never before allowed", `{"never": [{"users": ["20001"]}], "allow": {"own": [{"users": ["20001"]}]}}`, alice, "nobody may profile"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, err := look(c.pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			err = rule(t, c.scope).decide([]string{"own"}, found)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q; it is %+v", err, c.want, found)
			}
		})
	}
	if got, err := look(web, 0); err != nil || got.Unit != unit || got.User != "20003" || got.Name != "sleep" {
		t.Errorf("%+v, %v", got, err)
	}
}

// What cannot be known is refused.
func TestScopeInDoubt(t *testing.T) {
	outside := &target{PID: 1 << 30, cgroup: "/../nginx.service", users: []uint32{5}}
	for _, text := range []string{
		`{"never": [{"units": ["nginx.service"]}]}`,
		`{"never": [{"cgroups": ["/a"]}]}`,
		`{"allow": {"own": [{"cgroups": ["/"]}]}}`,
		`{"never": [{"executables": ["/bin/x"]}]}`,
		`{"allow": {"own": [{"executables": ["/*"]}]}}`,
	} {
		var doubt errUnclear
		if err := rule(t, text).decide([]string{"own"}, outside); !errors.As(err, &doubt) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := rule(t, `{"allow": {"own": [{"users": ["5"]}, {"executables": ["/x"]}]}}`).decide([]string{"own"}, outside); err != nil {
		t.Errorf("one good rule does: %v", err)
	}
}

func TestLookKnowsProcessesApart(t *testing.T) {
	now, err := look(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := look(os.Getpid(), now.start); err != nil {
		t.Error(err)
	}
	if _, err := look(os.Getpid(), now.start+1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another process of the same PID: %v", err)
	}
}
