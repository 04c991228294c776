// SPDX-License-Identifier: Apache-2.0

// Command host is started by systemd in a virtual machine that package test/vm
// boots: a Debian as it comes, on which it installs our packages, uses the
// service, upgrades and removes it as an administrator would. It says on the
// console what it found, one line a result, and turns the machine off.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

func main() {
	if _, err := os.Stat(debs); err != nil {
		fmt.Fprintln(os.Stderr, "this is part of a test's virtual machine and of use nowhere else")
		os.Exit(2)
	}
	h := &host{}
	for _, c := range h.checks() {
		began := time.Now()
		err := c.run()
		say("log", c.name, fmt.Sprintf("in %v", time.Since(began).Round(100*time.Millisecond)))
		if err == nil {
			say("ok", c.name, "")
			continue
		}
		say("FAIL", c.name, err.Error())
		if out, err := command("journalctl", "-u", unit, "-n", "30", "--no-pager", "-o", "cat"); err == nil {
			for line := range strings.Lines(out) {
				say("log", c.name, strings.TrimSuffix(line, "\n"))
			}
		}
		if c.first {
			say("log", "all", "the other checks were not tried")
			break
		}
	}
	say("done", "all", "")
	if _, err := command("systemctl", "--no-block", "reboot"); err != nil {
		fmt.Println(err)
	}
}

// say prints one line for the test outside, see its parse.
func say(what, name, detail string) {
	fmt.Printf("vm: %s %s %s\n", what, strings.ReplaceAll(name, " ", "_"), strconv.QuoteToASCII(detail))
}

// Where the test outside has put things, and what they are called.
const (
	debs    = "/srprof-vm/debs"
	target  = "/home/app/bin/syscalls"
	unit    = "serviceradar-profiler"
	user    = "serviceradar-profiler"
	config  = "/etc/serviceradar/profiler.json"
	certs   = "/etc/serviceradar/certs"
	shared  = "/usr/share/serviceradar-profiler"
	ownUser = 2000 // of the target
)

// hangs is how long something may take: to see that it never comes, not how
// fast it is.
const hangs = 3 * time.Minute

// check is one of the things that are found out. They build upon one another.
type check struct {
	name  string
	first bool // without it there is no use in going on
	run   func() error
}

// host is the machine, with what one check leaves to the next.
type host struct {
	before map[string]bool // the files that were there
	pid    int             // of the target
}

func (h *host) checks() []check {
	return []check{
		{"boot", true, h.boot},
		{"install", true, h.install},
		{"start without certificates", false, h.startWithoutCertificates},
		{"start", true, h.start},
		{"rights", false, h.rights},
		{"Debian's perf_event_paranoid", false, h.paranoid},
		{"record", false, h.record},
		{"reload", false, h.reload},
		{"watchdog", false, h.watchdog},
		{"CAP_SYS_ADMIN by drop-in", false, h.sysAdmin},
		{"upgrade while a session runs", false, h.upgrade},
		{"stop and start", false, h.stopAndStart},
		{"runbook", false, h.runbook},
		{"journal", false, h.journal},
		{"agent", false, h.agent},
		{"poller", false, h.poller},
		{"without agent and poller", false, h.withoutAgentAndPoller},
		{"remove and install again", false, h.removeAndInstall},
		{"purge", false, h.purge},
	}
}

// command runs a program and returns what it printed; the error has that too.
func command(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// shell is for what an administrator is told to type.
func shell(script string) (string, error) { return command("/bin/sh", "-ec", script) }

// property is one of the unit's, as systemd has it.
func property(name string) string {
	out, err := command("systemctl", "show", unit, "--property="+name, "--value")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(out)
}

// properties are compared with what they should be.
func properties(want map[string]string) error {
	var wrong []error
	for name, w := range want {
		if got := property(name); got != w {
			wrong = append(wrong, fmt.Errorf("%s is %q, want %q", name, got, w))
		}
	}
	return errors.Join(wrong...)
}

// until waits for what is to come.
func until(what string, come func() bool) error {
	for deadline := time.Now().Add(hangs); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if come() {
			return nil
		}
	}
	return fmt.Errorf("%s does not come", what)
}

// has makes an error of a text that lacks something.
func has(text string, all ...string) error {
	for _, want := range all {
		if !strings.Contains(text, want) {
			return fmt.Errorf("want %q in:\n%s", want, text)
		}
	}
	return nil
}
