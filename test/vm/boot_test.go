// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// machine is how an architecture is emulated.
type machine struct {
	qemu    string
	args    []string
	console string
	line    string // on the kernel's command line
}

var machines = map[string]machine{
	// The kernel's check of its timer fails where the emulation gets no CPU at that
	// moment: "IO-APIC + timer doesn't work!"
	"amd64": {"qemu-system-x86_64", []string{"-machine", "q35"}, "ttyS0", "no_timer_check"},
	// The real algorithm of pointer authentication takes most of the time when
	// emulated; any other one shows the same.
	"arm64": {"qemu-system-aarch64", []string{"-machine", "virt", "-cpu", "max,pauth-impdef=on"}, "ttyAMA0", ""},
}

// hangs is how long a machine may run: to see where it hangs, not how fast it
// is.
const hangs = time.Hour

// result is one line of the process inside.
type result struct{ what, name, detail string }

// boot boots a kernel and reports what the process inside found, each check as
// a test of its own.
func boot(t *testing.T, k *kernel, image string) {
	results, console, err := runMachine(t, k, image)
	reportAll(t, results, console, err)
}

// reportAll tells of each check, and of a machine that did not come to an end.
func reportAll(t *testing.T, results []result, console string, err error) {
	done := report(t, results)
	switch {
	case err != nil:
		t.Errorf("%v; the console's end:\n%s", err, console)
	case !done:
		t.Errorf("the machine ended before its checks; the console's end:\n%s", console)
	}
}

// runMachine boots a kernel, with more on its command line, and returns what the
// process inside says.
func runMachine(t *testing.T, k *kernel, image string, more ...string) (results []result, console string, failed error) {
	m := machines[k.arch]
	need(t, m.qemu, compilers[k.arch], "go")
	began := time.Now()
	initrd := initramfsOnce(t, k.arch)
	t.Logf("built in %v", time.Since(began).Round(time.Second))
	return emulate(t, m, image, initrd, 1024, strings.Join(append([]string{commandLine(k, m)}, more...), " "))
}

// emulate lets a machine run to its end.
func emulate(t *testing.T, m machine, image, initrd string, megabytes int, line string) (results []result, console string, failed error) {
	began := time.Now()
	args := []string{
		// One thread for all CPUs: with one for each, QEMU 7.2 goes on at times with a
		// breakpoint that is there no more, which kernels put where they patch
		// themselves or a BPF program, and the kernel dies of it ("Oops: int3"). Two
		// machines at a time use two cores all the same. (With -icount, which would make
		// them independent of our time, one of two CPUs can starve before QEMU 8.1.)
		"-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", strconv.Itoa(megabytes),
		"-kernel", image, "-initrd", initrd, "-append", strings.TrimSpace(line + " " + m.line),
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
	}
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	defer cancel()
	c := exec.CommandContext(ctx, m.qemu, append(args, m.args...)...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = c.Stdout
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	results, console = read(bufio.NewScanner(out))
	err = c.Wait()
	t.Logf("%s ran %v", filepath.Base(image), time.Since(began).Round(time.Second))
	if ctx.Err() != nil {
		err = fmt.Errorf("the machine does not end: %w", ctx.Err())
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", m.qemu, err)
	}
	return results, console, err
}

func commandLine(k *kernel, m machine) string {
	// A panic ends the machine. Of its own accord the kernel says only what is
	// serious, so that it does not write into our lines.
	line := []string{"console=" + m.console, "panic=-1", "loglevel=3"}
	// What the kernel does not know and has no dot becomes the environment of
	// the first process.
	line = append(line, strings.Fields(os.Getenv(moreEnv))...)
	if k.release != "" {
		line = append(line, "SRPROF_VM_RELEASE="+k.release) // see features
	}
	return strings.Join(line, " ")
}

// read takes in the console to its end.
func read(s *bufio.Scanner) (results []result, tail string) {
	const kept = 80
	var last []string
	s.Buffer(nil, 16<<20) // a verifier's log is one line
	for s.Scan() {
		line := strings.TrimRight(s.Text(), "\r")
		if r, ok := parse(line); ok {
			results = append(results, r)
			continue
		}
		if last = append(last, line); len(last) > kept {
			last = last[1:]
		}
	}
	return results, strings.Join(last, "\n")
}

// parse understands a line of the process inside:
//
//	vm: ok|FAIL|log|done NAME "DETAIL"
func parse(line string) (result, bool) {
	_, rest, ok := strings.Cut(line, "vm: ")
	f := strings.SplitN(rest, " ", 3)
	if !ok || len(f) != 3 {
		return result{}, false
	}
	detail, err := strconv.Unquote(f[2])
	return result{f[0], f[1], detail}, err == nil
}

// report tells of each check, and whether the last one was reached.
func report(t *testing.T, results []result) (done bool) {
	logs := map[string][]string{}
	for _, r := range results {
		switch r.what {
		case "log":
			logs[r.name] = append(logs[r.name], r.detail)
		case "done":
			done = true
		default:
			t.Run(r.name, func(t *testing.T) {
				for _, l := range logs[r.name] {
					t.Log(l)
				}
				if r.what != "ok" {
					t.Error(r.detail)
				}
			})
		}
	}
	return done
}

var (
	initramfsLock sync.Mutex
	initramfsDir  string
	initramfsOf   = map[string]string{}
)

// initramfsOnce builds the archive of an architecture once for all its kernels.
func initramfsOnce(t *testing.T, arch string) string {
	initramfsLock.Lock()
	defer initramfsLock.Unlock()
	if path := initramfsOf[arch]; path != "" {
		return path
	}
	path := filepath.Join(initramfsDir, arch+".cpio.gz")
	initramfs(t, arch, path)
	initramfsOf[arch] = path
	return path
}

// TestMain makes the folder that outlives the test which builds an archive.
func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if initramfsDir, err = os.MkdirTemp("", "srprof-vm-*"); err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(initramfsDir)
	return m.Run()
}

// archOf tells a kernel's image from its first bytes: that of amd64 has a
// header "HdrS" (Documentation/arch/x86/boot.rst).
func archOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0x202); err != nil {
		return "", fmt.Errorf("%s is no kernel image: %w", path, err)
	}
	if string(magic) == "HdrS" {
		return "amd64", nil
	}
	return "arm64", nil
}
