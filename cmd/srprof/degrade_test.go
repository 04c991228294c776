// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// circumstance makes srprof lack something. The row of the same name in
// docs/limits.md has the sentence that the user gets then.
type circumstance struct {
	caps    []process.Capability // as user nobody, with just these; nil: as root
	own     bool                 // the target belongs to nobody too
	forbid  string               // see forbidEnv
	wrap    []string             // a command line to run it by
	shell   string               // before it, in namespaces of its own for mounts
	sysctl  string               // NAME=VALUE while it runs
	another string               // of the target, where it is not the busy loop on this host
	exit    int
}

var circumstances = map[string]circumstance{
	"no CAP_BPF":                      {caps: []process.Capability{process.CapSysPtrace, process.CapPerfmon, process.CapSyslog}},
	"no CAP_PERFMON":                  {caps: []process.Capability{process.CapSysPtrace, process.CapBPF, process.CapSyslog}},
	"neither of them":                 {caps: []process.Capability{process.CapSysPtrace}},
	"no capability, an own process":   {caps: []process.Capability{}, own: true},
	"no CAP_SYS_PTRACE":               {caps: []process.Capability{process.CapBPF, process.CapPerfmon}, exit: exitNotPermitted},
	"no CAP_SYSLOG":                   {caps: []process.Capability{process.CapBPF, process.CapPerfmon, process.CapSysPtrace}},
	"kernel.kptr_restrict 2":          {sysctl: "kernel/kptr_restrict=2"},
	"a kernel without BPF":            {forbid: programs.Refused(unix.ENOSYS, unix.SYS_BPF)},
	"BPF refused by a seccomp filter": {forbid: programs.Refused(unix.EPERM, unix.SYS_BPF)},
	"a kernel without perf events":    {forbid: programs.Refused(unix.ENOSYS, unix.SYS_PERF_EVENT_OPEN), exit: exitFailed},
	"neither BPF nor perf events":     {forbid: programs.Refused(unix.ENOSYS, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN), exit: exitFailed},
	"an unprivileged container": {caps: []process.Capability{}, own: true, exit: exitNotPermitted,
		forbid: programs.Refused(unix.EPERM, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN)},
	"no BTF":                             {shell: "mount -t tmpfs none /sys/kernel/btf"},
	"limit on locked memory, Linux 5.11": {wrap: []string{"prlimit", "--memlock=0", "setpriv", "--bounding-set", "-sys_resource"}},
	"no memory for rings": {caps: []process.Capability{}, own: true, sysctl: "kernel/perf_event_mlock_kb=0",
		wrap: []string{"prlimit", "--memlock=0"}, exit: exitNotPermitted},
	"/proc hides the target":                  {shell: "mount -t proc -o hidepid=2 proc /proc", caps: []process.Capability{process.CapBPF, process.CapPerfmon}, exit: exitNotPermitted},
	"no /proc":                                {shell: "mount -t tmpfs none /proc", exit: exitFailed},
	"another PID namespace":                   {wrap: []string{"unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", targetEnv + `=1 "$0" & "$0" "$@"; code=$?; kill $!; exit $code`}, another: "2"},
	"another PID namespace, the host's PID":   {wrap: []string{"unshare", "--pid", "--fork", "--mount-proc"}, exit: exitFailed},
	"another PID namespace, the host's /proc": {wrap: []string{"unshare", "--pid", "--fork"}},
	"the PID that a container knows":          {another: "container", exit: exitFailed},
}

// srprof doctor tells which sampler would be used, and why.
func TestDoctorTellsTheSampler(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		forbid string
		exit   int
		want   string
	}{
		{programs.Refused(unix.ENOSYS, unix.SYS_BPF), exitOK, `(?m)^limited +sampler +perf events, because eBPF cannot be had: user stacks are walked by frame pointer.*\n +-> eBPF needs Linux 4\.9`},
		{programs.Refused(unix.EPERM, unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN), exitFailed, `(?m)^MISSING +sampler +loading the sampling program is not permitted.*; nor can perf events stand in: `},
	} {
		cmd := command(t, "doctor")
		cmd.Env = append(cmd.Env, forbidEnv+"="+c.forbid)
		if code, text := execute(t, cmd); code != c.exit || !regexp.MustCompile(c.want).MatchString(text) {
			t.Errorf("exit code %d, want %d and %s in\n%s", code, c.exit, c.want, text)
		}
	}
}

// limitsRows are the rows of the table in docs/limits.md: what is missing, and
// the sentence; "" where nothing is said.
func limitsRows(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(b), "\n## What is missing\n")
	if !ok {
		t.Fatal("docs/limits.md has no table of what is missing")
	}
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |\n"), " | ")
		if strings.HasPrefix(line, "## ") {
			break
		}
		if !strings.HasPrefix(line, "| ") || cells[0] == "missing" {
			continue
		}
		if len(cells) == 2 { // nothing is said
			cells = append(cells, "")
		}
		rows[cells[0]] = strings.Trim(cells[2], "` ")
	}
	return rows
}

// elsewhere are the rows that take another kernel: test/vm has them.
const elsewhere = "in a virtual machine: "

