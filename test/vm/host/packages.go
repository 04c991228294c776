// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// boot waits until systemd has started all that it will, without a failure.
func (h *host) boot() error {
	if err := until("the end of booting", func() bool {
		out, _ := command("systemctl", "list-jobs", "--no-legend") // told again if it cannot
		return strings.Count(out, "\n") <= 2                       // this unit itself, and who waits for it
	}); err != nil {
		return err
	}
	failed, err := command("systemctl", "list-units", "--failed", "--no-legend", "--plain")
	if err == nil && failed != "" {
		say("log", "boot", "failed before we began: "+failed)
	}
	if err == nil {
		h.before, err = files()
	}
	return err
}

// files are those that a package or a service could leave behind.
func files() (map[string]bool, error) {
	all := map[string]bool{}
	for _, root := range []string{"/etc", "/usr", "/lib/systemd", "/var/lib", "/var/cache", "/var/tmp", "/var/log", "/tmp", "/run"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil {
				all[path] = true
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// theirs are files of those who install, log and start things.
func theirs(path string) bool {
	for _, prefix := range []string{"/var/lib/dpkg/", "/var/log/journal/", "/var/log/dpkg.log", "/run/systemd/", "/run/log/", "/run/dpkg",
		"/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-", "/etc/.pwd.lock", "/run/lock", "/tmp/systemd-private-", "/var/tmp/systemd-private-", "/run/user"} {
		if strings.HasPrefix(path, prefix) && !strings.Contains(path, "serviceradar") && !strings.Contains(path, "srprof") {
			return true
		}
	}
	return false
}

func deb(name string) string { return filepath.Join(debs, name+".deb") }

// install: the packages go in without certificates, and say what comes next.
func (h *host) install() error {
	out, err := command("dpkg", "-i", deb("srprof"), deb("old"))
	if err != nil {
		return err
	}
	if err := has(out, "starts when it has certificates", "[certificate_missing]", "perf_event_paranoid is 3"); err != nil {
		return err
	}
	if err := properties(map[string]string{"ActiveState": "inactive", "Result": "success", "UnitFileState": "enabled", "LoadState": "loaded"}); err != nil {
		return err
	}
	info, err := command("stat", "-c", "%A %U:%G", config)
	if err == nil && strings.TrimSpace(info) != "-rw-r----- root:"+user {
		err = fmt.Errorf("%s: %s", config, info)
	}
	if err != nil {
		return err
	}
	out, err = command("systemd-analyze", "verify", "--man=no", unit+".service")
	if err == nil && strings.Contains(out, unit+".service:") {
		err = errors.New(out)
	}
	return err
}

// startWithoutCertificates fails at once, with a reason, and is not tried again.
func (h *host) startWithoutCertificates() error {
	if _, err := command("systemctl", "start", unit); err == nil {
		return errors.New("it started without certificates")
	}
	if err := properties(map[string]string{"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "2", "NRestarts": "0"}); err != nil {
		return err
	}
	out, err := command("journalctl", "-u", unit, "-o", "cat", "--no-pager")
	if err != nil {
		return err
	}
	return has(out, certs+"/profiler.pem", "[certificate_missing]")
}

// upgrade: the running session ends early, and whoever asked gets its profile.
func (h *host) upgrade() error {
	c := exec.Command("srprof", "record", "--server", "localhost:50084", "--cert-dir", certs, "--pid", strconv.Itoa(h.pid), "--duration", "150s", "--output", "/root/upgrade.folded")
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		return err
	}
	if err := until("a session with samples", func() bool {
		out, err := command("srprof", "list", "--server", "localhost:50084", "--cert-dir", certs)
		return err == nil && strings.Contains(out, "running")
	}); err != nil {
		return fmt.Errorf("%w: %s", err, &said)
	}
	old, pid := property("MainPID"), h.pid
	out, err := command("dpkg", "-i", deb("new"))
	if err != nil {
		return err
	}
	ended := c.Wait()
	if err := rightNames("/root/upgrade.folded"); err != nil {
		return fmt.Errorf("profile of the session that was cut short: %w\nsrprof: %v: %s", err, ended, &said)
	}
	if property("MainPID") == old || pid != h.pid {
		return fmt.Errorf("it was not restarted:\n%s", out)
	}
	if err := properties(map[string]string{"ActiveState": "active", "UnitFileState": "enabled"}); err != nil {
		return err
	}
	b, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	if err := has(string(b), `"max_session_duration_seconds": 200`); err != nil {
		return fmt.Errorf("the configuration did not stay: %w", err)
	}
	version, err := command("serviceradar-profiler", "--version")
	if err != nil {
		return err
	}
	return has(version, "9.9.9")
}

func (h *host) stopAndStart() error {
	if _, err := command("systemctl", "stop", unit); err != nil {
		return err
	}
	if err := properties(map[string]string{"ActiveState": "inactive", "Result": "success"}); err != nil {
		return err
	}
	if left, err := filepath.Glob("/var/tmp/systemd-private-*-serviceradar*"); err != nil || len(left) > 0 {
		return fmt.Errorf("left behind: %v (%v)", left, err)
	}
	if _, err := command("systemctl", "start", unit); err != nil {
		return err
	}
	_, err := h.recordFor("1s", "/root/last.folded")
	return err
}

// journal: no line is an error but those that were meant to be.
func (h *host) journal() error {
	out, err := command("journalctl", "-u", unit, "-o", "cat", "--no-pager")
	if err != nil {
		return err
	}
	var wrong []string
	for line := range strings.Lines(out) {
		switch {
		case strings.Contains(line, "perf_event_paranoid is 3"), strings.Contains(line, "[certificate_missing]"):
		case strings.Contains(line, `"level":"error"`), strings.Contains(line, "panic"), strings.Contains(line, "Operation not permitted"):
			wrong = append(wrong, line)
		}
	}
	kernel, err := command("journalctl", "-k", "-o", "cat", "--no-pager", "--grep", "serviceradar|type=1326|BUG:|Oops:")
	if err == nil { // it is 1 where nothing was found
		wrong = append(wrong, kernel)
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, ""))
	}
	return nil
}

// removeAndInstall: removed, it is gone but for its configuration; installed
// again it starts with that.
func (h *host) removeAndInstall() error {
	if _, err := command("dpkg", "-r", unit); err != nil {
		return err
	}
	if out, err := command("pgrep", "-x", "serviceradar-pro"); err == nil {
		return fmt.Errorf("it runs on: %s", out)
	}
	if _, err := os.Stat(config); err != nil {
		return fmt.Errorf("removing took the configuration: %w", err)
	}
	if _, err := os.Stat("/usr/bin/serviceradar-profiler"); err == nil {
		return errors.New("the program is still there")
	}
	if _, err := command("dpkg", "-i", deb("new")); err != nil {
		return err
	}
	return properties(map[string]string{"ActiveState": "active", "UnitFileState": "enabled"})
}

// purge leaves nothing.
func (h *host) purge() error {
	if _, err := command("rm", "-r", certs); err != nil { // the administrator's own
		return err
	}
	if _, err := command("dpkg", "-P", unit, "srprof"); err != nil {
		return err
	}
	after, err := files()
	if err != nil {
		return err
	}
	var left []string
	for path := range after {
		if !h.before[path] && !theirs(path) {
			left = append(left, path)
		}
	}
	slices.Sort(left)
	if len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, " "))
	}
	if out, err := command("getent", "passwd", user); err == nil {
		return fmt.Errorf("its user is left: %s", out)
	}
	failed, err := command("systemctl", "list-units", "--all", "--no-legend", "--plain", "serviceradar*")
	if err == nil && failed != "" {
		err = fmt.Errorf("systemd still knows it: %s", failed)
	}
	return err
}
