// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/contexts"
	"github.com/carverauto/serviceradar-profiler/session"
)

// hot is a program to be stripped: its name is found in debug files alone.
const hot = "static volatile unsigned long sink; int main(void) { for (;;) sink++; }"

// stripped builds it into dir, with its debug file in a folder there.
func stripped(t *testing.T, dir string) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil && os.Getenv("SRPROF_REQUIRE_ALL") == "" {
		t.Skip("gcc is missing: apt-get install gcc: ", err)
	}
	c := exec.Command("sh", "-ec", `mkdir debug && echo "$1" | gcc -x c -g -o hot - && objcopy --only-keep-debug hot debug/hot && strip -s hot`, "sh", hot)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "hot")
}

// reader does what a reader of the README does: in a directory with the
// configuration that stands there, one command after the other.
type reader struct {
	dir     string
	pid     string
	address string // in place of localhost and the usual port, which may be taken
	session string // that was started last
	service string // the program
}

// exampleSession stands in the README for the ID of a session.
const exampleSession = "3f2a9c1e"

// TestREADME does it, but for the PID and, so that nobody waits, the duration.
func TestREADME(t *testing.T) {
	needRoot(t)
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{dir: t.TempDir(), address: freeAddress(t)}
	r.pid = strconv.Itoa(start(t, stripped(t, r.dir)))
	r.service = filepath.Join(r.dir, "serviceradar-profiler")
	build := exec.Command("go", "build", "-o", r.service, "../serviceradar-profiler")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.configure(t, string(b))
	run := 0
	for line := range strings.Lines(string(b)) {
		text, _, _ := strings.Cut(line, "#")
		f := strings.Fields(strings.TrimPrefix(text, "sudo "))
		switch {
		case len(f) > 1 && f[0] == "bin/srprof" && f[1] != "up": // test/up has that
			r.run(t, f[1:])
			run++
		case len(f) > 1 && f[0] == "bin/serviceradar-profiler":
			r.serve(t, f[1:])
			run++
		}
	}
	if run < 18 {
		t.Errorf("ran %d commands of the README, want at least 18", run)
	}
	for _, name := range []string{"flame.svg", "web.html", "web.pb.gz", "found.svg", "web.svg", "hot.svg"} {
		if _, err := os.Stat(filepath.Join(r.dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// configure writes the configuration that stands in the README.
func (r *reader) configure(t *testing.T, readme string) {
	t.Helper()
	_, text, _ := strings.Cut(readme, "```json\n")
	text, _, ok := strings.Cut(text, "```")
	if !ok {
		t.Fatal("there is no configuration in the README")
	}
	text = strings.Replace(text, "localhost:50084", r.address, 1)
	if err := os.WriteFile(filepath.Join(r.dir, "profiler.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *reader) run(t *testing.T, args []string) {
	t.Helper()
	typed := strings.Join(args, " ")
	if args[0] == "record" || args[0] == "start" || args[0] == "run" {
		args = append(args, "--duration", "1s")
	}
	for i := range args {
		switch args[i] {
		case "4242":
			args[i] = r.pid
		case exampleSession:
			args[i] = r.session[:len(exampleSession)]
		case "localhost":
			args[i] = r.address
		}
	}
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), mainEnv+"=1", contexts.ServerVariable+"="+r.address, contexts.CertDirVariable+"=certs")
	c.Dir = r.dir
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Errorf("%s: %v\n%s%s", typed, err, out, &stderr)
	}
	if args[0] == "start" {
		if r.session = strings.TrimSpace(string(out)); len(r.session) != len(session.NewID()) {
			t.Fatalf("srprof start prints %q", out)
		}
	}
}

// serve runs the service for the rest of the test.
func (r *reader) serve(t *testing.T, args []string) {
	t.Helper()
	c := exec.Command(r.service, args...)
	c.Dir = r.dir
	var log strings.Builder
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("the service ends with %v:\n%s", err, &log)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) { // only for when it never answers
		conn, err := net.Dial("tcp", r.address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// freeAddress is one that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "localhost:" + port
}
