// SPDX-License-Identifier: Apache-2.0

// Command init is the first and only service of a virtual machine that package
// test/vm boots. It finds out what its kernel can do, records programs with
// known stacks and holds the profiles against them, says on the console what
// it found, one line a result, and turns the machine off.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "this is the first process of a test's virtual machine and of use nowhere else")
		os.Exit(2)
	}
	if os.Getenv(mounted) == "" {
		restart()
	}
	for _, c := range checks() {
		began := time.Now()
		details, err := c.run()
		details += fmt.Sprintf("in %v\n", time.Since(began).Round(100*time.Millisecond))
		for line := range strings.Lines(details) {
			say("log", c.name, strings.TrimSuffix(line, "\n"))
		}
		if err == nil {
			say("ok", c.name, "")
			continue
		}
		say("FAIL", c.name, explain(err))
		if c.first {
			say("log", "all", "the other checks were not tried")
			break
		}
	}
	say("done", "all", "")
	turnOff()
}

// mounted in the environment says that the file systems are there.
const mounted = "SRPROF_VM_MOUNTED"

// restart mounts what every other process finds mounted and begins anew:
// libraries look at /proc before main runs, and keep what they did not find.
func restart() {
	for _, m := range []struct{ kind, at string }{
		{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"},
		{"securityfs", "/sys/kernel/security"}, {"tracefs", "/sys/kernel/tracing"},
	} {
		_ = os.MkdirAll(m.at, 0o755) // of sysfs it cannot be made, and is there or not
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !optional(m.kind) {
			say("FAIL", "init", fmt.Sprintf("mount %s: %v", m.at, err))
			turnOff()
		}
	}
	env := append(os.Environ(), mounted+"=1", "PATH=/bin", "HOME=/tmp")
	err := unix.Exec("/init", []string{"/init"}, env)
	say("FAIL", "init", fmt.Sprintf("start again: %v", err))
	turnOff()
}

func optional(kind string) bool { return kind == "securityfs" || kind == "tracefs" }

// say prints one line for the test outside, see its parse.
func say(what, name, detail string) {
	fmt.Printf("vm: %s %s %s\n", what, strings.ReplaceAll(name, " ", "_"), strconv.QuoteToASCII(detail))
}

// turnOff ends the machine: QEMU is told to end where a machine would restart.
func turnOff() {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		fmt.Println("turn off:", err)
	}
	select {} // the test outside ends it in its time
}
