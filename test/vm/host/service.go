// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// least is what the unit grants (capabilities(7)): CAP_DAC_READ_SEARCH,
// CAP_SYS_PTRACE, CAP_SYSLOG, CAP_PERFMON, CAP_BPF, CAP_CHECKPOINT_RESTORE.
const (
	least    uint64 = 1<<2 | 1<<19 | 1<<34 | 1<<38 | 1<<39 | 1<<40
	sysAdmin uint64 = 1 << 21
)

func (h *host) start() error {
	if _, err := shell("srprof certs --dir " + certs); err != nil {
		return err
	}
	if _, err := shell("serviceradar-profiler config check && systemctl start serviceradar-profiler"); err != nil {
		return err
	}
	if err := properties(map[string]string{"ActiveState": "active", "SubState": "running", "NRestarts": "0"}); err != nil {
		return err
	}
	return has(property("StatusText"), "listening at")
}

// rights are those of the unit, and not one more.
func (h *host) rights() error {
	return capabilities(least, least)
}

// capabilities compares those of the process, in each of its threads.
func capabilities(held, bounding uint64) error {
	threads, err := filepath.Glob("/proc/" + property("MainPID") + "/task/*/status")
	if err != nil || len(threads) == 0 {
		return fmt.Errorf("%d threads (%v)", len(threads), err)
	}
	id, err := command("id", "-u", user)
	if err != nil {
		return err
	}
	id = strings.TrimSpace(id)
	hex := func(v uint64) string { return fmt.Sprintf("%016x", v) }
	want := map[string]string{"CapInh": hex(0), "CapPrm": hex(held), "CapEff": hex(held), "CapBnd": hex(bounding), "CapAmb": hex(0),
		"NoNewPrivs": "1", "Seccomp": "2", "Uid": strings.Join([]string{id, id, id, id}, "\t")}
	var wrong []error
	for _, thread := range threads {
		b, err := os.ReadFile(thread)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if w, ok := want[name]; ok && strings.TrimSpace(value) != w {
				wrong = append(wrong, fmt.Errorf("%s: %s is %s, want %s", thread, name, strings.TrimSpace(value), w))
			}
		}
	}
	return errors.Join(wrong...)
}

// paranoid: with Debian's default the service is up and says what is missing,
// and what it says helps.
func (h *host) paranoid() error {
	b, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	if err != nil || strings.TrimSpace(string(b)) != "3" {
		return fmt.Errorf("kernel.perf_event_paranoid is %q (%v), no longer Debian's default", b, err)
	}
	if err := h.startTarget(); err != nil {
		return err
	}
	out, err := h.recordFor("1s", "/root/never.folded")
	if err == nil {
		return errors.New("a session ran although nothing may be sampled")
	}
	if err := has(out, "kernel.perf_event_paranoid is 3"); err != nil {
		return err
	}
	log, err := command("journalctl", "-u", unit, "-o", "cat", "--no-pager")
	if err != nil {
		return err
	}
	if err := has(log, `"missing":["CAP_SYS_ADMIN"]`, "kernel.perf_event_paranoid is 3"); err != nil {
		return err
	}
	_, err = shell("install -t /etc/sysctl.d -m 644 " + shared + "/perf-event-paranoid.conf && sysctl -p /etc/sysctl.d/perf-event-paranoid.conf")
	return err
}

// startTarget lets a program run that only its user may read, in a home that
// the service cannot see.
func (h *host) startTarget() error {
	c := exec.Command(target)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ownUser, Gid: ownUser}}
	if err := c.Start(); err != nil {
		return err
	}
	h.pid = c.Process.Pid
	go c.Wait() //nolint:errcheck // it runs until the machine is turned off
	return nil
}

func (h *host) recordFor(duration, to string) (string, error) {
	return command("srprof", "record", "--server", "localhost:50084", "--cert-dir", certs, "--pid", strconv.Itoa(h.pid), "--duration", duration, "--output", to)
}