// Each row of the table is made real, and the sentence in it is what the user
// gets.
func TestWhatIsMissing(t *testing.T) {
	needRoot(t)
	programs.SetSysctl(t, "kernel/perf_event_paranoid", "2") // Debian has 3, which is a row of its own
	rows := limitsRows(t)
	for name := range circumstances {
		if _, ok := rows[name]; !ok {
			t.Errorf("%q is no row of docs/limits.md", name)
		}
	}
	for name, sentence := range rows {
		c, ok := circumstances[name]
		if strings.HasPrefix(name, elsewhere) {
			continue
		}
		if !ok {
			t.Errorf("the row %q is not tested", name)
			continue
		}
		t.Run(name, func(t *testing.T) { c.test(t, sentence) })
	}
}

func (c *circumstance) test(t *testing.T, sentence string) {
	pid := c.target(t)
	if c.sysctl != "" {
		name, value, _ := strings.Cut(c.sysctl, "=")
		programs.SetSysctl(t, name, value)
	}
	code, text := recordBusy(t, func(d string) (int, string) {
		return execute(t, c.command(t, "record", "--pid", pid, "--duration", d, "--frequency", "199", "--format", "folded", "--output", "x.folded"))
	})
	t.Log(text)
	if code != c.exit {
		t.Errorf("exit code %d, want %d", code, c.exit)
	}
	text = regexp.MustCompile(`\b`+pid+`\b`).ReplaceAllString(text, "4242")
	text = regexp.MustCompile(`process \d+ has this PID`).ReplaceAllString(text, "process 4711 has this PID")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	warnings := lines[:len(lines)-1] // the last one tells what was written
	if code != 0 {
		warnings = lines
	}
	for _, w := range warnings {
		if w = strings.TrimPrefix(w, "srprof: "); !strings.Contains(w, sentence) || sentence == "" {
			t.Errorf("srprof says\n%s\nwant\n%s", w, sentence)
		}
	}
	if len(warnings) == 0 && sentence != "" {
		t.Errorf("srprof says nothing, want\n%s", sentence)
	}
}

// recordBusy records a busy target for longer where others leave it no time.
func recordBusy(t *testing.T, record func(duration string) (code int, text string)) (int, string) {
	t.Helper()
	for d := 500 * time.Millisecond; ; d *= 3 {
		code, text := record(d.String())
		if !strings.Contains(text, "waited for a CPU") || d > 30*time.Second {
			return code, text
		}
		t.Log(text)
	}
}

// target starts what is profiled and returns its PID, as srprof is given it.
func (c *circumstance) target(t *testing.T) string {
	switch {
	case c.another == "container":
		return containerPID(t)
	case c.another != "":
		return c.another
	}
	cmd := command(t)
	cmd.Env = append(cmd.Env, targetEnv+"=1")
	if c.own {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return strconv.Itoa(cmd.Process.Pid)
}

// beTarget spends half of its time in the kernel.
func beTarget() {
	zero, err := os.Open("/dev/zero")
	if err != nil {
		panic(err)
	}
	some, sum := make([]byte, 64<<10), 0
	for {
		if _, err := zero.Read(some); err != nil {
			panic(err)
		}
		for i := 0; i < len(some); i += 32 {
			sum += int(some[i])
		}
	}
}

// containerPID is a PID that exists in a PID namespace below ours only.
func containerPID(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	for pid--; exists(pid); pid-- {
	}
	start(t, fmt.Sprintf("unshare --pid --fork --kill-child --mount-proc sh -c 'echo %d > /proc/sys/kernel/ns_last_pid; sleep 1000; :'", pid-1))
	for len(process.Outside(pid)) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	return strconv.Itoa(pid)
}

func exists(pid int) bool {
	_, err := process.ReadStat(pid)
	return err == nil
}

// command is srprof under the circumstance.
func (c *circumstance) command(t *testing.T, args ...string) *exec.Cmd {
	cmd := command(t, args...)
	if err := os.Chmod(cmd.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if c.forbid != "" {
		cmd.Env = append(cmd.Env, forbidEnv+"="+c.forbid)
	}
	wrap := c.wrap
	if c.shell != "" {
		wrap = append([]string{"unshare", "--mount", "sh", "-c", c.shell + ` && exec "$0" "$@"`}, wrap...)
	}
	if c.caps != nil && c.shell != "" {
		list := "-all"
		for _, capability := range c.caps {
			list += ",+" + strings.ToLower(strings.TrimPrefix(capability.String(), "CAP_"))
		}
		wrap = append(wrap, "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", list, "--ambient-caps", list)
	} else if c.caps != nil {
		var ambient []uintptr
		for _, capability := range c.caps {
			ambient = append(ambient, uintptr(capability))
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: ambient}
	}
	if len(wrap) > 0 {
		path, err := exec.LookPath(wrap[0])
		if err != nil {
			t.Fatal(err)
		}
		cmd.Args = append(append(wrap, filepath.Join(cmd.Dir, "srprof")), args...)
		cmd.Path = path
	}
	return cmd
}