// record: the service recovers by itself, and names both sides.
func (h *host) record() error {
	var last error
	err := until("a session with the right names", func() bool {
		if _, last = h.recordFor("3s", "/root/web.folded"); last == nil {
			last = rightNames("/root/web.folded")
		}
		return last == nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

// rightNames: nearly all samples name what is known to run, in the target and
// in the kernel, and some are whole. (How many, depends on the machine's load:
// until the tables are in, stacks are fragments.)
func rightNames(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var all, named, whole int
	for line := range bytes.Lines(b) {
		stack, count, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		n, err := strconv.Atoi(count)
		if err != nil || strings.HasPrefix(stack, "#") {
			continue
		}
		all += n
		if !strings.Contains(stack, "sys_read") || strings.Contains(stack, "[kernel]") {
			continue
		}
		named += n
		if strings.Contains(stack, "main;run;sys_read;") && strings.Contains(stack, "vfs_read_[k]") {
			whole += n
		}
	}
	if whole == 0 || named < all*8/10 {
		return fmt.Errorf("%d samples, %d with the right names, %d whole:\n%.3000s", all, named, whole, b)
	}
	return nil
}

func (h *host) reload() error {
	pid := property("MainPID")
	if _, err := shell(`sed -i 's/"max_session_duration_seconds": 300/"max_session_duration_seconds": 200/' ` + config + " && systemctl reload serviceradar-profiler"); err != nil {
		return err
	}
	if err := properties(map[string]string{"ActiveState": "active", "MainPID": pid}); err != nil {
		return err
	}
	if out, err := h.recordFor("250s", "/root/never.folded"); err == nil || !strings.Contains(out, "max_session_duration_seconds") {
		return fmt.Errorf("a session of 250 s after the limit was set to 200 s: %v\n%s", err, out)
	}
	return nil
}

// watchdog: a service that hangs is started anew, and works.
func (h *host) watchdog() error {
	const seconds = "WatchdogSec=6"
	if _, err := shell("mkdir -p /run/systemd/system/serviceradar-profiler.service.d && printf '[Service]\\n" + seconds +
		"\\n' > /run/systemd/system/serviceradar-profiler.service.d/test.conf && systemctl daemon-reload && systemctl restart serviceradar-profiler"); err != nil {
		return err
	}
	pid := property("MainPID")
	time.Sleep(8 * time.Second) // it must not strike while the service lives
	if now := property("MainPID"); now != pid {
		return fmt.Errorf("the watchdog struck a service that lives (%s, now %s)", pid, now)
	}
	if _, err := command("kill", "-STOP", pid); err != nil {
		return err
	}
	if err := until("a new process", func() bool {
		return property("MainPID") != pid && property("ActiveState") == "active"
	}); err != nil {
		return err
	}
	if _, err := shell("rm -r /run/systemd/system/serviceradar-profiler.service.d && systemctl daemon-reload && systemctl restart serviceradar-profiler"); err != nil {
		return err
	}
	_, err := h.recordFor("1s", "/root/again.folded")
	return err
}

// sysAdmin: with the drop-in it works as Debian comes; and where it is not
// needed it is not kept.
func (h *host) sysAdmin() error {
	tried := h.trySysAdmin()
	_, err := shell("rm -r /etc/systemd/system/serviceradar-profiler.service.d && systemctl daemon-reload && sysctl -w kernel.perf_event_paranoid=2 && systemctl restart serviceradar-profiler")
	return errors.Join(tried, err)
}

func (h *host) trySysAdmin() error {
	if _, err := shell("install -D -t /etc/systemd/system/serviceradar-profiler.service.d " + shared + "/sys-admin.conf && systemctl daemon-reload && systemctl restart serviceradar-profiler"); err != nil {
		return err
	}
	if err := capabilities(least, least|sysAdmin); err != nil {
		return fmt.Errorf("not needed: %w", err)
	}
	if _, err := shell("rm /etc/sysctl.d/perf-event-paranoid.conf && sysctl -w kernel.perf_event_paranoid=3 && systemctl restart serviceradar-profiler"); err != nil {
		return err
	}
	if err := capabilities(least|sysAdmin, least|sysAdmin); err != nil {
		return fmt.Errorf("needed: %w", err)
	}
	return h.record()
}
